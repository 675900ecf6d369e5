# SPDX-License-Identifier: Apache-2.0
"""How a runner asks the one before it for its connections, and how that one hands them over."""

import socket
import time
from collections.abc import Iterator

import pytest

from apisix.runner.ipc.channel import Channel, HandedBack, TakeOver
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.supervisor.listening.takeover import Predecessor, Successor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor."""
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of the connection between two runners."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        yield ours, theirs


def turn(reactor: Reactor) -> None:
    """Let the reactor turn a few times."""
    turns = iter([False] * 3 + [True])
    waking = reactor.call_every(0.001, lambda: None)
    reactor.run(until=lambda: next(turns))
    waking.cancel()


def test_the_connections_are_asked_for_once(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    other = Channel(sockets[1])
    predecessor = Predecessor(reactor, sockets[0], lambda connection: None, lambda: None)
    predecessor.ask()
    predecessor.ask()

    assert other.receive() == [(TakeOver(), None)]
    predecessor.close()


def test_a_runner_that_is_gone_is_not_asked(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    gone: list[bool] = []
    predecessor = Predecessor(reactor, sockets[0], lambda connection: None, lambda: gone.append(True))
    sockets[1].close()
    turn(reactor)
    predecessor.ask()

    assert (predecessor.gone, gone) == (True, [True])


def test_a_connection_that_is_handed_over_is_placed(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    placed: list[socket.socket] = []
    predecessor = Predecessor(reactor, sockets[0], placed.append, lambda: None)
    client, connection = socket.socketpair()
    with client:
        Channel(sockets[1]).send(HandedBack(), connection)
        turn(reactor)
        (arrived,) = placed
        with arrived:
            arrived.send(b"x")
        assert client.recv(1) == b"x"
    predecessor.close()


def test_a_message_that_is_not_one_ends_the_connection(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    gone: list[bool] = []
    predecessor = Predecessor(reactor, sockets[0], lambda connection: None, lambda: gone.append(True))
    sockets[1].send(b"\xff" * 8)
    turn(reactor)

    assert (predecessor.gone, gone) == (True, [True])
    assert "the connection to the other runner of this path is closed" in caplog.text


def test_a_successor_is_ready_if_it_asks(reactor: Reactor, sockets: tuple[socket.socket, socket.socket]) -> None:
    ready: list[Successor] = []
    successor = Successor(reactor, sockets[0], ready.append, lambda successor: None)
    before = successor.ready
    Channel(sockets[1]).send(TakeOver())
    turn(reactor)

    assert (before, successor.ready, ready) == (False, True, [successor])
    successor.close()
    assert (successor.gone, successor.pending) == (True, False)


def test_connections_that_a_slow_successor_does_not_read_are_sent_later(
    reactor: Reactor, sockets: tuple[socket.socket, socket.socket]
) -> None:
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    successor = Successor(reactor, sockets[0], lambda successor: None, lambda successor: None)
    other = Channel(sockets[1])
    pairs = [socket.socketpair() for _ in range(60)]
    for ours, _ in pairs:
        successor.take(ours)
    assert successor.pending

    arrived: list[socket.socket | None] = []

    def receive() -> bool:
        arrived.extend(connection for _, connection in other.receive())
        return len(arrived) == len(pairs)

    deadline_s = time.monotonic() + 30.0
    waking = reactor.call_every(0.001, lambda: None)
    reactor.run(until=lambda: receive() or time.monotonic() > deadline_s)
    waking.cancel()

    assert len(arrived) == len(pairs)
    assert not successor.pending
    for (_, theirs), connection in zip(pairs, arrived, strict=True):
        assert connection is not None
        connection.send(b"x")
        assert theirs.recv(1) == b"x"
        connection.close()
        theirs.close()
    successor.close()
