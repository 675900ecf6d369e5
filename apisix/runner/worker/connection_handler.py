# SPDX-License-Identifier: Apache-2.0
"""The connections of a worker: read bytes, run calls, write bytes."""

import asyncio
import contextvars
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from apisix.runner import primitives
from apisix.runner.call.engine import CallRunner
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.forked import end_forked
from apisix.runner.wire.call_messages import CallReq
from apisix.runner.wire.connection import Connection, Role
from apisix.runner.wire.info_messages import ExtraInfoResp
from apisix.runner.wire.messages import ErrResp, PrepareConfReq, PrepareConfResp
from apisix.runner.wire.tables import Message
from apisix.runner.worker.context import Context

connection_logger = logging.getLogger("apisix.runner.worker.connection_handler")

BUFFER_BYTES: Final = 65536
"""How much is read at once, into a buffer that all connections share. Most frames are much shorter, and are copied out of it."""
_BUFFER: Final = bytearray(BUFFER_BYTES)
PIECE_BYTES: Final = 262144
"""How much of a longer frame is read at once: about as much as fits into the socket buffers of the system."""

LOOK_AGAIN_S = 0.01
"""How often, while the connections are closed, to check connections on which data has just arrived, in seconds."""


def _log_lost(error: OSError) -> None:
    """Log the error of a socket, unless it means that the gateway hung up."""
    if not isinstance(error, BrokenPipeError | ConnectionResetError):
        connection_logger.error("a connection is closed, because its socket failed: %s", error.strerror or error)


