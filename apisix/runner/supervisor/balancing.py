# SPDX-License-Identifier: Apache-2.0
"""
Which worker gets a connection, and which has too many.

Event loops that accept from one socket themselves share very unevenly (6, 26 and 32 of 64 were measured). Source: design, 7.
"""

import math
from collections.abc import Sequence
from typing import Final

from apisix.runner.supervisor.worker_process import WorkerProcess

UNEVEN: Final = 1.25
"""A worker with more than this times the mean of connections has too many. Source: design, 7."""


def emptiest(serving: Sequence[WorkerProcess], now_s: float) -> WorkerProcess:
    """Return the worker that should get the next connection: the one with fewest, but one that stands still only where all do."""
    return min(serving, key=lambda worker: (worker.late(now_s), worker.load, worker.in_flight))


def excesses(serving: Sequence[WorkerProcess], now_s: float) -> list[tuple[WorkerProcess, int]]:
    """Return who should hand back how many connections, so that nobody has too many. Workers that stand still are left alone."""
    turning = [worker for worker in serving if not worker.late(now_s)]
    if len(turning) < 2:
        return []
    mean = sum(worker.load for worker in turning) / len(turning)
    fair = math.ceil(mean)
    return [(worker, worker.load - fair) for worker in turning if worker.load > max(fair, UNEVEN * mean)]
