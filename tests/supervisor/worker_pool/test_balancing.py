# SPDX-License-Identifier: Apache-2.0
"""How connections are spread over workers."""

from collections.abc import Iterator

import pytest

from apisix.runner.ipc.channel import Channel
from apisix.runner.supervisor.worker_pool.balancing import least_loaded, surpluses
from apisix.runner.supervisor.worker_pool.worker_process import LATE_S, WorkerProcess
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.stack_dump import StackDump


@pytest.fixture
def workers() -> Iterator[list[WorkerProcess]]:
    """Four workers, as the supervisor sees them, whose heartbeat is due at 1000.0."""
    made = []
    for number in range(4):
        ours, theirs = Channel.pair()
        theirs.close()
        worker = WorkerProcess(number, 0, ours, StackDump(), Heartbeat(), 0)
        worker.heartbeat.due_s = 1000.0
        made.append(worker)
    yield made
    for worker in made:
        worker.close()


def having(workers: list[WorkerProcess], *connections: int) -> list[WorkerProcess]:
    """Give each worker this number of connections."""
    for worker, count in zip(workers, connections, strict=True):
        worker.connections = count
    return workers


def test_the_least_loaded_gets_the_next(workers: list[WorkerProcess]) -> None:
    """The worker with the fewest connections gets the next one. If several have as few, the one with the fewest waiting calls does."""
    having(workers, 3, 2, 2, 5)
    workers[1].in_flight = 1

    assert least_loaded(workers, 1000.1) is workers[2]


def test_a_late_worker_gets_none(workers: list[WorkerProcess]) -> None:
    """A worker whose heartbeat is late gets no connection while another one is not late. If all are late, the least loaded one gets it."""
    having(workers, 3, 0, 2, 5)
    now_s = 1000.0 + 2 * LATE_S
    for speaking in (0, 2, 3):
        workers[speaking].heartbeat.due_s = now_s

    assert least_loaded(workers, now_s) is workers[2]
    assert least_loaded(workers, now_s + 60) is workers[1]


@pytest.mark.parametrize(
    ("connections", "expected"),
    [
        ((16, 16, 16, 16), {}),
        ((20, 15, 15, 14), {}),
        ((21, 21, 22, 0), {0: 5, 1: 5, 2: 6}),
        ((1, 0, 0, 0), {}),
        ((2, 0, 0, 0), {0: 1}),
        ((0, 0, 0, 0), {}),
        ((64, 0, 0, 0), {0: 48}),
    ],
)
def test_workers_with_too_many_connections(workers: list[WorkerProcess], connections: tuple[int, ...], expected: dict[int, int]) -> None:
    """A worker with more than 1.25 times the mean hands back the connections above the mean. Others hand back none."""
    having(workers, *connections)

    assert {worker.number: count for worker, count in surpluses(workers, 1000.1)} == expected


def test_a_stuck_worker_is_ignored(workers: list[WorkerProcess]) -> None:
    """A stuck worker hands back no connections, and does not count for the mean."""
    having(workers, 40, 8, 8, 8)
    for worker in workers[1:]:
        worker.heartbeat.due_s = 1010.0

    assert surpluses(workers, 1010.0) == []
    assert surpluses(workers[:1], 1000.0) == []
