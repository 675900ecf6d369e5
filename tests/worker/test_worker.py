# SPDX-License-Identifier: Apache-2.0
"""What a worker reports to the supervisor, and when it is busy, with an event loop whose time passes only while it waits."""

import asyncio
import itertools
import logging
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apisix.runner.ipc.channel import AnyMessage, Channel, Drain, HandedBack, Pass, Problem, Ready, Shed, Stats, Stop, Taken
from apisix.runner.worker.heartbeat import BUSY_S, IDLE_S, Heartbeat
from apisix.runner.worker.service import Opened
from apisix.runner.worker.worker import BUSY_FOR_S, CLOSE_S, Worker


class WithoutWaiting(selectors.DefaultSelector):
    """Instead of waiting for a time, lets it pass."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now_s += timeout
        return ready


class Loop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own. Signals are not handled."""

    def __init__(self) -> None:
        self.clock = WithoutWaiting()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now_s

    def add_signal_handler(self, *args: Any) -> None:  # type: ignore[override]
        pass


class Promises(Heartbeat):
    """Records when something was promised, and for how long."""

    def __init__(self, clock: WithoutWaiting) -> None:
        self.made: list[tuple[float, float]] = []
        self._clock = clock
        super().__init__()
        self.made.clear()

    def promise(self, within_s: float) -> None:
        self.made.append((self._clock.now_s, within_s))


class Served:
    """Connections that the test changes."""

    def __init__(self) -> None:
        self.connections = 0
        self.in_flight = 0
        self.calls = 0
        self.on_idle: Callable[[], None] | None = None
        self.on_activity: Callable[[], None] | None = None
        self.adopted: list[socket.socket] = []
        self.idle: list[socket.socket] = []
        self.closed_after_s: list[float] = []
        self.failure: Exception | None = None

    async def adopt(self, sock: socket.socket) -> None:
        if self.failure is not None:
            raise self.failure
        self.connections += 1
        self.adopted.append(sock)

    def release_idle(self, limit: int | None = None) -> list[socket.socket]:
        released, self.idle = self.idle[:limit], self.idle[len(self.idle[:limit]) :]
        self.connections -= len(released)
        return released

    async def close(self, timeout_s: float) -> None:
        self.closed_after_s.append(timeout_s)


class Reporter:
    """Records its calls."""

    def __init__(self) -> None:
        self.started = self.finished = 0
        self.ticks: list[tuple[float, bool]] = []

    def start(self, send: Callable[[bytes], None]) -> None:
        self.started += 1

    def tick(self, late_s: float, *, busy: bool) -> None:
        self.ticks.append((late_s, busy))

    def finish(self) -> None:
        self.finished += 1


class Running:
    """A worker that serves, the supervisor's end of its channel, and what it called."""

    def __init__(self, reporter: Reporter | None = None) -> None:
        self.loop = Loop()
        self.ours, self._theirs = Channel.pair()
        self.heartbeat = Promises(self.loop.clock)
        self.served = Served()
        self.called: list[str] = []
        opened = Opened(
            self.served,
            (Problem("a.py", "broken"),),
            ("a.py", "b.py"),
            lambda name: self.called.append(f"mark {name}"),
            reporter,  # type: ignore[arg-type]
            sleep=lambda: self.called.append("sleep"),
            wake=lambda: self.called.append("wake"),
        )
        self.began_s = self.loop.time()
        self.done = self.loop.create_task(Worker(self.loop, self._theirs, self.heartbeat).run(opened))
        self.let_pass(0.0)

    def let_pass(self, seconds: float) -> None:
        """Run the worker for a time, and then everything that is ready. This is not done by a task, which would keep the worker busy."""
        self._turn(seconds)
        for _ in range(5):
            self._turn(0.0)

    def _turn(self, seconds: float) -> None:
        done = self.loop.create_future()
        self.loop.call_later(seconds, done.set_result, None)
        self.loop.run_until_complete(done)

    def received(self) -> list[AnyMessage]:
        """Return what the worker has sent since the last time."""
        return [message for message, _ in self.ours.receive()]

    def promised(self) -> list[float]:
        """Return the promises since the last time, in seconds."""
        made = [within_s for _, within_s in self.heartbeat.made]
        self.heartbeat.made.clear()
        return made

    def make_idle(self) -> None:
        self.let_pass(2 * BUSY_FOR_S)
        assert self.called == ["sleep"]
        self.called.clear()
        self.promised()
        self.received()

    def close(self) -> None:
        self.done.cancel()
        self.let_pass(0.0)
        self.loop.close()
        self.ours.close()
        self._theirs.close()
        self.heartbeat.close()


@pytest.fixture
def reporter() -> Reporter | None:
    return None


@pytest.fixture
def worker(reporter: Reporter | None) -> Iterator[Running]:
    made = Running(reporter)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_worker_reports_first_that_it_is_ready(worker: Running) -> None:
    """The message contains the plugins that it could not load, and the files to watch."""
    assert worker.received() == [Ready((Problem("a.py", "broken"),), ("a.py", "b.py")), Stats(0, 0, 0)]


def test_a_worker_with_nothing_to_do_becomes_idle(worker: Running) -> None:
    """For some time after the last activity, it shows often that its event loop runs; then seldom."""
    worker.promised()
    worker.let_pass(BUSY_FOR_S - BUSY_S)
    assert set(worker.promised()) == {BUSY_S}
    assert worker.called == []

    worker.let_pass(2 * BUSY_S)
    assert worker.promised()[-1] == IDLE_S
    assert worker.called == ["sleep"]

    worker.let_pass(10 * IDLE_S)
    assert worker.promised() == [IDLE_S] * 10
    assert worker.called == ["sleep"]


