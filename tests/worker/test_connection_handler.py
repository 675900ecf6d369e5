# SPDX-License-Identifier: Apache-2.0
"""Connections of a worker: how they are handed over and closed. Calls are tested through a real process, in tests/integration."""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from apisix.compiled import why_pure
from apisix.runner import primitives
from apisix.runner.conf_store.store import ConfStore, choose_path
from apisix.runner.errors import ErrCode, RemoteProtocolError
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.settings.loading import load
from apisix.runner.wire.connection import Connection, Role
from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, PrepareConfReq
from apisix.runner.worker import connection_handler
from apisix.runner.worker.connection_handler import ConnectionHandler, ConnectionHandlers
from apisix.runner.worker.context import make_context
from apisix.runner.worker.held_bytes import HeldBytes

BOUND_S = 10.0
REFUSAL = b"\x00"
"""The type of an error frame, because the token of these calls is unknown."""


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop of a worker, and the one of the standard library."""
    loop = request.param()
    yield loop
    loop.close()


@pytest.fixture
def handlers(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Iterator[ConnectionHandlers]:
    """The connections of a worker without plugins."""
    store = ConfStore(choose_path(tmp_path / "runner.sock", None), expire_s=60, max_entries=10)
    handlers = ConnectionHandlers(loop, make_context(load(None, {}, {}), Registry.load((), ()), store, loop))
    yield handlers
    loop.run_until_complete(handlers.close(0))


def connect(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> socket.socket:
    """Return the gateway's end of a connection that is served."""
    ours, theirs = socket.socketpair()
    ours.settimeout(BOUND_S)
    theirs.setblocking(False)
    loop.run_until_complete(handlers.adopt(theirs))
    return ours


async def turn(loop: asyncio.AbstractEventLoop, end: socket.socket) -> bytes:
    """Run the event loop until data arrives."""
    end.setblocking(False)
    return await asyncio.wait_for(loop.sock_recv(end, 1 << 16), BOUND_S)


async def until_busy(handlers: ConnectionHandlers) -> None:
    """Run the event loop until a connection is no longer idle."""
    while all(handler.idle for handler in handlers._open):  # noqa: ASYNC110  # a handler does not signal that it has begun to read
        await asyncio.sleep(0)


