# SPDX-License-Identifier: Apache-2.0
"""How workers are started, replaced and restarted, with a fork that starts no process."""

import errno
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from apisix.runner.ipc.channel import AnyMessage, BlockingMark, Channel, Drain, Message, Ready
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool import pool as pool_module
from apisix.runner.supervisor.worker_pool.forking import Body
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.worker_process import Stage, WorkerProcess
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.stack_dump import StackDump

NO_PROCESS = 1 << 30  # above every pid that a system has


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor."""
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def ends() -> list[Channel]:
    """The workers' ends of their channels, in the order of the workers."""
    return []


@pytest.fixture
def marked() -> list[frozenset[str]]:
    """The plugins that each worker was told to be blocking, when it was forked."""
    return []


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, ends: list[Channel], marked: list[frozenset[str]]) -> Iterator[list[WorkerProcess]]:
    """The workers that were forked so far; there is no process behind them."""
    workers: list[WorkerProcess] = []

    def fork(number: int, calls_limit: int, marks: frozenset[str], body: Body, forget: object) -> WorkerProcess:
        ours, theirs = Channel.pair()
        ends.append(theirs)
        marked.append(marks)
        workers.append(WorkerProcess(number, NO_PROCESS + number, ours, StackDump(), Heartbeat(), calls_limit))
        return workers[-1]

    monkeypatch.setattr(pool_module, "fork_worker", fork)
    yield workers
    for worker in workers:
        worker.close()
    for end in ends:
        end.close()


def turn(reactor: Reactor, times: int) -> None:
    """Run some iterations of the reactor."""
    turns = iter([False] * times + [True])
    waking = reactor.call_every(0.001, lambda: None)
    reactor.run(until=lambda: next(turns))
    waking.cancel()


def make(reactor: Reactor, count: int) -> WorkerPool:
    """Return a pool whose workers do nothing."""
    return WorkerPool(reactor, Settings(), count, lambda *_: 0)


def test_one_worker_is_started_in_each_iteration(reactor: Reactor, forked: list[WorkerProcess]) -> None:
    """A signal that arrives between forks waits for one fork only, however many workers are started."""
    make(reactor, 5).start()

    assert len(forked) == 1
    turn(reactor, 1)
    assert len(forked) == 2
    turn(reactor, 10)
    assert len(forked) == 5


def test_no_worker_is_started_after_the_stop(reactor: Reactor, forked: list[WorkerProcess]) -> None:
    """If the runner is told to stop while workers are being started, no more workers are started."""
    pool = make(reactor, 5)
    pool.start()
    turn(reactor, 1)

    pool.stop(1.0)
    turn(reactor, 3)

    assert len(forked) == 2


def test_a_reload_during_the_start_does_not_add_workers(reactor: Reactor, forked: list[WorkerProcess]) -> None:
    """If the runner is told to reload while workers are being started, all of them are replaced, and no further ones are started."""
    pool = make(reactor, 3)
    pool.start()
    turn(reactor, 1)

    pool.reload("the test")
    turn(reactor, 10)

    assert [worker.stage for worker in forked] == [Stage.DOOMED] * 2 + [Stage.STARTING] * 3


@pytest.fixture
def pool(reactor: Reactor, forked: list[WorkerProcess], ends: list[Channel]) -> WorkerPool:
    """A pool with three workers that serve."""
    pool = make(reactor, 3)
    pool.start()
    turn(reactor, 5)
    for end in ends:
        end.send(Ready())
    turn(reactor, 5)
    assert pool.serving == forked
    return pool


def received(end: Channel) -> list[AnyMessage]:
    """Return what a worker has received."""
    return [message for message, _ in end.receive()]