def test_every_promise_is_kept(worker: Running) -> None:
    worker.let_pass(10.0)
    promises = worker.heartbeat.made

    assert len(promises) > 10
    for (made_s, within_s), (next_s, _) in itertools.pairwise(promises):
        assert next_s <= made_s + within_s + 1e-6


def test_activity_wakes_an_idle_worker(worker: Running) -> None:
    worker.make_idle()
    wake = worker.served.on_activity
    assert wake is not None
    wake()

    assert worker.promised() == [BUSY_S]
    assert worker.called == ["wake"]
    assert worker.served.on_activity is None
    worker.let_pass(BUSY_FOR_S / 2)
    # The timer that was planned while it was idle is not left over.
    assert len(worker.promised()) == pytest.approx(BUSY_FOR_S / 2 / BUSY_S, abs=1)
    worker.let_pass(BUSY_FOR_S)
    assert worker.called == ["wake", "sleep"]


def test_a_busy_worker_is_not_woken(worker: Running, pair: tuple[socket.socket, socket.socket]) -> None:
    assert worker.served.on_activity is None

    worker.ours.send(Pass(), pair[0])
    worker.let_pass(0.0)
    assert len(worker.served.adopted) == 1
    assert worker.called == []
    worker.served.adopted[0].close()


def test_a_call_in_progress_keeps_a_worker_busy(worker: Running) -> None:
    worker.served.in_flight = 1
    worker.let_pass(5 * BUSY_FOR_S)
    assert worker.called == []
    assert set(worker.promised()) == {BUSY_S}

    worker.served.in_flight = 0
    worker.let_pass(2 * BUSY_FOR_S)
    assert worker.called == ["sleep"]


def test_a_task_that_a_plugin_has_started_keeps_a_worker_busy(worker: Running) -> None:
    task = worker.loop.create_task(asyncio.sleep(5 * BUSY_FOR_S))
    worker.let_pass(4 * BUSY_FOR_S)
    assert worker.called == []

    worker.let_pass(3 * BUSY_FOR_S)
    assert (task.done(), worker.called) == (True, ["sleep"])


def test_changed_figures_are_reported_once(worker: Running) -> None:
    worker.received()
    worker.served.calls = 3
    worker.served.in_flight = 1
    worker.let_pass(3 * BUSY_S)

    assert worker.received() == [Stats(0, 1, 3)]


def test_a_connection_is_confirmed_before_it_is_served(worker: Running, pair: tuple[socket.socket, socket.socket]) -> None:
    worker.make_idle()
    worker.ours.send(Pass(), pair[0])
    worker.let_pass(0.0)

    assert worker.called == ["wake"]
    assert len(worker.served.adopted) == 1
    assert worker.received()[0] == Taken()
    worker.let_pass(2 * BUSY_S)
    assert worker.received() == [Stats(1, 0, 0)]
    worker.served.adopted[0].close()


def test_a_connection_that_can_not_be_served_is_closed(
    worker: Running, pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    worker.served.failure = OSError("no buffers")
    worker.ours.send(Pass(), pair[0])
    pair[0].close()
    worker.let_pass(0.0)

    assert caplog.record_tuples == [
        ("apisix.runner.worker.worker", logging.ERROR, "a connection can't be served and is closed: no buffers")
    ]
    pair[1].setblocking(False)
    assert pair[1].recv(1) == b""


def test_idle_connections_are_handed_back_on_request(worker: Running, pair: tuple[socket.socket, socket.socket]) -> None:
    worker.received()
    worker.served.connections = 2
    worker.served.idle = list(pair)
    worker.ours.send(Shed(1))
    worker.let_pass(0.0)

    received = [(message, connection) for message, connection in worker.ours.receive()]
    assert [message for message, _ in received] == [HandedBack(), Stats(1, 0, 0)]
    assert received[0][1] is not None
    received[0][1].close()


def test_a_worker_that_is_drained_exits_when_it_has_handed_back_its_connections(
    worker: Running, pair: tuple[socket.socket, socket.socket]
) -> None:
    worker.served.connections = 1
    worker.ours.send(Drain())
    worker.let_pass(1.0)
    assert not worker.done.done()

    worker.served.idle = [pair[0]]
    assert worker.served.on_idle is not None
    worker.served.on_idle()
    worker.let_pass(0.1)

    assert worker.done.done()
    assert worker.served.closed_after_s == [CLOSE_S]
    for message, connection in worker.ours.receive():
        if message == HandedBack():
            assert connection is not None
            connection.close()


def test_a_worker_that_is_told_to_stop_gives_calls_the_time_that_was_set(worker: Running) -> None:
    worker.ours.send(Stop(2.5))
    worker.let_pass(0.1)

    assert worker.done.done()
    assert worker.served.closed_after_s == [2.5]


@pytest.mark.parametrize("reporter", [Reporter()])
def test_metrics_are_collected_from_the_start_to_the_end(worker: Running, reporter: Reporter) -> None:
    """At each turn, the reporter learns how late the event loop is, and whether the worker is busy."""
    assert (reporter.started, reporter.finished) == (1, 0)
    assert reporter.ticks == [(0.0, True)]

    worker.loop.clock.now_s += 3.0  # a plugin blocks
    worker.let_pass(0.0)
    worker.let_pass(0.0)
    late_s, busy = reporter.ticks[1]
    assert late_s == pytest.approx(3.0 - BUSY_S)
    assert busy is False

    worker.ours.send(Stop(1.0))
    worker.let_pass(0.1)
    assert reporter.finished == 1