def test_a_released_connection_can_be_served_elsewhere(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """The released socket is the connection itself. The peer notices nothing, and its data can be read from the socket."""
    with connect(loop, handlers) as gateway:
        (released,) = handlers.release_idle()
        with released:
            assert handlers.connections == 0
            loop.run_until_complete(asyncio.sleep(0))
            gateway.sendall(b"still there")
            released.settimeout(BOUND_S)
            assert released.recv(100) == b"still there"


def test_a_call_that_waits_is_not_released(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A connection with an incomplete frame is not released."""
    with connect(loop, handlers) as gateway:
        frame = Connection(Role.GATEWAY).send(PrepareConfReq())
        gateway.sendall(frame[:7])
        loop.run_until_complete(asyncio.wait_for(until_busy(handlers), BOUND_S))
        assert handlers.release_idle() == []
        gateway.sendall(frame[7:])
        assert loop.run_until_complete(turn(loop, gateway))
        (released,) = handlers.release_idle()
        released.close()


def test_a_defect_closes_one_connection(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the runner's own code is logged and closes its connection. The other connections are served."""

    def fail(*arguments: object) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(handlers.context.preparations, "add", fail)
    with connect(loop, handlers) as first, connect(loop, handlers) as second:
        first.sendall(Connection(Role.GATEWAY).send(PrepareConfReq()))
        second.sendall(Connection(Role.GATEWAY).send(HTTPReqCallReq(id=1, conf_token=5)))
        assert loop.run_until_complete(turn(loop, first)) == b""
        assert loop.run_until_complete(turn(loop, second))[:1] == REFUSAL
        assert handlers.connections == 1
    assert "a defect" in caplog.text


def test_a_gateway_that_leaves_its_reply_unread(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """The connection is closed, although the system then reports an error instead of data."""
    with connect(loop, handlers) as gateway:
        gateway.sendall(Connection(Role.GATEWAY).send(HTTPReqCallReq(id=1, conf_token=5)))
        loop.run_until_complete(asyncio.wait_for(until(lambda: handlers.calls == 1), BOUND_S))
    loop.run_until_complete(asyncio.wait_for(until(lambda: not handlers.connections), BOUND_S))


def test_many_connections_at_once(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """If many connections have data to read at the same time, each gets a reply."""
    gateways = [connect(loop, handlers) for _ in range(100)]
    try:
        for gateway in gateways:
            gateway.sendall(Connection(Role.GATEWAY).send(HTTPReqCallReq(id=1, conf_token=5)))
        assert [loop.run_until_complete(turn(loop, gateway))[:1] for gateway in gateways] == [REFUSAL] * len(gateways)
    finally:
        for gateway in gateways:
            gateway.close()


def test_close_cuts_all(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """After the timeout, all connections are closed."""
    with connect(loop, handlers) as gateway:
        loop.run_until_complete(handlers.close(BOUND_S))
        assert loop.run_until_complete(turn(loop, gateway)) == b""


def until_end(end: socket.socket) -> bytes:
    """Return all data that arrives until the connection is closed."""
    received = b""
    while data := end.recv(1 << 16):
        received += data
    return received


def test_close_replies_to_calls_that_have_arrived(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A call that was sent before `close` gets a reply, although it had not been read yet."""
    with connect(loop, handlers) as gateway:
        gateway.sendall(Connection(Role.GATEWAY).send(HTTPReqCallReq(id=1, conf_token=5)))
        loop.run_until_complete(handlers.close(BOUND_S))
        assert until_end(gateway)[:1] == REFUSAL


def test_close_replies_to_a_call_at_the_last_moment(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that arrives between the last check of the connection and its end gets a reply. A later one cannot be sent."""
    with connect(loop, handlers) as gateway:

        def has_unread(sock: socket.socket) -> bool:
            gateway.sendall(Connection(Role.GATEWAY).send(HTTPReqCallReq(id=1, conf_token=5)))
            return False

        monkeypatch.setattr("apisix.runner.worker.connection_handler.has_unread", has_unread)
        loop.run_until_complete(handlers.close(BOUND_S))
        assert until_end(gateway)[:1] == REFUSAL
        with pytest.raises(BrokenPipeError):
            gateway.sendall(b"too late")


def test_close_does_not_wait_longer_for_an_incomplete_frame(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A connection with an incomplete frame is closed at the timeout, and the others do not wait for it."""
    with connect(loop, handlers) as slow, connect(loop, handlers) as idle:
        slow.sendall(Connection(Role.GATEWAY).send(PrepareConfReq())[:7])
        closing = loop.create_task(handlers.close(0.2))
        loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, until_end, idle), BOUND_S))
        assert not closing.done()
        loop.run_until_complete(closing)
        assert until_end(slow) == b""


def test_a_peer_that_reads_slowly(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """Data that the socket does not accept is sent later, in order. The connection is idle only after that."""
    with connect(loop, handlers) as gateway:
        (handler,) = handlers._open
        body = bytes(range(256)) * 8192
        connection = Connection(Role.GATEWAY)
        gateway.sendall(connection.send(HTTPReqCallReq(id=1, conf_token=5)))
        loop.run_until_complete(turn(loop, gateway))  # the call has finished, so the rest of the test is only about bytes
        handler._write(bytearray(body))
        handler._write(bytearray(b"the end"))
        assert not handler.idle
        received = loop.run_until_complete(asyncio.wait_for(receive_exactly(loop, gateway, len(body) + 7), BOUND_S))
        assert received == body + b"the end"
        loop.run_until_complete(asyncio.wait_for(until_idle(handler), BOUND_S))


def test_a_connection_whose_slow_peer_has_read_everything_is_reported_as_idle(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers
) -> None:
    with connect(loop, handlers) as gateway:
        (handler,) = handlers._open
        body = bytes(1 << 21)
        idle = loop.create_future()
        handlers.on_idle = lambda: idle.set_result(handler.idle)
        handler._write(bytearray(body))
        assert not idle.done()
        loop.run_until_complete(asyncio.wait_for(receive_exactly(loop, gateway, len(body)), BOUND_S))

        assert loop.run_until_complete(asyncio.wait_for(idle, BOUND_S)) is True
        handlers.on_idle = None


def test_an_error_is_sent_before_the_end(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A peer that breaks the protocol gets an error, even if the socket is full, and then the connection is closed."""
    with connect(loop, handlers) as gateway:
        (handler,) = handlers._open
        body = bytes(1 << 21)
        handler._write(bytearray(body))
        gateway.sendall(b"rubbish")
        received = loop.run_until_complete(loop.run_in_executor(None, until_end, gateway))
        assert received == body + ErrResp(ErrCode.BAD_REQUEST).encode_frame()
        assert handlers.connections == 0


def test_a_long_frame(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A frame that arrives in many pieces is read like any other frame."""
    with connect(loop, handlers) as gateway:
        conf = [("stop", "x" * 3_000_000)]
        frame = Connection(Role.GATEWAY).send(PrepareConfReq(conf, "route#1#ext-plugin-pre-req#1"))
        loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, gateway.sendall, frame), BOUND_S))
        answer = loop.run_until_complete(turn(loop, gateway))
        assert answer[0] == FrameType.PREPARE_CONF


async def receive_exactly(loop: asyncio.AbstractEventLoop, end: socket.socket, size: int) -> bytes:
    """Return `size` bytes that arrive."""
    end.setblocking(False)
    received = b""
    while len(received) < size:
        received += await loop.sock_recv(end, 1 << 16)
    return received


async def until_idle(handler: ConnectionHandler) -> None:
    """Run the event loop until a connection is idle."""
    while not handler.idle:  # noqa: ASYNC110  # a handler does not signal it
        await asyncio.sleep(0)


class FakeConnection:
    """A connection that has buffered bytes, and records why it is closed."""

    def __init__(self, held: HeldBytes) -> None:
        self.held = held
        self.reasons: list[str] = []

    def buffer(self, size: int, *, sending: bool = False) -> None:
        """Have this many bytes buffered from now on."""
        self.held.update(self, size, sending=sending)

    def abort(self, reason: str) -> None:
        """Record the reason, and have no bytes buffered."""
        self.reasons.append(reason)
        self.held.update(self, 0, sending=False)


def test_the_oldest_is_closed_when_there_is_too_much(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """Over the budget, the connections that have had bytes for longest are closed, until the rest is within the budget."""
    runtime = handlers.context.runtime
    held = HeldBytes(loop, runtime, 100, 60.0, 60.0)
    first, second, third = FakeConnection(held), FakeConnection(held), FakeConnection(held)
    first.buffer(40)
    second.buffer(40, sending=True)
    first.buffer(10)  # another frame: the first one was complete
    third.buffer(70)
    loop.run_until_complete(asyncio.sleep(0))
    held.close()
    assert [len(connection.reasons) for connection in (first, second, third)] == [0, 1, 0]
    assert "limits.buffered_size" in second.reasons[0]
    assert (runtime.held_bytes, runtime.connections_aborted) == (80, 1)


@pytest.mark.parametrize(("sending", "setting"), [(False, "limits.read_timeout"), (True, "limits.send_timeout")])
def test_bytes_are_not_buffered_for_ever(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, monkeypatch: pytest.MonkeyPatch, sending: bool, setting: str
) -> None:
    """If a frame does not arrive in time, or a reply is not read in time, the connection is closed."""
    monkeypatch.setattr("apisix.runner.worker.held_bytes.LOOK_S", 0.001)
    held = HeldBytes(loop, handlers.context.runtime, 100, 60.0 if sending else 0.001, 0.001 if sending else 60.0)
    connection = FakeConnection(held)
    connection.buffer(1, sending=sending)

    async def until_closed() -> None:
        while not connection.reasons:  # noqa: ASYNC110  # there is no signal to wait for
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(until_closed(), BOUND_S))
    held.close()
    assert setting in connection.reasons[0]


def test_memory_is_returned_when_idle(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no connection has bytes buffered, and none had any at the last check, unused memory is returned to the system."""
    monkeypatch.setattr("apisix.runner.worker.held_bytes.LOOK_S", 0.001)
    given = loop.create_future()
    monkeypatch.setattr("apisix.runner.worker.held_bytes.give_memory_back", lambda: given.set_result(None))
    held = HeldBytes(loop, handlers.context.runtime, 100, 60.0, 60.0)
    connection = FakeConnection(held)
    connection.buffer(1)
    loop.run_until_complete(asyncio.sleep(0.02))
    assert not given.done()
    connection.buffer(0)
    loop.run_until_complete(asyncio.wait_for(given, BOUND_S))


def test_an_incomplete_frame_is_dropped_with_its_connection(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """The bytes of an incomplete frame are counted. They are freed when the connection is closed, not by the garbage collector."""
    with connect(loop, handlers) as gateway:
        (handler,) = handlers._open
        runtime = handlers.context.runtime
        gateway.sendall(b"\x01\xff")
        loop.run_until_complete(asyncio.wait_for(until(lambda: runtime.held_bytes == 2), BOUND_S))
        gateway.sendall(b"\xff\xff" + b"x" * 5000)
        loop.run_until_complete(asyncio.wait_for(until(lambda: runtime.held_bytes == 5004), BOUND_S))
    loop.run_until_complete(asyncio.wait_for(until(lambda: not handlers.connections), BOUND_S))
    assert (runtime.held_bytes, handler._connection.decoder.buffered_bytes if hasattr(handler, "_connection") else 0) == (0, 0)


def test_a_peer_that_does_not_read_is_not_read_from(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """Calls that follow an unsent reply wait, in the same packet or in the socket, and get replies after it was read."""
    with connect(loop, handlers) as gateway:
        (handler,) = handlers._open
        runtime = handlers.context.runtime
        body = bytes(1 << 21)
        handler._write(bytearray(body))
        connection = Connection(Role.GATEWAY)
        gateway.sendall(connection.send(HTTPReqCallReq(id=1, conf_token=5)) * 3)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert runtime.calls == 0
        assert 0 < runtime.held_bytes <= len(body)
        size = len(body) + 3 * len(ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND).encode_frame())
        received = loop.run_until_complete(asyncio.wait_for(receive_exactly(loop, gateway, size), BOUND_S))
        assert received[len(body) :] == 3 * ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND).encode_frame()
        assert (runtime.calls, runtime.held_bytes) == (3, 0)


def test_a_write_that_fails_closes_the_connection(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """If a reply can't be written, the connection is closed, or the gateway would take the next reply for it."""
    with connect(loop, handlers) as gateway:
        (handler,) = handlers._open
        gateway.shutdown(socket.SHUT_RD)  # writes fail, and there is no data to read
        handler._write(bytearray(b"lost"))
        loop.run_until_complete(asyncio.wait_for(until(lambda: not handlers.connections), BOUND_S))


@pytest.mark.skipif(why_pure() is None, reason="compiled, the functions can't be replaced")
@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM, errno.ECONNRESET, errno.EPIPE])
@pytest.mark.parametrize("function", ["send", "receive_into"])
def test_a_socket_that_fails(
    loop: asyncio.AbstractEventLoop,
    handlers: ConnectionHandlers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    function: str,
    code: int,
) -> None:
    """If reading or writing fails, the connection is closed. The reason is logged, unless the gateway hung up."""

    def fail(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(primitives, function, fail)
    with connect(loop, handlers) as gateway:
        gateway.sendall(Connection(Role.GATEWAY).send(HTTPReqCallReq(id=1, conf_token=5)))
        loop.run_until_complete(asyncio.wait_for(until(lambda: not handlers.connections), BOUND_S))
        gateway.setblocking(True)
        assert function != "send" or until_end(gateway) == b""
    expected = (
        [] if code in (errno.ECONNRESET, errno.EPIPE) else [f"a connection is closed, because its socket failed: {os.strerror(code)}"]
    )
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == expected


@pytest.mark.skipif(not hasattr(socket, "MSG_NOSIGNAL"), reason="this system has no MSG_NOSIGNAL")
def test_a_peer_that_is_gone_sends_no_signal(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """Writing sends no SIGPIPE, even if a plugin has restored its default action, which would end the process."""
    signals: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda signum, frame: signals.append(signum))
    try:
        with connect(loop, handlers) as gateway:
            (handler,) = handlers._open
            gateway.shutdown(socket.SHUT_RD)
            handler._write(bytearray(b"lost"))
            loop.run_until_complete(asyncio.sleep(0))
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert signals == []


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until a condition is true."""
    while not condition():  # noqa: ASYNC110  # there is no signal to wait for
        await asyncio.sleep(0)


def test_a_call_that_arrived_with_a_prepare_conf_is_not_counted(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """A message that waits for the reply to the message before it counts as buffered only until it is handled."""
    with connect(loop, handlers) as gateway:
        runtime = handlers.context.runtime
        call = Connection(Role.GATEWAY).send(HTTPReqCallReq(id=1, conf_token=5))
        gateway.sendall(Connection(Role.GATEWAY).send(PrepareConfReq()) + call)
        loop.run_until_complete(asyncio.wait_for(until(lambda: runtime.calls == 1), BOUND_S))
        assert runtime.held_bytes == 0


async def _read_to_the_end(loop: asyncio.AbstractEventLoop, end: socket.socket) -> int:
    """Return how many bytes arrive before the end of the stream."""
    end.setblocking(False)
    size = 0
    while piece := await asyncio.wait_for(loop.sock_recv(end, 1 << 20), BOUND_S):
        size += len(piece)
    return size


@pytest.mark.parametrize("size", [1, 4 << 20], ids=["everything was sent", "something is still unsent"])
def test_a_reply_after_the_connection_ended_is_not_sent(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, size: int) -> None:
    """A plugin may finish after its connection was closed. Data that was sent before still arrives."""
    with connect(loop, handlers) as gateway:
        (handler,) = handlers._open
        handler._write(bytearray(size))

        handler.broken(RemoteProtocolError("a defect of the peer"))
        handler._write(bytearray(b"too late"))

        assert loop.run_until_complete(_read_to_the_end(loop, gateway)) == size
        assert handlers.connections == 0


def test_data_that_arrives_is_reported_once(loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers) -> None:
    """Data makes an idle worker busy. `on_activity` is reset before it is called, so it can be set again."""
    reported: list[object] = []
    with connect(loop, handlers) as first, connect(loop, handlers) as second:
        handlers.on_activity = lambda: reported.append(handlers.on_activity)
        for gateway in (first, second):
            gateway.sendall(Connection(Role.GATEWAY).send(PrepareConfReq()))
            assert loop.run_until_complete(turn(loop, gateway))

    assert reported == [None]


def test_closing_ends_as_soon_as_the_last_call_has_ended(
    loop: asyncio.AbstractEventLoop, handlers: ConnectionHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for the next look at the connections."""
    monkeypatch.setattr(connection_handler, "LOOK_AGAIN_S", 100 * BOUND_S)

    async def close() -> bytes:
        await until_busy(handlers)
        closing = loop.create_task(handlers.close(100 * BOUND_S))
        await asyncio.sleep(0)
        gateway.sendall(frame[7:])
        reply = await turn(loop, gateway)
        await asyncio.wait_for(closing, BOUND_S)
        return reply

    with connect(loop, handlers) as gateway:
        frame = Connection(Role.GATEWAY).send(PrepareConfReq())
        gateway.sendall(frame[:7])
        assert loop.run_until_complete(close())
