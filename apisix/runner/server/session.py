# SPDX-License-Identifier: Apache-2.0
"""The connections of a worker: bytes in, calls run, bytes out."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

from apisix.runner.call.chains import Chains
from apisix.runner.call.conversation import Conversation
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import ThreadPool
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.plugin.registry import Registry
from apisix.runner.server.conf_store import ConfStore
from apisix.runner.server.effects_log import log_effects
from apisix.runner.server.preparations import Preparations
from apisix.runner.server.sockets import borrowed, has_unread
from apisix.runner.settings import Settings
from apisix.runner.wire.calls import HTTPReqCallReq, HTTPRespCallReq
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import ErrResp, ExtraInfoResp, PrepareConfReq, PrepareConfResp

logger = logging.getLogger(__name__)

RENEWALS = 10
"""How many times within a configuration's lifetime its use is noted in the store. Source: design, 6."""

LOOK_AGAIN_S = 0.01
"""How often, while the connections are closed, to look at those on which something has just arrived, in seconds."""


class Context:
    """What the sessions of a worker need: the store of configurations and what their calls share."""

    def __init__(self, store: ConfStore, runtime: Runtime) -> None:
        self.store = store
        self.runtime = runtime
        self.preparations = Preparations(store, runtime.loop)
        self.background: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run `coroutine` in the background; a task that nobody holds would be collected."""
        task = self.runtime.loop.create_task(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def close(self) -> None:
        """Close the plugins, the idle threads and the store."""
        await self.runtime.chains.close()
        self.runtime.stalls.close()
        self.runtime.threads.close()
        self.store.close()


def make_context(settings: Settings, registry: Registry, store: ConfStore, loop: asyncio.AbstractEventLoop) -> Context:
    """Build what a worker's calls share from its settings. To be called in the worker, after the fork."""
    chains = Chains(
        registry,
        store,
        capacity=settings.chain_cache_entries,
        renew_s=settings.conf_expire_s / RENEWALS,
        setup_timeout_s=settings.plugin_timeout_s,
        spawn=lambda coroutine: context.spawn(coroutine),
    )
    runtime = Runtime(
        loop=loop,
        chains=chains,
        threads=ThreadPool(settings.blocking_threads),
        plugin_timeout_s=settings.plugin_timeout_s,
        max_in_flight=settings.max_in_flight,
        on_error=settings.on_error,
        max_decompressed_bytes=settings.max_decompressed_bytes,
        observer=log_effects if settings.log_effects else None,
    )
    runtime.stalls.watch()
    context = Context(store, runtime)
    return context


