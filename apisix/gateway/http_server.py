# SPDX-License-Identifier: Apache-2.0
"""Serve the gateway over HTTP: pass requests to it, and report each one when it has finished."""

import asyncio
import ipaddress
import logging
import time
from contextlib import suppress

from multidict import CIMultiDict

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, page_answer
from apisix.gateway.http.http1 import CLIENT_CLOSED, BadRequest, Request
from apisix.gateway.http.listener import HttpListener, OnSent
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.report import RequestReport
from apisix.gateway.server import Gateway

logger = logging.getLogger(__name__)

TRUSTED_ADDRESSES = frozenset({"127.0.0.1"})
"""Source: `real_ip_from` in APISIX's default configuration."""


class HttpServer:
    """
    Serves a gateway over HTTP/1.

    Args:
        announced_port: the value of `server_port` and X-Forwarded-Port; the bound port if None.
        version: the release in the header `Server`.
    """

    def __init__(self, gateway: Gateway, *, announced_port: int | None = None, version: str = "3.18.0") -> None:
        self._gateway = gateway
        self._announced_port = announced_port
        self._listener = HttpListener(self, f"APISIX/{version}")
        self._finishing: set[asyncio.Task[None]] = set()

    async def bind(self, host: str, port: int) -> int:
        """
        Bind a port and return it; 0 binds any free port. Connections are accepted after `serve`.

        Raises: OSError: the port is taken.
        """
        bound = await self._listener.bind(host, port)
        self._announced_port = self._announced_port or bound
        return bound

    async def serve(self) -> None:
        """Start to accept connections. Raise OSError if another process has taken the port since `bind`."""
        await self._listener.serve()

    async def stop(self) -> None:
        """Close the listener, and cancel requests that are still in progress after a second."""
        await self._listener.stop()
        await asyncio.gather(*self._finishing)

    async def answer(self, request: Request) -> tuple[Answer, OnSent]:
        """Send a request through the gateway. Raise BadRequest if nginx refuses its target."""
        try:
            context = self._context(request)
        except uris.BadTarget as error:
            raise BadRequest(400, "the path contains a NUL, does not begin with a slash, or leads above the root", request.line) from error
        try:
            answer, report = await self._gateway.answer(context)
        except Exception:
            logger.exception("%s: an error in the development gateway itself", request.line)
            answer, report = page_answer(500), RequestReport(request.method, request.target, 500)
            report.error = "an error in the development gateway itself"
        request.rest = context.rest
        return answer, lambda is_taken: self._finish(context.started, report, is_taken=is_taken)

    def refuse(self, error: BadRequest) -> tuple[Answer, OnSent]:
        """Answer with nginx's page."""
        method, _, target = error.line.partition(" ")
        report = RequestReport(method or "-", target or "-", error.status, error=str(error))
        started = time.time()
        return page_answer(error.status), lambda is_taken: self._finish(started, report, is_taken=is_taken)

    def _finish(self, started: float, report: RequestReport, *, is_taken: bool) -> None:
        if not is_taken:
            gone = f"the client closed the connection before it received the response, which had status {report.status}"
            report.error = gone if report.error is None else f"{gone}; {report.error}"
            report.status = CLIENT_CLOSED
        # Not awaited, so that the next request on the connection does not wait for this report.
        report.duration_s = time.time() - started
        task = asyncio.create_task(self._gateway.finish(report))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    def _context(self, request: Request) -> RequestContext:
        return RequestContext(
            method=request.method,
            target=request.target,
            headers=CIMultiDict(request.fields),
            body=request.body,
            remote_addr=_real_address(request),
            remote_port=request.peer[1],
            server_port=self._announced_port or 0,
            protocol=f"HTTP/{request.version[0]}.{request.version[1]}",
            head_bytes=request.head_bytes,
        )


def _real_address(request: Request) -> str:
    """Return the client's address, which a client on this machine may set by X-Real-IP. Source: `real_ip_header` in APISIX's nginx.conf."""
    given = request.values("x-real-ip")
    if given and request.peer[0] in TRUSTED_ADDRESSES:
        with suppress(ValueError):
            return str(ipaddress.ip_address(given[-1]))
    return request.peer[0]
