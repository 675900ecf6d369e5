# SPDX-License-Identifier: Apache-2.0
"""What the supervisor checks every second: workers that are stuck, use too much memory, or have too many connections."""

import logging
import time
from typing import Final

from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.worker_process import Stage, WorkerProcess

logger = logging.getLogger(__name__)

PERIOD_S: Final = 1.0
PAUSE_S: Final = 3.0
"""If the supervisor itself was stopped for this long, in seconds, the workers may have been stopped too, and are not late."""
YOUNG_S: Final = 3.0
"""A worker is not replaced for its memory before this age, in seconds. Otherwise a limit that is too low would cause constant restarts."""
DUMP_POLL_S: Final = 0.05
DUMP_POLLS: Final = 20
"""How often to look for the stack dump of a worker. A process that is stopped writes none."""


class Watchdog:
    """Checks the workers of `pool` every second, from its creation on."""

    def __init__(self, reactor: Reactor, settings: Settings, pool: WorkerPool) -> None:
        self._reactor = reactor
        self._settings = settings
        self._pool = pool
        self._looked_s = time.monotonic()
        reactor.call_every(PERIOD_S, self._look)

    def _look(self) -> None:
        now_s = time.monotonic()
        workers = list(self._pool.workers.values())
        if now_s - self._looked_s > PAUSE_S:
            # This process or the whole machine was stopped, so the workers may have been stopped too.
            for worker in workers:
                worker.heartbeat.due_s = max(now_s, worker.heartbeat.due_s)
        self._looked_s = now_s
        limit_bytes = self._settings.memory_limit_bytes
        for worker in workers:
            worker.channel.flush()
            if worker.stage is Stage.DOOMED:
                continue
            if now_s - worker.heartbeat.due_s > self._settings.worker_timeout_s:
                self._end_stuck(worker)
            elif limit_bytes and now_s - worker.started_s > YOUNG_S and (used_bytes := worker.memory_bytes()) > limit_bytes:
                self._pool.replace(worker, f"it uses {used_bytes >> 20} MiB of memory", forced=True)
        self._pool.even_out()

    def _end_stuck(self, worker: WorkerProcess) -> None:
        self._pool.give_up(worker)
        worker.dump.request(worker.pid)
        self._await_dump(worker, "", DUMP_POLLS)

    def _await_dump(self, worker: WorkerProcess, before: str, polls: int) -> None:
        if worker.pid not in self._pool.workers:
            return
        dump = worker.dump.read()
        if polls and not (dump and dump == before):
            self._reactor.call_later(DUMP_POLL_S, lambda: self._await_dump(worker, dump, polls - 1))
            return
        logger.error(
            "%s has been stuck for %g s and is killed. %s",
            worker,
            self._settings.worker_timeout_s,
            f"Its stacks:\n{dump}" if dump else "It did not write its stacks",
        )
        worker.kill()
