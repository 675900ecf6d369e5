# SPDX-License-Identifier: Apache-2.0
"""Increments of the shared store by four processes, one of which is killed each second and replaced: none is lost."""

import mmap
import multiprocessing
import os
import random
import signal
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import msgspec

from apisix import Store
from apisix.runner.settings.table import Settings
from apisix.runner.state import backend
from apisix.runner.worker.shared_store import memory_directory, opener_for

WORKERS: Final = 4
KEY: Final = "total"
CHURN_EVERY: Final = 20
"""After so many increments, a process stores an entry that soon expires, so that pages of the file are freed and used again."""
CHURN_BYTES: Final = 3000
CHURN_TTL_S: Final = 0.05
MAX_PROCESSES: Final = 10_000
ENDS_WITHIN_S: Final = 60.0

_fork = multiprocessing.get_context("fork")  # as workers are started


class Counted(msgspec.Struct):
    """
    The result.

    An increment is acknowledged if `incr` has returned and the process has noted that in shared memory. If a process is killed between the
    two, one increment of it is counted but not acknowledged. So the total may exceed the acknowledged increments by the number of kills.

    Attributes:
        acknowledged: how many increments were noted.
        total: the value of the entry in the store.
        kills: how many processes were killed.
        errors: how many processes ended because of an error.
        seconds: how long it took.
    """

    acknowledged: int
    total: int
    kills: int
    errors: int
    seconds: float

    @property
    def is_correct(self) -> bool:
        """True if no acknowledged increment is missing, and there are not more others than kills."""
        return self.acknowledged <= self.total <= self.acknowledged + self.kills and self.errors == 0


class _Workers:
    """The processes, and how many increments each of them has noted."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings = settings
        self._left = [count // WORKERS] * WORKERS
        self._left[0] += count % WORKERS
        self._running: dict[int, tuple[int, BaseProcess]] = {}  # by place, with the number of the process
        self._started = 0
        self._noted = memoryview(mmap.mmap(-1, MAX_PROCESSES * 8)).cast("Q")  # forked processes share the memory
        self._random = random.Random(1)  # noqa: S311  # reproducible, and no secret
        self.kills = 0
        self.errors = 0

    @property
    def acknowledged(self) -> int:
        return sum(self._noted.tolist())

    def start_missing(self) -> bool:
        """Start processes for places that have increments left. Return False if none is running."""
        for place, left in enumerate(self._left):
            if left and place not in self._running:
                number, self._started = self._started, self._started + 1
                process = _fork.Process(target=_increment, args=(self._settings, self._noted, number, left), daemon=True)
                process.start()
                self._running[place] = number, process
        return bool(self._running)

    def kill_one(self) -> None:
        """Kill a process, whatever it is doing."""
        _, process = self._running[self._random.choice(list(self._running))]
        process.kill()
        process.join(ENDS_WITHIN_S)

    def collect(self) -> None:
        """Note which processes have ended."""
        for place, (number, process) in list(self._running.items()):
            if process.exitcode is None:
                continue
            del self._running[place]
            if process.exitcode in (0, -signal.SIGKILL):
                self.kills += process.exitcode != 0
                self._left[place] -= self._noted[number]
            else:
                self.errors += 1
                self._left[place] = 0


def count_up(count: int, *, kill_every_s: float) -> Counted:
    """Increment an entry `count` times, while a process is killed every so many seconds."""
    with tempfile.TemporaryDirectory(prefix="increments-", dir=memory_directory()) as name:
        settings = Settings(socket_file=str(Path(name) / "runner.sock"), state_directory=name)
        workers = _Workers(settings, count)
        began_s = time.monotonic()
        next_kill_s = began_s + kill_every_s
        while workers.start_missing():
            if time.monotonic() >= next_kill_s:
                next_kill_s += kill_every_s
                workers.kill_one()
            workers.collect()
            time.sleep(0.002)
        seconds = time.monotonic() - began_s
        return Counted(workers.acknowledged, _total(settings), workers.kills, workers.errors, seconds)


def _increment(settings: Settings, noted: "memoryview[int]", number: int, count: int) -> None:
    backend.choose(opener_for(settings))
    counts, churn, filler = Store("counts"), Store("churn"), bytes(CHURN_BYTES)
    for done in range(1, count + 1):
        counts.incr(KEY)
        noted[number] = done
        if done % CHURN_EVERY == 0:
            churn.set(f"{number}-{done}", filler, ttl_s=CHURN_TTL_S)
    os._exit(0)


def _total(settings: Settings) -> int:
    opened = opener_for(settings)()
    try:
        return int(Store("counts", _backend=lambda: opened).get(KEY))
    finally:
        opened.close()


def run(count: int, kill_every_s: float) -> bool:
    """Count up, and print the result. Return True if no increment was lost."""
    counted = count_up(count, kill_every_s=kill_every_s)
    lost, more = max(0, counted.acknowledged - counted.total), max(0, counted.total - counted.acknowledged)
    print(
        f"{counted.acknowledged:,} increments acknowledged by {WORKERS} processes in {counted.seconds:.0f} s "
        f"({counted.acknowledged / counted.seconds:,.0f} a second); {counted.kills:,} processes killed, {counted.errors} ended with an "
        f"error; the store has {counted.total:,}: {lost} lost, {more} counted but not acknowledged"
    )
    return counted.is_correct
