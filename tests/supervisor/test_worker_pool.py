# SPDX-License-Identifier: Apache-2.0
"""How workers are started, with a fork that starts none."""

from collections.abc import Iterator

import pytest

from apisix.runner.ipc.channel import Channel
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor import worker_pool as worker_pool
from apisix.runner.supervisor.forking import Body
from apisix.runner.supervisor.worker_pool import WorkerPool
from apisix.runner.supervisor.worker_process import WorkerProcess
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
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[WorkerProcess]]:
    """The workers that were forked so far; there is no process behind them."""
    workers: list[WorkerProcess] = []
    ends: list[Channel] = []

    def fork(number: int, calls_limit: int, marks: frozenset[str], body: Body, forget: object) -> WorkerProcess:
        ours, theirs = Channel.pair()
        ends.append(theirs)
        workers.append(WorkerProcess(number, NO_PROCESS + number, ours, StackDump(), Heartbeat(), calls_limit))
        return workers[-1]

    monkeypatch.setattr(worker_pool, "fork_worker", fork)
    yield workers
    for worker in workers:
        worker.close()
    for end in ends:
        end.close()


def turn(reactor: Reactor, times: int) -> None:
    """Let the reactor turn."""
    turns = iter([False] * times + [True])
    waking = reactor.call_every(0.001, lambda: None)
    reactor.run(until=lambda: next(turns))
    waking.cancel()


def make(reactor: Reactor, count: int) -> WorkerPool:
    """Return a pool whose workers do nothing."""
    return WorkerPool(reactor, Settings(), count, lambda *_: 0)


def test_one_worker_is_started_in_each_turn(reactor: Reactor, forked: list[WorkerProcess]) -> None:
    """However many workers are wanted, what comes in between, such as a signal, waits for one fork only."""
    make(reactor, 5).start()

    assert len(forked) == 1
    turn(reactor, 1)
    assert len(forked) == 2
    turn(reactor, 10)
    assert len(forked) == 5


def test_no_worker_is_started_after_the_stop(reactor: Reactor, forked: list[WorkerProcess]) -> None:
    """Told to stop while workers are being started, no other is."""
    pool = make(reactor, 5)
    pool.start()
    turn(reactor, 1)

    pool.stop(1.0)
    turn(reactor, 3)

    assert len(forked) == 2