def has_unread(sock: socket.socket) -> bool:
    """Return whether unread data, or the end of the connection, has arrived."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


class ConnectionHandler(ReplySink):
    """One connection of the gateway."""

    __slots__ = ("_call_runner", "_connection", "_descriptor", "_ending", "_handlers", "_held", "_socket", "_unsent")

    def __init__(self, handlers: "ConnectionHandlers", sock: socket.socket) -> None:
        self._handlers = handlers
        self._connection = Connection(Role.RUNNER)
        self._call_runner = CallRunner(handlers.context.runtime, self)
        self._socket: socket.socket | None = sock
        self._descriptor = sock.fileno()
        self._unsent = bytearray()  # data that the socket did not accept
        self._held = False  # whether buffered bytes of this connection are counted
        self._ending = False  # whether the connection is closed once that is sent

    @property
    def idle(self) -> bool:
        """Whether the connection is between calls: no frame is incomplete, no data is unsent, and no reply is due."""
        return not self._call_runner.busy and self._connection.idle and self._socket is not None and not self._unsent and not self._ending

    # Called by the event loop.

    def on_readable(self) -> None:
        """Called when the socket has data, has reached its end or has failed."""
        try:
            if self._handlers.on_activity is not None:
                self._handlers.wake()
            self._read()
        except Exception:
            self._fail()

    def on_writable(self) -> None:
        """Called when the socket accepts data again, while there is unsent data."""
        try:
            self._flush()
        except Exception:
            self._fail()

    def watch(self, reading: bool, writing: bool) -> None:
        """Let the event loop call `on_readable`, `on_writable` or both, until this is called again."""
        loop = self._handlers.loop
        # The event loop keeps the current context for the callbacks. It may be the context of a call, and would be kept alive.
        run = self._handlers.base_context.run
        if reading:
            run(loop.add_reader, self._descriptor, self.on_readable)
        if writing:
            run(loop.add_writer, self._descriptor, self.on_writable)
        if not reading:
            loop.remove_reader(self._descriptor)
        if not writing:
            loop.remove_writer(self._descriptor)

    def _fail(self) -> None:
        connection_logger.exception("a connection is closed because of a defect of the runner")
        self.cut()

    def _read(self) -> None:
        """Read what has arrived, and handle each message that is now complete."""
        sock = self._socket
        if sock is None or self._ending:
            return
        connection = self._connection
        buffer = _BUFFER
        data: bytes | None = None
        try:
            if connection.decoder.missing_bytes < BUFFER_BYTES:
                size = primitives.receive_into(sock, self._descriptor, buffer)
            else:
                data = primitives.receive(sock, self._descriptor, PIECE_BYTES)
                size = -1 if data is None else len(data)
        except OSError as error:
            _log_lost(error)
            size = 0
        if size == 0:
            self._call_runner.log_hang_up()
            self._end("the gateway hung up")
        elif size > 0:
            try:
                if data is None:
                    connection.decoder.feed_buffer(buffer, size)
                else:
                    connection.decoder.feed(data)
                self._handle()
            except RemoteProtocolError as error:
                self._refuse(error)
            if self._held or connection.decoder.incomplete or connection.decoder.may_have_more:
                self._count_held()

    def _flush(self) -> None:
        """Send more of the bytes that the socket did not accept before."""
        sock = self._socket
        if sock is None:
            return
        try:
            del self._unsent[: primitives.send(sock, self._descriptor, self._unsent)]
        except OSError as error:
            _log_lost(error)
            self._forget("the gateway hung up")
            return
        self._count_held()
        if not self._unsent:
            if self._ending:
                self._forget()
                return
            self.watch(True, False)
            try:
                self._handle()  # messages that arrived before the gateway read the reply
            except RemoteProtocolError as error:
                self._refuse(error)
            if self._held:
                self._count_held()
            if self._handlers.on_idle is not None:
                self._handlers.wrote(self)

    # The interface of the call runner.

    def send(self, message: Message) -> None:
        """Send a message. Raise LocalProtocolError, and send nothing, if it cannot be encoded."""
        self._write(self._connection.send(message))
        if self._handlers.on_idle is not None:
            self._handlers.wrote(self)

    def send_all(self, messages: Sequence[Message]) -> None:
        """Send one or more messages in one write, so that the gateway wakes up once."""
        frames = self._connection.send(messages[0])
        for message in messages[1:]:
            frames += self._connection.send(message)
        self._write(frames)

    def broken(self, error: RemoteProtocolError) -> None:
        """Close the connection after unsent data is sent, because the peer broke the protocol."""
        connection_logger.warning("the peer broke the protocol, so its connection is closed: %s", error)
        self._end("the peer broke the protocol")

    def give_up(self, reason: str) -> None:
        """Close the connection after unsent data is sent, because a call on it cannot get a reply."""
        self._end(reason)

    # Closing and handing over.

    def release(self) -> socket.socket | None:
        """Stop serving this connection, which must be idle, and return its socket for another process. Return None if it is closed."""
        sock = self._socket
        if sock is not None:
            self._leave("the connection goes to another worker")
        return sock

    def finish(self) -> bool:
        """
        Close the connection if it is idle and there is no unread data.

        If the gateway has already sent a call, it gets the reply first. If it sends one later, the system reports an error to it.

        Returns: whether the connection is being closed.
        """
        if not self.idle or self._socket is None or has_unread(self._socket):
            return False
        with suppress(OSError):  # it is already closed, which the next read detects
            self._socket.shutdown(socket.SHUT_RD)  # data that has arrived since is still read before the end
        return True

    def cut(self) -> None:
        """Close the connection, whatever its state."""
        self._forget("the runner is stopping")

    def abandon(self) -> None:
        """Close the descriptor in a child of this process, which must not write to the gateway."""
        sock = self._socket
        if sock is not None:
            self._socket = None
            sock.close()

    def abort(self, reason: str) -> None:
        """Close the connection because it has buffered bytes for too long."""
        self._forget(reason)

    def _handle(self) -> None:
        connection = self._connection
        decoder = connection.decoder
        while (
            decoder.may_have_more and self._socket is not None and not self._ending and (not self._unsent or self._info_replies_expected())
        ):
            message = connection.next_event()
            if isinstance(message, CallReq):
                self._call_runner.start(message)
            elif isinstance(message, ExtraInfoResp):
                self._call_runner.receive_info(message.result)
            elif isinstance(message, PrepareConfReq):
                configuration = RouteConfiguration(message.key, tuple(message.conf))
                self._handlers.context.preparations.add(configuration, partial(self._prepared, configuration))
                break  # messages that follow wait for the reply

    def _prepared(self, configuration: RouteConfiguration, reply: PrepareConfResp | ErrResp) -> None:
        if isinstance(reply, PrepareConfResp):
            self._handlers.context.runtime.chains.received(reply.conf_token, configuration)
        if self._socket is not None:
            self.send(reply)
            try:
                self._handle()  # messages that followed the PrepareConf
            except RemoteProtocolError as error:
                self._refuse(error)
            if self._held:
                self._count_held()

    def _refuse(self, error: RemoteProtocolError) -> None:
        self.send(ErrResp(error.err_code))
        self.broken(error)

    def _write(self, data: bytearray) -> None:
        """Send as much as the socket accepts, and keep the rest. `data` belongs to this handler from now on."""
        sock = self._socket
        if sock is None or self._ending:
            return
        sent = 0
        if not self._unsent:
            try:
                sent = primitives.send(sock, self._descriptor, data)
            except OSError as error:
                _log_lost(error)
                # The gateway hung up, or the system is out of memory. The rest of the data must not be sent without this part.
                self._ending = True
                self._handlers.end_soon(self)  # not now: the current greenlet may belong to this connection
                return
        if sent < len(data):
            del data[:sent]  # without a copy
            if self._unsent:
                self._unsent += data
            else:
                self._unsent = data  # not a copy: it may be as large as a body
            # Do not read from a gateway that does not read replies, because each further call would add one more unsent reply.
            self.watch(self._info_replies_expected(), True)
            self._count_held()

    def _info_replies_expected(self) -> bool:
        """
        Return whether the gateway may be sending info replies. If so, its data is read even if it does not read.

        It sends an info reply before it reads the next info request. If neither side read, both would wait for each other.
        """
        return self._call_runner.busy

    def _end(self, reason: str) -> None:
        """End the call in progress now, and close the connection after unsent data is sent."""
        self._ending = True
        self._connection.decoder.clear()
        self._call_runner.close(reason)
        if not self._unsent:
            self._forget(reason)
        elif self._socket is not None:
            self._count_held()
            # Stop reading: the end of the stream would be reported again and again.
            self.watch(False, True)

    def _forget(self, reason: str = "") -> None:
        sock = self._socket
        if sock is not None:
            self._leave(reason)
            sock.close()
            self._handlers.closed(self)

    def _leave(self, reason: str) -> None:
        """Stop using the socket."""
        self.watch(False, False)
        self._socket = None
        # Free memory now, not when the garbage collector finds the cycle of connection and greenlet.
        self._unsent = bytearray()
        self._connection.decoder.clear()
        self._count_held()
        self._call_runner.close(reason)

    def _count_held(self) -> None:
        """Count the bytes of incomplete frames and unsent data."""
        unsent = len(self._unsent)
        size = unsent + self._connection.decoder.buffered_bytes
        self._held = size > 0
        self._handlers.context.held.update(self, size, sending=unsent > 0)

    def lost(self) -> None:
        """Close the connection after a write failed."""
        if self._socket is not None:
            self._call_runner.log_hang_up()
            self._forget("the gateway hung up")


class ConnectionHandlers:
    """
    All connections of a worker.

    Attributes:
        context: the state that their calls share.
        loop: the event loop, which watches their sockets.
        base_context: the context in which the loop calls the handlers of the connections, outside any call.
        on_idle: called, while draining, when a connection has become idle, so that `release_idle` finds it.
        on_activity: called and reset to None, while it is set, when something arrives on a connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self.loop = loop
        self.base_context = contextvars.copy_context()
        self._open: set[ConnectionHandler] = set()
        self.context = context
        self.on_idle: Callable[[], None] | None = None
        self.on_activity: Callable[[], None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """How many calls are waiting for something."""
        return self.context.runtime.in_flight

    @property
    def calls(self) -> int:
        """How many calls have finished."""
        return self.context.runtime.calls

    async def adopt(self, sock: socket.socket) -> None:
        """Serve an accepted connection. `sock` must be non-blocking, and belongs to its handler from now on."""
        await self.context.metadata.wait_for_predecessor()
        handler = ConnectionHandler(self, sock)
        handler.watch(True, False)
        self._open.add(handler)

    def release_idle(self, limit: int | None = None) -> list[socket.socket]:
        """Stop serving (up to `limit`) connections that are between calls, and return their sockets. Call it again for the rest."""
        released = []
        for handler in [handler for handler in self._open if handler.idle][:limit]:
            handed_over = handler.release()
            if handed_over is not None:
                self._open.discard(handler)
                released.append(handed_over)
        return released

    def abandon(self) -> None:
        """Close what belongs to the worker, in a child process that a plugin has forked, and let the child exit after the hook."""
        self.context.runtime.forked = True
        for handler in self._open:
            handler.abandon()
        self.context.store.abandon()
        # A hook that is a coroutine returns to the event loop, whose descriptors belong to the worker too.
        self.loop.call_soon(end_forked, None)

    async def close(self, timeout_s: float) -> None:
        """Wait for up to `timeout_s` seconds until the calls in progress finish. Then close all connections and the plugins."""
        deadline_s = self.loop.time() + timeout_s
        closing: set[ConnectionHandler] = set()
        while self._open and (left_s := deadline_s - self.loop.time()) > 0:
            closing.update(handler for handler in self._open - closing if handler.finish())
            settled = self.loop.create_future()
            self.on_idle = lambda settled=settled: None if settled.done() else settled.set_result(None)
            await asyncio.wait([settled], timeout=min(left_s, LOOK_AGAIN_S))
        self.on_idle = None
        for handler in list(self._open):
            handler.cut()
        await self.context.close()

    def wake(self) -> None:
        """Call `on_activity` once, before any code of a plugin runs."""
        on_activity, self.on_activity = self.on_activity, None
        if on_activity is not None:
            on_activity()

    def wrote(self, handler: ConnectionHandler) -> None:
        """Called when a handler has sent data, which may have been its reply."""
        if handler.idle:
            # Not now: the current greenlet may belong to the handler that will be released.
            self.loop.call_soon(self._notify_idle)

    def end_soon(self, handler: ConnectionHandler) -> None:
        """Close a connection that cannot be written to, in the next iteration of the event loop."""
        self.loop.call_soon(handler.lost)

    def closed(self, handler: ConnectionHandler) -> None:
        """Called when a connection was closed."""
        self._open.discard(handler)
        self._notify_idle()

    def _notify_idle(self) -> None:
        if self.on_idle is not None:
            self.on_idle()
