# SPDX-License-Identifier: Apache-2.0
"""The channel between supervisor and worker: messages and connections arrive in order."""

import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from apisix.runner.ipc.channel import (
    MAX_MESSAGE_BYTES,
    AnyMessage,
    BlockingMark,
    Channel,
    Drain,
    Failed,
    HandedBack,
    Pass,
    Problem,
    Ready,
    ReplaceMe,
    Shed,
    Stats,
    Stop,
    Taken,
)

Received = tuple[AnyMessage, socket.socket | None]

PLAIN: list[AnyMessage] = [
    Shed(3),
    Drain(),
    Stop(0.5),
    BlockingMark("my-plugin"),
    Ready((Problem("a.py:", "a.py, line 1: bad"),), ("b.py",)),
    Failed("no store"),
    Taken(),
    Stats(1, 2, 3),
    ReplaceMe("tired"),
]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a channel."""
    supervisor, worker = Channel.pair()
    yield supervisor, worker
    supervisor.close()
    worker.close()


def connected() -> tuple[socket.socket, socket.socket]:
    """Return a connection and the client at its other end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def test_every_message_arrives_as_it_was_sent(ends: tuple[Channel, Channel]) -> None:
    """Every kind of message arrives unchanged and in order."""
    for message in PLAIN:
        ends[0].send(message)

    assert ends[1].receive() == [(message, None) for message in PLAIN]


def test_connections_arrive_with_their_messages(ends: tuple[Channel, Channel]) -> None:
    """A connection arrives with the message that carries it, works there, and can't be inherited by a plugin's subprocess."""
    pairs = [connected() for _ in range(3)]
    ends[0].send(Drain())
    for ours, _ in pairs:
        ends[0].send(Pass(), ours)
        ends[0].send(Shed(1))

    received = ends[1].receive()

    assert [message for message, _ in received] == [Drain(), Pass(), Shed(1), Pass(), Shed(1), Pass(), Shed(1)]
    arrived = [connection for _, connection in received if connection is not None]
    for index, (connection, (_, client)) in enumerate(zip(arrived, pairs, strict=True)):
        connection.send(bytes([index]))
        assert client.recv(1) == bytes([index])
        assert not connection.get_inheritable()
        assert not connection.getblocking()
        connection.close()
        client.close()


def test_a_sent_connection_is_not_kept_open(ends: tuple[Channel, Channel]) -> None:
    """When the receiver closes the connection, the client sees the end, because the sender has no copy."""
    ours, client = connected()
    ends[0].send(HandedBack(), ours)
    ((_, connection),) = ends[1].receive()
    assert connection is not None
    connection.close()

    assert client.recv(1) == b""
    client.close()


def test_a_kept_connection_stays_open(ends: tuple[Channel, Channel]) -> None:
    """The supervisor keeps a connection that it passes until the worker has confirmed it."""
    ours, client = connected()
    ends[0].send(Pass(), ours, keep=True)
    ((_, connection),) = ends[1].receive()
    assert connection is not None
    connection.close()
    ours.send(b"still here")

    assert client.recv(16) == b"still here"
    ours.close()
    client.close()


def test_data_that_does_not_fit_is_sent_later(ends: tuple[Channel, Channel]) -> None:
    """If the receiver does not read, messages and connections are delayed. None is lost, and the sender never waits."""
    pairs = []
    text = "x" * 10_000
    while not ends[0].wants_write:
        pairs.append(connected())
        ends[0].send(Failed(text))
        ends[0].send(Pass(), pairs[-1][0])

    received: list[Received] = []
    while len(received) < 2 * len(pairs):
        received += ends[1].receive()
        ends[0].flush()

    assert [message for message, _ in received] == [Failed(text), Pass()] * len(pairs)
    assert not ends[0].pending
    for (_, connection), (_, client) in zip(received[1::2], pairs, strict=True):
        assert connection is not None
        connection.close()
        assert client.recv(1) == b""
        client.close()


def test_bytes_in_any_pieces() -> None:
    """A message can arrive byte by byte."""
    ours, theirs = socket.socketpair()
    sender, copy = Channel.pair()
    sender.send(Ready((Problem("a.py:", "bad"),), ("b.py",)))
    data = os.read(copy.fileno(), 4096)
    channel = Channel(theirs)
    received: list[Received] = []
    for byte in data:
        assert received == []
        ours.send(bytes([byte]))
        received = channel.receive()

    assert received == [(Ready((Problem("a.py:", "bad"),), ("b.py",)), None)]
    for end in (sender, copy, channel, ours):
        end.close()


def test_the_last_messages_are_received_before_the_end(ends: tuple[Channel, Channel]) -> None:
    """Messages that were sent before the other end closed are received, even if it never read the messages of this end."""
    ends[0].send(Drain())
    ends[1].send(Taken())
    ends[1].close()

    assert ends[0].receive() == [(Taken(), None)]
    ends[0].receive()
    assert ends[0].at_end


def test_sending_to_a_closed_end_does_nothing(ends: tuple[Channel, Channel]) -> None:
    """A message to a worker that has exited is dropped, and its connection is closed. The end is detected by reading."""
    ends[1].close()
    ours, client = connected()
    ends[0].send(Pass(), ours)

    assert not ends[0].pending
    assert client.recv(1) == b""
    client.close()


def test_no_descriptor_left_for_a_connection(ends: tuple[Channel, Channel]) -> None:
    """A receiver without free descriptors gets the message without its connection, and the next connection is not confused with it."""
    first, client = connected()
    second, next_client = connected()
    ends[0].send(Pass(), first)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        received = ends[1].receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert received == [(Pass(), None)]
    assert client.recv(1) == b""

    ends[0].send(Pass(), second)
    ((_, connection),) = ends[1].receive()

    assert connection is not None
    connection.send(b"2")
    assert next_client.recv(1) == b"2"
    for sock in (connection, client, next_client):
        sock.close()


def test_threads_do_not_mix_their_messages(ends: tuple[Channel, Channel]) -> None:
    """The blocking detector can report from its own thread while the event loop sends messages too."""
    count = 200

    def report(name: str) -> None:
        for _ in range(count):
            ends[0].send(BlockingMark(name))

    threads = [threading.Thread(target=report, args=(name * 50,)) for name in "ab"]
    for thread in threads:
        thread.start()
    received: list[AnyMessage] = []
    while len(received) < 2 * count:
        received += [message for message, _ in ends[1].receive()]
        ends[0].flush()
    for thread in threads:
        thread.join()

    assert {BlockingMark("a" * 50): count, BlockingMark("b" * 50): count} == {message: received.count(message) for message in set(received)}


def test_garbage_is_refused(ends: tuple[Channel, Channel]) -> None:
    """A length above the limit raises an error, because it is not from a valid message."""
    os.write(ends[0].fileno(), (MAX_MESSAGE_BYTES + 1).to_bytes(4, "little"))

    with pytest.raises(ValueError, match="message of 1048577 bytes"):
        ends[1].receive()