class Session:
    """
    One connection of the gateway, an asyncio.Protocol.

    It does not derive from that class, so that it can be compiled to one in C.
    """

    __slots__ = ("_connection", "_context", "_conversation", "_sessions", "_transport")

    def __init__(self, sessions: "Sessions") -> None:
        self._sessions = sessions
        self._context = sessions.context
        self._connection = Connection(Role.RUNNER)
        self._conversation = Conversation(self._context.runtime, self._send, self._send_all, self._break)
        self._transport: asyncio.Transport | None = None

    @property
    def idle(self) -> bool:
        """Whether the connection is between calls, with nothing half read, half written or unanswered."""
        transport = self._transport
        return (
            self._conversation.call is None
            and self._connection.idle
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin. Source: asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._sessions.opened(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes off the socket and handle each message that is now whole. Source: asyncio.Protocol."""
        connection = self._connection
        try:
            connection.receive_data(data)
            while self._transport is not None:
                message = connection.next_event()
                if message is NEED_DATA:
                    break
                if isinstance(message, (HTTPReqCallReq, HTTPRespCallReq)):
                    self._conversation.start(message)
                elif isinstance(message, ExtraInfoResp):
                    self._conversation.answer(message.result)
                elif isinstance(message, PrepareConfReq):
                    self._context.preparations.add(message.key, message.conf, self._prepared)
                    break  # what follows in the same packet waits for the answer
        except RemoteProtocolError as error:
            self._send(ErrResp(error.err_code))
            self._break(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End. A call that still runs is cancelled: nobody waits for it. Source: asyncio.Protocol."""
        self._transport = None
        self._conversation.close("the gateway hung up")
        self._sessions.closed(self)

    def eof_received(self) -> None:
        """Let the transport close: a gateway that has ended its half takes no reply. Source: asyncio.Protocol."""

    def pause_writing(self) -> None:
        """Go on: a gateway that does not read its reply sends no further call. Source: asyncio.Protocol."""

    def resume_writing(self) -> None:
        """Do nothing, as in `pause_writing`. Source: asyncio.Protocol."""

    def release(self) -> socket.socket | None:
        """
        Stop serving this connection, which must be idle, and return its socket for another process to go on.

        Returns: None where there is no descriptor left for that: the connection stays here.
        """
        transport = self._transport
        if transport is None:
            return None
        try:
            # The transport owns its descriptor and closes it; closing one of two does not end the connection.
            handed_over = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError as error:
            logger.error("a connection can't go to another worker yet: %s", error.strerror)
            return None
        transport.pause_reading()
        self._transport = None
        transport.abort()
        self._conversation.close("the connection goes to another worker")
        return handed_over

    def finish(self) -> bool:
        """
        Close the connection if it is idle and nothing waits to be read.

        Who has sent a call by now is answered first; who sends one later is told by the system that nobody reads it.

        Returns: whether it closes now.
        """
        if not self.idle or self._transport is None:
            return False
        with borrowed(self._transport.get_extra_info("socket").fileno()) as sock:
            if has_unread(sock):
                return False
            sock.shutdown(socket.SHUT_RD)  # what came since is still read and, where it need not wait, answered; then comes the end
        return True

    def cut(self) -> None:
        """Close the connection whatever it is doing."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._conversation.close("the runner is stopping")

    def _send(self, message: Any) -> None:
        frame = self._connection.send(message)
        if self._transport is not None:
            self._transport.write(frame)
            if self._sessions.on_idle is not None:
                self._sessions.wrote(self)

    def _send_all(self, messages: Sequence[Any]) -> None:
        frames = [self._connection.send(message) for message in messages]
        if self._transport is not None:
            self._transport.write(b"".join(frames))  # one write, so that the gateway wakes up once

    def _prepared(self, answer: PrepareConfResp | ErrResp) -> None:
        if self._transport is not None:
            self._send(answer)
            self.data_received(b"")  # what came behind it

    def _break(self, error: RemoteProtocolError) -> None:
        logger.warning("the peer broke the protocol, its connection is closed: %s", error)
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._conversation.close("the peer broke the protocol")


class Sessions:
    """
    All connections of a worker.

    Attributes:
        context: what their calls share.
        on_idle: called, while draining, when a connection has become idle, so that `release_idle` finds it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._loop = loop
        self._open: set[Session] = set()
        self.context = context
        self.on_idle: Callable[[], None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """How many calls wait for something now."""
        return self.context.runtime.in_flight

    @property
    def calls(self) -> int:
        """How many calls were answered."""
        return self.context.runtime.calls

    async def adopt(self, sock: socket.socket) -> None:
        """Serve an accepted connection. `sock` must be non-blocking and belongs to the loop from now on."""
        await self._loop.connect_accepted_socket(lambda: cast("asyncio.Protocol", Session(self)), sock)

    def release_idle(self, limit: int | None = None) -> list[socket.socket]:
        """Stop serving (up to `limit`) connections that are between calls, and return their sockets. To be called again for the rest."""
        released = []
        for session in [session for session in self._open if session.idle][:limit]:
            handed_over = session.release()
            if handed_over is not None:
                self._open.discard(session)
                released.append(handed_over)
        return released

    async def close(self, timeout_s: float) -> None:
        """Let running calls end, for up to `timeout_s` seconds, then cut all connections and close the plugins."""
        deadline_s = self._loop.time() + timeout_s
        closing: set[Session] = set()
        while self._open and (left_s := deadline_s - self._loop.time()) > 0:
            closing.update(session for session in self._open - closing if session.finish())
            settled = self._loop.create_future()
            self.on_idle = lambda settled=settled: None if settled.done() else settled.set_result(None)
            await asyncio.wait([settled], timeout=min(left_s, LOOK_AGAIN_S))
        self.on_idle = None
        for session in list(self._open):
            session.cut()
        await self.context.close()

    def opened(self, session: Session) -> None:
        """Take note of a new connection."""
        self._open.add(session)

    def wrote(self, session: Session) -> None:
        """Take note that a session has sent something, perhaps its reply."""
        if session.idle:
            # Soon, not now: we may be in the greenlet of the very session that is to be released.
            self._loop.call_soon(self._tell_idle)

    def closed(self, session: Session) -> None:
        """Take note that a connection is gone."""
        self._open.discard(session)
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self.on_idle is not None:
            self.on_idle()
