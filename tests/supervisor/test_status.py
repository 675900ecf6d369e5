# SPDX-License-Identifier: Apache-2.0
"""The state of the runner, as /health and /metrics show it."""

import json
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from apisix.runner.ipc.channel import Channel
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.metrics.families import counter
from apisix.runner.metrics.page import metrics_page
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.status import Refusals, all_families, health_page
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.worker_process import SILENT_S, Stage, WorkerProcess
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.stack_dump import StackDump


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    """An empty pool, to which the tests add workers."""
    before = signal.getsignal(signal.SIGHUP)
    reactor = Reactor()
    pool = WorkerPool(reactor, Settings(), 2, lambda *_: 0)
    yield pool
    for worker in pool.workers.values():
        worker.close()
    reactor.close()
    signal.signal(signal.SIGHUP, before)


def add_worker(pool: WorkerPool, number: int, *, stage: Stage = Stage.SERVING, silent_s: float = 0.0) -> WorkerProcess:
    ours, theirs = socket.socketpair()
    theirs.close()
    worker = pool.workers[10**8 + number] = WorkerProcess(number, 10**8 + number, Channel(ours), StackDump(), Heartbeat(), 0)
    worker.stage = stage
    worker.heartbeat.due_s = time.monotonic() - silent_s
    return worker


def test_metrics_of_the_supervisor(pool: WorkerPool) -> None:
    """Workers, connections, calls, restarts and refusals are counted, and the metrics of the workers are added."""
    for number in (1, 2):
        worker = add_worker(pool, number)
        worker.connections, worker.in_flight = 3, 1
        pool.totals.take(number, counter("apisix_runner_calls", "Calls.", ((), 10)))
    add_worker(pool, 3, stage=Stage.STARTING)
    pool.restarts = 4
    lines = metrics_page(all_families(pool, Refusals(peers=5, connections=6))).body.decode().splitlines()

    assert {
        'apisix_runner_workers{stage="serving"} 2.0',
        'apisix_runner_workers{stage="starting"} 1.0',
        "apisix_runner_connections 6.0",
        "apisix_runner_calls_in_flight 2.0",
        "apisix_runner_worker_restarts_total 4.0",
        "apisix_runner_peers_refused_total 5.0",
        "apisix_runner_connections_refused_total 6.0",
        "apisix_runner_calls_total 20.0",
    } <= set(lines)


@pytest.mark.parametrize(
    ("workers", "status", "body"),
    [
        ((), 503, {"ok": False, "workers": 0, "silent": 0}),
        (((Stage.STARTING, 0.0),), 503, {"ok": False, "workers": 0, "silent": 0}),
        (((Stage.SERVING, 0.0), (Stage.SERVING, SILENT_S + 1)), 200, {"ok": True, "workers": 2, "silent": 1}),
        (((Stage.SERVING, SILENT_S + 1),), 503, {"ok": False, "workers": 1, "silent": 1}),
    ],
)
def test_health(pool: WorkerPool, workers: tuple[tuple[Stage, float], ...], status: int, body: dict[str, object]) -> None:
    """The status is 200 as long as the event loop of one serving worker runs."""
    for number, (stage, silent_s) in enumerate(workers):
        add_worker(pool, number, stage=stage, silent_s=silent_s)
    page = health_page(pool)

    assert (page.status, json.loads(page.body)) == (status, body)
