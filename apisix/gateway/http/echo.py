# SPDX-License-Identifier: Apache-2.0
"""An upstream that answers each request with a description of it, which shows the edits of plugins."""

import json

from multidict import CIMultiDict

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, page_answer
from apisix.gateway.http.http1 import BadRequest, Request
from apisix.gateway.http.listener import HttpListener


class EchoUpstream:
    """Answers any path with JSON: method, path, args, headers, body and origin, as httpbin does."""

    def __init__(self) -> None:
        self._listener = HttpListener(self, "echo")

    async def bind(self, host: str, port: int) -> int:
        """
        Bind a port and return it; 0 binds any free port. Connections are accepted after `serve`.

        Raises: OSError: the port is taken.
        """
        return await self._listener.bind(host, port)

    async def serve(self) -> None:
        """Start to accept connections. Raise OSError if another process has taken the port since `bind`."""
        await self._listener.serve()

    async def stop(self) -> None:
        """Close the listener and all connections."""
        await self._listener.stop()

    async def answer(self, request: Request) -> tuple[Answer, None]:
        """Answer with a description of the request."""
        body = _seen(request)
        return Answer(200, CIMultiDict({"Content-Type": "application/json", "Content-Length": str(len(body))}), body), None

    def refuse(self, error: BadRequest) -> tuple[Answer, None]:
        """Answer with a page."""
        return page_answer(error.status), None


def _seen(request: Request) -> bytes:
    path, query = uris.split_target(request.target)
    headers: dict[str, list[str]] = {}
    for name, value in request.fields:
        headers.setdefault(_shown(name), []).append(_shown(value))
    shown = {
        "method": request.method,
        "path": _shown(path),
        "args": {_shown(name): _plain([_shown(value or "") for value in values]) for name, values in uris.parse_args(query or "").items()},
        "headers": {name: _plain(values) for name, values in headers.items()},
        "body": _shown(uris.decode(request.body)),
        "body_bytes": len(request.body),
        "origin": request.peer[0],
        "url": f"http://{_shown(next(iter(request.values('host')), ''))}{_shown(request.target)}",
    }
    return json.dumps(shown, indent=2, ensure_ascii=False).encode() + b"\n"


def _shown(text: str) -> str:
    """Return text in which bytes that are not UTF-8 are written as `\\xff`, because JSON can't represent them."""
    return uris.encode(text).decode(errors="backslashreplace")


def _plain(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values
