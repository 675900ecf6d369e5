# SPDX-License-Identifier: Apache-2.0
"""An upstream that answers any request with what it saw of it, so that a plugin's edits can be looked at."""

import json

from aiohttp import web

from apisix.gateway import uris


class EchoUpstream:
    """Serves JSON with method, path, args, headers, body and origin, as httpbin does, for any path."""

    def __init__(self) -> None:
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """
        Listen, and return the port (any free one where 0 was asked for).

        Raises: OSError: the port is taken.
        """
        self._runner = web.ServerRunner(
            web.Server(_echo, access_log=None, auto_decompress=False), handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def _echo(request: web.BaseRequest) -> web.StreamResponse:
    path, query = uris.split_target(request.raw_path)
    body = await request.content.read()
    headers: dict[str, list[str]] = {}
    for name, value in request.raw_headers:
        headers.setdefault(_shown(name), []).append(_shown(value))
    shown = {
        "method": request.method,
        "path": _shown(uris.encode(path)),
        "args": {
            _shown(uris.encode(name)): _plain([_shown(uris.encode(value or "")) for value in values])
            for name, values in uris.parse_args(query or "").items()
        },
        "headers": {name: _plain(values) for name, values in headers.items()},
        "body": _shown(body),
        "body_bytes": len(body),
        "origin": request.remote,
        "url": f"http://{request.host}{_shown(uris.encode(request.raw_path))}",
    }
    text = json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
    return web.Response(body=text.encode(), content_type="application/json")


def _shown(octets: bytes) -> str:
    """Return bytes as text; what is no UTF-8 as `\\xff`, for JSON has no other way."""
    return octets.decode(errors="backslashreplace")


def _plain(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values
