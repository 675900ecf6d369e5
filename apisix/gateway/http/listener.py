# SPDX-License-Identifier: Apache-2.0
"""
An HTTP/1 server that writes responses unchanged.

No HTTP library is used, because they encode values as UTF-8, reorder fields, truncate a body to a wrong content-length, and refuse some
bytes in a target. The real gateway does none of this.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, StreamFailed
from apisix.gateway.http.http1 import BadRequest, ClientGone, Request, read_body, read_head
from apisix.gateway.http.pages import CLOSES_CONNECTION

logger = logging.getLogger(__name__)

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_BUFFER_BYTES = 64 * 1024

# How long a client may take to send a header, and be idle. Source: client_header_timeout and keepalive_timeout of APISIX.
IDLE_S = 60.0
# How long data from a refused client is read and discarded. Closing at once could discard the answer too.
LINGER_S = 1.0
# How long requests in progress may continue when the server stops.
STOP_S = 1.0

# How often, and at which intervals, to check whether a client that closed its side of the connection still reads.
GONE_LOOKS = 10
GONE_INTERVAL_S = 0.01

# Called with True if the client received the answer, with False if it closed the connection before.
OnSent = Callable[[bool], None]


class Handler(Protocol):
    """Handles requests."""

    def answer(self, request: Request) -> Awaitable[tuple[Answer, OnSent | None]]:
        """Return the answer to a request, and a callback for when it has been sent or could not be sent. Raise BadRequest."""

    def refuse(self, error: BadRequest) -> tuple[Answer, OnSent | None]:
        """Return the answer to an invalid request. The connection is closed after it."""


class HttpListener:
    """
    Serves HTTP/1 on a port.

    Args: handler: handles the requests. product: the value of `Server`.
    """

    def __init__(self, handler: Handler, product: str) -> None:
        self._handler = handler
        self._product = product
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._joins: set[asyncio.Task[None]] = set()

    async def bind(self, host: str, port: int) -> int:
        """
        Bind a port and return it; 0 binds any free port. Connections are accepted after `serve`.

        Raises: OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._serve, host, port, limit=_BUFFER_BYTES, start_serving=False)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def serve(self) -> None:
        """Start to accept connections. Raise OSError if another process has taken the port since `bind`."""
        assert self._server is not None  # noqa: S101  # bind comes first
        await self._server.start_serving()

    async def stop(self) -> None:
        """Close the listener and idle connections, and cancel requests that are still in progress after a second."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._connections - self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=STOP_S)
        tasks = [*self._connections, *self._joins]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio's streams run this in a task
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # Also for cancellation: Python 3.11 logs a cancelled connection task as an error.
        with suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
            try:
                following: asyncio.StreamReader | None = reader
                while following is not None and self._server is not None:
                    following = await self._serve_one(following, writer, task)
            finally:
                self._busy.discard(task)
                writer.close()

    async def _serve_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> asyncio.StreamReader | None:
        """Read and answer one request. Return the reader for the next one, None if the connection ends."""
        try:
            async with asyncio.timeout(IDLE_S):
                request = await read_head(reader)
            if request is None:
                return None
            self._busy.add(task)
            if request.expects_continue:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.body = await read_body(reader, request)
            request.peer = writer.get_extra_info("peername")[:2]
            answer, on_sent = await self._handler.answer(request)
        except ClientGone as error:
            _, on_sent = self._handler.refuse(error)
            if on_sent is not None:
                on_sent(True)  # its report contains the outcome already
            return None
        except BadRequest as error:
            self._busy.add(task)
            answer, on_sent = self._handler.refuse(error)
            await self._send(reader, writer, None, answer, on_sent)
            await _linger(reader, writer)
            return None
        try:
            keeps_alive = await self._send(reader, writer, request, answer, on_sent)
            self._busy.discard(task)
            if answer.tunnel is not None:
                await answer.tunnel.relay(reader, writer)
                return None
        finally:
            if answer.tunnel is not None:
                answer.tunnel.close()  # also if the client has gone
        if not keeps_alive:
            return None
        return self._with_rest(request.rest, reader) if request.rest else reader

    def _with_rest(self, rest: bytes, reader: asyncio.StreamReader) -> asyncio.StreamReader:
        """Return a reader of the rest of a body, followed by the data that the client sends after it."""
        joined = asyncio.StreamReader(limit=_BUFFER_BYTES)
        joined.feed_data(rest)

        async def join() -> None:
            try:
                while data := await reader.read(_BUFFER_BYTES):
                    joined.feed_data(data)
            except OSError:
                pass  # the client has closed the connection, which ends the stream
            finally:
                joined.feed_eof()

        task = asyncio.create_task(join())
        self._joins.add(task)
        task.add_done_callback(self._joins.discard)
        return joined

    async def _send(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Request | None,
        answer: Answer,
        on_sent: OnSent | None,
    ) -> bool:
        """Write an answer, and return whether the connection can be used again."""
        if answer.status in CLOSES_CONNECTION and not answer.from_upstream:
            if on_sent is not None:
                on_sent(True)
            return False
        keeps_alive = request is not None and request.keeps_alive and self._server is not None
        has_length = "content-length" in answer.headers or answer.status in (204, 304) or answer.tunnel is not None
        chunked = not has_length and (request is None or request.version >= (1, 1))
        keeps_alive = keeps_alive and (has_length or chunked)
        has_body = (request is None or request.method != "HEAD") and answer.status not in (204, 304)
        # Only if it was closed before the first byte: as in nginx, a status that was sent is not changed by what the client does later.
        is_taken = not (writer.is_closing() or reader.at_eof())
        try:
            writer.write(_head(answer, self._product, chunked=chunked, keep_alive=keeps_alive))
            await _write_body(writer, answer, has_body=has_body, chunked=chunked)
            await writer.drain()
            is_taken = is_taken or not await _refuses_answer(writer)
        except StreamFailed as error:
            # The head has been sent already, so the connection is closed early, as nginx does.
            logger.warning("%s", error)
            return False
        finally:
            # Also if the client has closed the connection.
            if on_sent is not None:
                on_sent(is_taken)
        return keeps_alive


async def _write_body(writer: asyncio.StreamWriter, answer: Answer, *, has_body: bool, chunked: bool) -> None:
    def write(piece: bytes) -> None:
        if piece and has_body:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)

    if isinstance(answer.body, bytes):
        write(answer.body)
    else:
        async with aclosing(answer.body) as pieces:
            async for piece in pieces:
                write(piece)
                await writer.drain()
    if chunked and has_body:
        writer.write(b"0\r\n\r\n")


async def _refuses_answer(writer: asyncio.StreamWriter) -> bool:
    """
    Return whether a client that has closed its side of the connection does not read answers either.

    A client that closed only its side, as `nc -N` does, still waits for the answer. If it closed the whole connection, its system
    rejects the data that is written, and the socket reports this a moment later.
    """
    connection: socket.socket = writer.get_extra_info("socket")
    for _ in range(GONE_LOOKS):
        if writer.is_closing() or connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        await asyncio.sleep(GONE_INTERVAL_S)
    return False


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(LINGER_S):
        while await reader.read(_BUFFER_BYTES):
            pass


def _head(answer: Answer, product: str, *, chunked: bool, keep_alive: bool) -> bytes:
    reason = _REASONS.get(answer.status, "")
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    if answer.has_date and "date" not in answer.headers:
        lines.append(f"Date: {formatdate(usegmt=True)}")
    # nginx writes these first if it generates them. Names in another case come from a plugin and keep their position.
    first = [entry for entry in answer.headers.items() if entry[0] in ("Content-Type", "Content-Length")]
    rest = [entry for entry in answer.headers.items() if entry not in first and entry[0].lower() not in ("server", "connection")]
    framing = [("Transfer-Encoding", "chunked")] if chunked else []
    connection = [("Connection", "upgrade" if answer.tunnel is not None else "keep-alive" if keep_alive else "close")]
    lines += [f"{name}: {_one_line(value)}" for name, value in [*first, *framing, *connection, *rest]]
    lines.append(f"Server: {product}")
    return uris.encode("\r\n".join([*lines, "", ""]))


def _one_line(value: str) -> str:
    """Escape line ends, as ngx.header does."""
    return value.replace("\r", "%0D").replace("\n", "%0A") if "\r" in value or "\n" in value else value
