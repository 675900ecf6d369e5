# SPDX-License-Identifier: Apache-2.0
"""
The gateway's HTTP side, on aiohttp's low-level server.

Requests are taken with their raw header bytes and raw target. Responses write their own head: aiohttp's would encode values as UTF-8,
reorder fields and cut a body to a wrong content-length, which the real gateway passes on.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from apisix.gateway import uris
from apisix.gateway.exchange import Answer, Exchange, page_answer
from apisix.gateway.report import RequestReport
from apisix.gateway.server import Gateway
from apisix.gateway.upstream import UpstreamFailed

logger = logging.getLogger(__name__)

_REASONS = {status.value: status.phrase for status in HTTPStatus}

OnSent = Callable[[], None]


class HttpServer:
    """
    Serves a gateway over HTTP/1.

    Args: announced_port: what `server_port` and X-Forwarded-Port say, where it is not the port listened on. version: what `Server` says.
    """

    def __init__(self, gateway: Gateway, *, announced_port: int | None = None, version: str = "3.18") -> None:
        self._gateway = gateway
        self._product = f"APISIX/{version}.0"
        self._announced_port = announced_port
        self._runner: web.ServerRunner | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """
        Listen, and return the port (any free one where 0 was asked for).

        Raises: OSError: the port is taken.
        """
        # Bodies stay compressed as they came, and nginx, not aiohttp, decides what is logged.
        server = web.Server(self._handle, access_log=None, auto_decompress=False)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        self._announced_port = self._announced_port or bound
        return bound

    async def stop(self) -> None:
        """Close the listener, let requests under way end within a second, then cancel them."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await asyncio.gather(*self._finishing)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            exchange = await self._exchange(request)
        except uris.BadTarget:
            return RawResponse(page_answer(None, 400), self._product)
        try:
            answer, report = await self._gateway.answer(exchange)
        except Exception:
            logger.exception("%s %s: a defect of the development gateway itself", exchange.method, exchange.target)
            return RawResponse(page_answer(None, 500), self._product)
        return RawResponse(answer, self._product, lambda: self._finish(exchange, report))

    def _finish(self, exchange: Exchange, report: RequestReport) -> None:
        # Not awaited: the next request on the connection need not wait until this one is told.
        report.duration_s = time.time() - exchange.started
        task = asyncio.create_task(self._gateway.finish(report))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _exchange(self, request: web.BaseRequest) -> Exchange:
        headers: CIMultiDict[str] = CIMultiDict()
        head_bytes = len(f"{request.method}  HTTP/1.1\r\n") + len(uris.encode(request.raw_path)) + 2
        for name, value in request.raw_headers:
            headers.add(uris.decode(name), uris.decode(value))
            head_bytes += len(name) + len(value) + len(": \r\n")
        if headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer = request.transport.get_extra_info("peername") if request.transport else None
        return Exchange(
            method=request.method,
            target=request.raw_path,
            headers=headers,
            body=await request.content.read(),
            remote_addr=peer[0] if peer else "127.0.0.1",
            remote_port=peer[1] if peer else 0,
            server_port=self._announced_port or 0,
            protocol=f"HTTP/{request.version.major}.{request.version.minor}",
            head_bytes=head_bytes,
        )


class RawResponse(web.StreamResponse):
    """A response that is written as it stands: order, case and bytes of the header fields are the caller's."""

    def __init__(self, answer: Answer, product: str, on_sent: OnSent | None = None) -> None:
        super().__init__(status=200)
        self._answer = answer
        self._product = product
        self._on_sent = on_sent
        self._writer_used: AbstractStreamWriter | None = None
        self._keeps_alive = True

    @property
    def keep_alive(self) -> bool | None:
        """Whether aiohttp may wait for a further request on the connection."""
        return self._keeps_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write head and body."""
        if self._writer_used is not None:
            return self._writer_used
        writer = self._writer_used = request.writer
        chunked = self._frame(request)
        try:
            await writer.write(_head(self._answer, self._product, chunked=chunked, keep_alive=self._keeps_alive))
            if chunked:
                writer.enable_chunking()
            await self._write_body(writer, has_body=request.method != "HEAD" and self._answer.status not in (204, 304))
        except UpstreamFailed as error:
            # The head is out already: all that can be done is to end before the end, as nginx does.
            logger.warning("%s", error)
            if request.transport is not None:
                request.transport.close()
        finally:
            # Also where the client has gone.
            if self._on_sent is not None:
                self._on_sent()
        return writer

    async def _write_body(self, writer: AbstractStreamWriter, *, has_body: bool) -> None:
        body = self._answer.body
        if isinstance(body, bytes):
            if body and has_body:
                await writer.write(body)
            return
        async with aclosing(body):
            async for piece in body:
                if has_body:
                    await writer.write(piece)

    async def write_eof(self, data: bytes = b"") -> None:
        """End the body."""
        if self._writer_used is not None:
            await self._writer_used.write_eof()

    def _frame(self, request: web.BaseRequest) -> bool:
        """Decide how the body's end is told, and return whether by chunks."""
        self._keeps_alive = request.keep_alive
        if "content-length" in self._answer.headers or self._answer.status in (204, 304):
            return False
        if request.version < (1, 1):
            self._keeps_alive = False
            return False
        return True


def _head(answer: Answer, product: str, *, chunked: bool, keep_alive: bool) -> bytes:
    reason = _REASONS.get(answer.status, "")
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    if "date" not in answer.headers:
        lines.append(f"Date: {formatdate(usegmt=True)}")
    # nginx writes these first where it knows them itself; in other case they are a plugin's, and keep their place.
    first = [entry for entry in answer.headers.items() if entry[0] in ("Content-Type", "Content-Length")]
    rest = [entry for entry in answer.headers.items() if entry not in first]
    framing = [("Transfer-Encoding", "chunked")] if chunked else []
    connection = [("Connection", "keep-alive" if keep_alive else "close")]
    lines += [f"{name}: {_one_line(value)}" for name, value in [*first, *framing, *connection, *rest]]
    if "server" not in answer.headers:
        lines.append(f"Server: {product}")
    return uris.encode("\r\n".join([*lines, "", ""]))


def _one_line(value: str) -> str:
    """Escape what would end the line, as ngx.header does."""
    return value.replace("\r", "%0D").replace("\n", "%0A") if "\r" in value or "\n" in value else value
