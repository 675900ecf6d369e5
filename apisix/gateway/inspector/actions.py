# SPDX-License-Identifier: Apache-2.0
"""Send a request again, as it was or edited, and run it through the plugins as they are now."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from multidict import CIMultiDict

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, StreamFailed
from apisix.gateway.inspector.flows import Kept, flow_of
from apisix.gateway.inspector.server import ApiError, Inspector
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.report import RequestReport
from apisix.gateway.resources.admin import PREFIX
from apisix.gateway.server import Gateway


class Edited(msgspec.Struct, forbid_unknown_fields=True):
    """A request to send instead of the original one. What is None stays as it was. Digests are replaced by the secrets again."""

    method: str | None = None
    target: str | None = None
    headers: list[tuple[str, str]] | None = None
    body: str | None = None


class Actions:
    """
    Adds `send` and `rerun` to the API of an inspector.

    Args: port: the port of the gateway, for the variable `server_port`.
    """

    def __init__(self, inspector: Inspector, gateway: Gateway, port: int) -> None:
        self._inspector = inspector
        self._gateway = gateway
        self._port = port
        inspector.add_call("POST", "/api/flows/{id}/send", self._send)
        inspector.add_call("POST", "/api/flows/{id}/rerun", self._rerun)

    async def _send(self, values: Mapping[str, str], body: Any) -> object:
        """Send a request through the gateway, which adds it to the list. Return its id."""
        kept = self._inspector.kept(values["id"])
        try:
            edited = msgspec.convert(body or {}, Edited)
        except msgspec.ValidationError as error:
            raise ApiError(400, str(error)) from None
        report = await self._answered(self._context(kept.report, kept.secrets, edited))
        await self._gateway.finish(report)
        return {"id": self._inspector.flows.id_of(report)}

    async def _rerun(self, values: Mapping[str, str], body: Any) -> object:
        """Run a request through the plugins as they are now. Return it as it was and as it would be now."""
        kept = self._inspector.kept(values["id"])
        return {"before": kept.flow, "after": (await self.run_again(kept)).flow}

    async def run_again(self, kept: Kept) -> Kept:
        """
        Run a request through the plugins as they are now, and return it as it would be now.

        The upstream does not receive it again: its response is the one from before.

        Raises: ApiError: that is not possible, for example because its body was not kept.
        """
        context = self._context(kept.report, kept.secrets, Edited())
        if f"{context.uri}/".startswith(f"{PREFIX}/"):
            raise ApiError(409, "a request to the admin API does not run through plugins, and would change the routes again")
        context.recorded_upstreams = kept.report.upstreams
        report = await self._answered(context)
        await self._gateway.complete(report)
        flow, secrets = flow_of(report, kept.flow.id)
        return Kept(flow, report, secrets)

    def _context(self, report: RequestReport, secrets: Mapping[str, str], edited: Edited) -> RequestContext:
        received = report.received
        if edited.body is None and received.is_truncated:
            raise ApiError(409, f"only the first {len(received.body)} bytes of the body were kept, so it can't be sent again")
        pairs = received.headers if edited.headers is None else _restored(edited.headers, secrets)
        headers: CIMultiDict[str] = CIMultiDict(pairs)
        body = received.body
        if edited.body is not None:
            body = _with_secrets(edited.body, secrets).encode("utf-8", "surrogateescape")
            headers.popall("transfer-encoding", None)
            if body or "content-length" in headers:
                headers["Content-Length"] = str(len(body))
        try:
            return RequestContext(
                method=edited.method or report.method,
                target=_with_secrets(edited.target or report.target, secrets),
                headers=headers,
                body=body,
                remote_addr=report.remote_addr or "127.0.0.1",
                remote_port=0,
                server_port=self._port,
                protocol=report.protocol,
            )
        except uris.BadTarget as error:
            raise ApiError(400, "the path must begin with a slash, contain no NUL, and not lead above the root") from error

    async def _answered(self, context: RequestContext) -> RequestReport:
        """Return the report of a request whose answer was read to its end."""
        answer, report = await self._gateway.answer(context)
        await _read(answer)
        report.duration_s = time.time() - context.started
        return report


async def _read(answer: Answer) -> None:
    if not isinstance(answer.body, bytes):
        try:
            async for _ in answer.body:
                pass
        except StreamFailed as error:
            raise ApiError(502, str(error)) from error


def _restored(pairs: Sequence[tuple[str, str]], secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, _with_secrets(value, secrets)) for name, value in pairs]


def _with_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """Replace digests by the secrets."""
    for digest, secret in secrets.items():
        text = text.replace(digest, secret)
    return text
