# SPDX-License-Identifier: Apache-2.0
"""The pool counts the workers that serve, and the ones that it had to start again. There are no processes behind the workers."""

import os
import signal
from collections.abc import Iterator

import pytest

from apisix.runner.ipc.channel import Channel, Ready
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool import pool as pool_module
from apisix.runner.supervisor.worker_pool.forking import Body
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.worker_process import WorkerProcess
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.stack_dump import StackDump

NO_PROCESS = 1 << 30
"""Above every pid that a system has."""


class Pool:
    """A pool of two workers that are channels only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reactor = Reactor()
        self.workers: list[WorkerProcess] = []
        self.ends: list[Channel] = []
        self._exits: list[tuple[int, int]] = []
        monkeypatch.setattr(pool_module, "fork_worker", self._fork)
        monkeypatch.setattr(os, "waitpid", lambda pid, options: self._exits.pop() if self._exits else (0, 0))
        monkeypatch.setattr(os, "kill", lambda pid, number: None)
        self.pool = WorkerPool(self.reactor, Settings(), 2, lambda *_: 0)
        self.pool.start()
        self.turn()

    def _fork(self, number: int, calls_limit: int, marks: frozenset[str], body: Body, forget: object) -> WorkerProcess:
        ours, theirs = Channel.pair()
        self.ends.append(theirs)
        self.workers.append(WorkerProcess(number, NO_PROCESS + len(self.workers), ours, StackDump(), Heartbeat(), calls_limit))
        return self.workers[-1]

    def turn(self, times: int = 5) -> None:
        """Let the reactor turn."""
        turns = iter([False] * times + [True])
        waking = self.reactor.call_every(0.001, lambda: None)
        self.reactor.run(until=lambda: next(turns))
        waking.cancel()

    def serve(self, index: int) -> None:
        """Let a worker report that it is ready."""
        self.ends[index].send(Ready())
        self.ends[index].flush()
        self.turn()

    def end(self, index: int, status: int = signal.SIGKILL) -> None:
        """Let a worker end."""
        self._exits.append((self.workers[index].pid, status))
        self.pool.reap()

    def close(self) -> None:
        """Close the channels."""
        for worker in self.workers:
            worker.close()
        for end in self.ends:
            end.close()
        self.reactor.close()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool whose workers are starting."""
    made = Pool(monkeypatch)
    yield made
    made.close()


def test_connections_are_accepted_once_all_workers_serve(pool: Pool) -> None:
    assert (len(pool.pool.serving), pool.pool.ready) == (0, False)

    pool.serve(0)
    assert (len(pool.pool.serving), pool.pool.ready) == (1, False)

    pool.serve(1)
    assert (len(pool.pool.serving), pool.pool.ready) == (2, True)
    assert pool.pool.restarts == 0


def test_a_worker_that_ended_does_not_serve_and_counts_as_a_restart(pool: Pool) -> None:
    pool.serve(0)
    pool.serve(1)

    pool.end(0)

    assert (len(pool.pool.serving), pool.pool.restarts) == (1, 1)

    pool.end(1)

    assert (len(pool.pool.serving), pool.pool.restarts) == (0, 2)


def test_an_end_after_the_stop_is_no_restart(pool: Pool) -> None:
    pool.serve(0)
    pool.serve(1)
    pool.pool.stop(1.0)

    pool.end(0, 0)
    pool.turn()

    assert (len(pool.workers), pool.pool.restarts) == (2, 0)
