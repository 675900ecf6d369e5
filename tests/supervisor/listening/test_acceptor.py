# SPDX-License-Identifier: Apache-2.0
"""Which connections a runner accepts, and how the path passes from one runner to the next, with both of them in this process."""

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from apisix.runner.ipc.reactor import Reactor
from apisix.runner.supervisor.listening.acceptor import Acceptor
from apisix.runner.supervisor.listening.credentials import Access
from apisix.runner.supervisor.listening.listener import Hold, Listener
from apisix.runner.supervisor.worker_pool.pool import WorkerPool

OURS = Access(0o600, -1, -1, frozenset({os.geteuid()}))


class Pool:
    """A worker pool that is ready when the test sets it."""

    def __init__(self, ready: bool) -> None:
        self.ready = ready
        self.is_releasing = False
        self.connections = 3
        self.successors: list[Callable[[socket.socket], None]] = []

    def pass_all_to(self, successor: Callable[[socket.socket], None]) -> None:
        self.successors.append(successor)


class Runner:
    """Everything that a runner needs to accept connections on a path."""

    def __init__(self, reactor: Reactor, listener: Listener, ready: bool) -> None:
        self.reactor = reactor
        self.pool = Pool(ready)
        self.placed: list[socket.socket] = []
        self.displaced = 0
        self.acceptor = Acceptor(reactor, listener, OURS, cast(WorkerPool, self.pool), self.placed.append, self._on_displaced)
        self.acceptor.meet_predecessor()
        self.acceptor.update()

    def _on_displaced(self) -> None:
        self.displaced += 1

    def close(self) -> None:
        self.acceptor.close_listener()
        self.acceptor.close()
        for connection in self.placed:
            connection.close()


def turn(reactor: Reactor) -> None:
    """Run a few iterations of the reactor."""
    turns = iter([False] * 5 + [True])
    waking = reactor.call_every(0.001, lambda: None)
    reactor.run(until=lambda: next(turns))
    waking.cancel()


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "runner.sock")


@pytest.fixture
def start(reactor: Reactor, path: str) -> Iterator[Callable[..., Runner]]:
    """Start a runner at the path, with workers that are ready or not."""
    started: list[Runner] = []

    def start_one(ready: bool = True) -> Runner:
        started.append(Runner(reactor, Listener.bind(path, OURS), ready))
        return started[-1]

    yield start_one
    for runner in started:
        runner.close()


def refuse_descriptors(listener: Listener, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the next `accept` fail with an error."""
    accept = listener.accept
    errors = iter([OSError(number, os.strerror(number))])

    def failing() -> socket.socket | None:
        for error in errors:
            raise error
        return accept()

    monkeypatch.setattr(listener, "accept", failing)


def test_connections_wait_until_a_worker_is_ready(reactor: Reactor, start: Callable[..., Runner], path: str) -> None:
    runner = start(ready=False)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        turn(reactor)
        assert runner.placed == []

        runner.pool.ready = True
        runner.acceptor.update()
        turn(reactor)
        assert (len(runner.placed), runner.acceptor.accepted) == (1, 1)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_without_descriptors_a_connection_is_closed_at_once(
    number: int,
    reactor: Reactor,
    start: Callable[..., Runner],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not left in the backlog, where the gateway would wait for it, and the next one is accepted."""
    runner = start()
    assert runner.acceptor.listener is not None
    refuse_descriptors(runner.acceptor.listener, monkeypatch, number)
    with socket.socket(socket.AF_UNIX) as refused, socket.socket(socket.AF_UNIX) as accepted:
        refused.settimeout(10.0)
        refused.connect(path)
        turn(reactor)
        assert refused.recv(1) == b""
        accepted.connect(path)
        turn(reactor)

    assert (len(runner.placed), runner.acceptor.accepted, runner.acceptor.refused) == (1, 1, 1)
    assert caplog.messages == ["a connection was refused: the supervisor is out of file descriptors (ulimit -n)"]


def test_another_error_of_accept_is_logged(
    reactor: Reactor, start: Callable[..., Runner], path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = start()
    assert runner.acceptor.listener is not None
    refuse_descriptors(runner.acceptor.listener, monkeypatch, errno.ENOBUFS)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        turn(reactor)

    assert (len(runner.placed), runner.acceptor.refused) == (1, 0)
    assert caplog.messages == [f"a connection can't be accepted: {os.strerror(errno.ENOBUFS)}"]


def test_a_mode_that_can_not_be_changed_is_logged(
    start: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = start()

    def refuse(access: Access) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(runner.acceptor.listener, "grant", refuse)
    runner.acceptor.grant(OURS)

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "can't be changed for the gateway's workers: Operation not permitted. Set socket.mode or socket.owner" in caplog.text


def test_a_runner_hands_over_as_soon_as_its_successor_can_serve(reactor: Reactor, start: Callable[..., Runner]) -> None:
    first = start()
    second = start(ready=False)
    first.acceptor.check_path()
    turn(reactor)
    assert (first.acceptor.displaced, first.displaced, first.acceptor.leaving) == (True, 1, False)
    assert first.pool.successors == []

    second.pool.ready = True
    second.acceptor.update()
    turn(reactor)
    assert first.acceptor.leaving
    assert len(first.pool.successors) == 1


def test_a_runner_whose_successor_exits_before_it_could_serve_listens_again(
    reactor: Reactor, start: Callable[..., Runner], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = start()
    second = start(ready=False)
    first.acceptor.check_path()
    turn(reactor)
    assert second.acceptor.listener is not None
    second.acceptor.leave()
    turn(reactor)

    assert not first.acceptor.displaced
    assert first.acceptor.listener is not None
    assert first.acceptor.listener.hold() is Hold.OURS
    assert f"the runner that had taken {path} exited before it could serve, so this runner listens on it again" in caplog.messages


def test_a_runner_that_leaves_does_not_listen_again_if_its_successor_exits(
    reactor: Reactor, start: Callable[..., Runner], path: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = start()
    second = start()
    first.acceptor.check_path()
    turn(reactor)
    second.acceptor.update()
    turn(reactor)
    assert first.acceptor.leaving
    second.acceptor.leave()
    turn(reactor)

    assert first.acceptor.displaced
    assert not os.path.exists(path)
    assert not any("listens on it again" in message for message in caplog.messages)
