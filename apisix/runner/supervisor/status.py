# SPDX-License-Identifier: Apache-2.0
"""The state of the runner as /health and /metrics show it."""

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from apisix.runner.metrics.families import PREFIX, Family, counter, gauge
from apisix.runner.metrics.http_end import Page
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.worker_process import Stage, resident_bytes


class Refusals(NamedTuple):
    """
    How many connections the supervisor has refused.

    Attributes:
        peers: because their user may not connect.
        connections: because there were too many, or no file descriptor was left.
    """

    peers: int
    connections: int


def health_page(pool: WorkerPool) -> Page:
    """Return the page /health: status 200 if at least one serving worker has a running event loop. `apisix-runner health` checks more."""
    now_s = time.monotonic()
    serving = pool.serving
    responsive = [worker for worker in serving if not worker.silent(now_s)]
    status = HTTPStatus.OK if responsive else HTTPStatus.SERVICE_UNAVAILABLE
    body = {"ok": bool(responsive), "workers": len(serving), "silent": len(serving) - len(responsive)}
    return Page(json.dumps(body).encode() + b"\n", "application/json", status)


def all_families(pool: WorkerPool, refusals: Refusals) -> list[Family]:
    """Return the metrics of the supervisor, and the sums over all workers."""
    return [*supervisor_families(pool, refusals), *pool.totals.families()]


def supervisor_families(pool: WorkerPool, refusals: Refusals) -> Iterator[Family]:
    """Yield the metrics that the supervisor counts itself."""
    workers = list(pool.workers.values())
    stages = Counter(worker.stage for worker in workers)
    yield gauge(f"{PREFIX}info", "The runner.", ((("version", _version()), ("python", platform.python_version())), 1))
    yield gauge(f"{PREFIX}workers", "Workers, by stage.", *[((("stage", stage.value),), stages[stage]) for stage in Stage])
    yield counter(f"{PREFIX}worker_restarts", "Workers started to replace ones that exited unexpectedly.", ((), pool.restarts))
    yield gauge(f"{PREFIX}connections", "Open connections of the gateway.", ((), pool.connections))
    yield gauge(f"{PREFIX}calls_in_flight", "Calls that are waiting for something.", ((), sum(worker.in_flight for worker in workers)))
    yield counter(f"{PREFIX}peers_refused", "Connections refused because their user may not connect.", ((), refusals.peers))
    yield counter(f"{PREFIX}connections_refused", "Connections refused because there were too many.", ((), refusals.connections))
    memory = {"supervisor": resident_bytes(os.getpid()), "workers": sum(worker.memory_bytes() for worker in workers)}
    yield gauge(
        f"{PREFIX}memory_bytes",
        "Resident memory. Memory that processes share is counted in each of them.",
        *[((("process", name),), used) for name, used in memory.items()],
    )


def _version() -> str:
    try:
        return version("apisix-python-plugin-runner")
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"
