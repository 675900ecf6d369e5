# SPDX-License-Identifier: Apache-2.0
"""
Decide which worker gets a connection, and which has too many.

Event loops that accept from one socket themselves share the connections very unevenly. Source: design, 7.
"""

import math
from collections.abc import Sequence
from typing import Final

from apisix.runner.supervisor.worker_pool.worker_process import WorkerProcess

UNEVEN: Final = 1.25
"""A worker with more connections than this times the mean has too many. Source: design, 7."""


def least_loaded(serving: Sequence[WorkerProcess], now_s: float) -> WorkerProcess:
    """Return the worker that gets the next connection: the one with the fewest. Late workers only get one if all are late."""
    return min(serving, key=lambda worker: (worker.late(now_s), worker.load, worker.in_flight))


def surpluses(serving: Sequence[WorkerProcess], now_s: float) -> list[tuple[WorkerProcess, int]]:
    """Return how many connections each worker with too many should hand back. Late workers are ignored."""
    responsive = [worker for worker in serving if not worker.late(now_s)]
    if len(responsive) < 2:
        return []
    mean = sum(worker.load for worker in responsive) / len(responsive)
    fair = math.ceil(mean)
    return [(worker, worker.load - fair) for worker in responsive if worker.load > max(fair, UNEVEN * mean)]