def exit_of(worker: WorkerProcess, status: int, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pool find out that a worker has exited. `status` is as from `os.waitpid`."""
    exits = iter([(worker.pid, status), (0, 0)])
    monkeypatch.setattr(os, "waitpid", lambda pid, options: next(exits))
    pool.reap()


@pytest.mark.parametrize(("max_requests", "longest"), [(0, 0), (5, 5), (100, 110)])
def test_workers_differ_by_a_tenth_in_how_many_calls_they_answer(
    reactor: Reactor, forked: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch, max_requests: int, longest: int
) -> None:
    for chosen in (lambda stop: 0, lambda stop: stop - 1):
        monkeypatch.setattr(random, "randrange", chosen)
        WorkerPool(reactor, Settings(max_requests=max_requests), 1, lambda *_: 0).start()

    assert [worker.calls_limit for worker in forked] == [max_requests, longest]


def test_a_blocking_plugin_is_made_known_to_all_other_workers(
    reactor: Reactor, pool: WorkerPool, ends: list[Channel], marked: list[frozenset[str]]
) -> None:
    mark: Message = BlockingMark("slow")
    ends[1].send(BlockingMark("slow"))
    turn(reactor, 3)
    pool.reload("the test")

    assert [received(end) for end in ends[:3]] == [[mark], [], [mark]]
    assert marked == [frozenset(), frozenset(), frozenset(), frozenset({"slow"})]


@pytest.mark.parametrize(
    ("stage", "status", "logged"),
    [
        (Stage.SERVING, 0, ["exited with status 0"]),
        (Stage.SERVING, 9, ["was killed by signal 9 (Killed)"]),
        (Stage.LEAVING, 0, []),
        (Stage.LEAVING, 256, ["exited with status 1"]),
        (Stage.DOOMED, 9, []),
    ],
)
def test_an_exit_that_nobody_wanted_is_logged(
    pool: WorkerPool,
    forked: list[WorkerProcess],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stage: Stage,
    status: int,
    logged: list[str],
) -> None:
    forked[0].stage = stage
    exit_of(forked[0], status, pool, monkeypatch)

    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [f"{forked[0]} {fate}, and 0 connections ended with it" for fate in logged]


def test_a_worker_that_has_exited_is_replaced_by_one(
    reactor: Reactor, pool: WorkerPool, forked: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool._backoff, "next_delay_s", lambda lived_s: 0.0)
    exit_of(forked[0], 0, pool, monkeypatch)
    turn(reactor, 5)

    assert (len(forked), pool.restarts) == (4, 1)


def test_a_reload_replaces_all_workers_once_the_new_ones_are_ready(
    reactor: Reactor, pool: WorkerPool, forked: list[WorkerProcess], ends: list[Channel]
) -> None:
    pool.reload("the test")
    turn(reactor, 5)
    assert (len(forked), pool.serving) == (6, forked[:3])

    for end in ends[3:]:
        end.send(Ready())
    turn(reactor, 5)

    assert pool.serving == forked[3:]
    assert [received(end) for end in ends[:3]] == [[Drain()]] * 3


def test_a_second_reload_waits_for_the_first(reactor: Reactor, pool: WorkerPool, forked: list[WorkerProcess], ends: list[Channel]) -> None:
    pool.reload("first")
    turn(reactor, 5)
    pool.reload("second")
    turn(reactor, 5)
    assert [worker.stage for worker in forked] == [Stage.SERVING] * 3 + [Stage.STARTING] * 3

    for end in ends[3:]:
        end.send(Ready())
    turn(reactor, 10)

    assert [worker.stage for worker in forked] == [Stage.LEAVING] * 3 + [Stage.SERVING] * 3 + [Stage.STARTING] * 3


def test_a_second_reload_aborts_one_that_takes_too_long(
    reactor: Reactor, pool: WorkerPool, forked: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.reload("first")
    turn(reactor, 5)
    monkeypatch.setattr(pool_module, "STALE_S", 0.0)
    pool.reload("second")
    turn(reactor, 5)

    assert [worker.stage for worker in forked] == [Stage.SERVING] * 3 + [Stage.DOOMED] * 3 + [Stage.STARTING] * 3


@pytest.mark.parametrize("failing", [1, 2, 4])
def test_a_worker_that_cannot_be_forked_is_started_later(
    reactor: Reactor, forked: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: int
) -> None:
    """The attempt to fork one worker fails as if the system could not start another process."""
    fork = vars(pool_module)["fork_worker"]

    def fail_once(count: int, *arguments: object) -> WorkerProcess:
        if count == failing:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        worker: WorkerProcess = fork(count, *arguments)
        return worker

    monkeypatch.setattr(pool_module, "fork_worker", fail_once)
    pool = make(reactor, 4)
    monkeypatch.setattr(pool._backoff, "next_delay_s", lambda lived_s: 0.0)
    pool.start()
    turn(reactor, 15)

    assert (sorted(worker.number for worker in forked), pool.failure) == (sorted({1, 2, 3, 4, 5} - {failing}), None)
    assert "a worker can't be started: Resource temporarily unavailable (look at ulimit -u and the memory)" in caplog.text


@pytest.mark.parametrize(
    ("stage", "in_flight", "late_s", "busy"),
    [
        pytest.param(Stage.SERVING, 0, 0.0, False, id="no call"),
        pytest.param(Stage.SERVING, 1, 0.0, True, id="a call"),
        pytest.param(Stage.LEAVING, 1, 0.0, True, id="a call of a worker that leaves"),
        pytest.param(Stage.SERVING, 0, 5.0, True, id="a late heartbeat"),
        pytest.param(Stage.STARTING, 0, 5.0, False, id="a worker that imports plugins"),
    ],
)
def test_a_pool_is_busy_while_a_call_is_in_progress(pool: WorkerPool, stage: Stage, in_flight: int, late_s: float, busy: bool) -> None:
    """A worker whose heartbeat is late is probably running one."""
    for worker in pool.workers.values():
        worker.heartbeat.due_s = time.monotonic() + 1000.0
    worker.stage, worker.in_flight = stage, in_flight
    if late_s:
        worker.heartbeat.due_s = time.monotonic() - late_s

    assert pool.busy is busy


def test_a_worker_that_does_not_leave_in_time_is_killed(
    reactor: Reactor, pool: WorkerPool, forked: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid is not used any more once it has exited."""
    later: list[tuple[float, Callable[[], object]]] = []
    killed: list[WorkerProcess] = []
    monkeypatch.setattr(reactor, "call_later", lambda delay_s, callback: later.append((delay_s, callback)))
    monkeypatch.setattr(WorkerProcess, "kill", lambda worker: killed.append(worker))
    first, second, third = forked

    pool.pass_all_to(lambda connection: None)
    exit_of(second, 0, pool, monkeypatch)
    for delay_s, callback in later:
        assert delay_s > Settings().plugin_timeout_s
        callback()

    assert killed == [first, third]


def test_messages_that_a_worker_does_not_read_are_sent_later(
    reactor: Reactor, pool: WorkerPool, forked: list[WorkerProcess], ends: list[Channel]
) -> None:
    worker, end = forked[0], ends[0]
    received(end)
    with socket.socket(fileno=os.dup(worker.channel.fileno())) as channel:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    marks = [BlockingMark(f"plugin {number:0500}") for number in range(100)]
    for mark in marks:
        pool.send(worker, mark)
    assert worker.channel.wants_write

    arrived: list[AnyMessage] = []
    for _ in range(200):
        turn(reactor, 1)
        arrived += received(end)
        if len(arrived) == len(marks):
            break

    assert arrived == marks
    assert not worker.channel.wants_write
