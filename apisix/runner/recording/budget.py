# SPDX-License-Identifier: Apache-2.0
"""Limit the processor time of a thread, which competes with the event loop for the interpreter."""

import threading
import time
from collections.abc import Callable
from typing import Final

SLICE_S: Final = 0.0005
"""The processor time that the thread may use without a pause, in seconds. The event loop may have to wait for it that long."""
BUSY_PART: Final = 0.05
"""The part of its share that the thread may use while the event loop is busy."""


class CpuBudget:
    """
    The processor time that one thread may use. Must be used by that thread only.

    While the event loop is idle, the thread does not delay calls, so it may use its whole share of that time. Time in which the event loop
    runs counts only in part. The thread works for a slice of time, and then waits until it may use another one. Slices are neither shorter,
    because the thread and the event loop wait for each other when the interpreter changes hands, nor longer, because calls wait meanwhile.

    Args:
        share: the part of one processor core, above 0 and up to 1.
        clock: returns the time in seconds.
        cpu_clock: returns the processor time of the thread, in seconds.
        loop_clock: returns the processor time of the event loop's thread, in seconds.
    """

    def __init__(
        self,
        share: float,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        loop_clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._share = share
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._loop_clock = loop_clock
        self._credit_s = SLICE_S
        self._at_s = clock()
        self._cpu_at_s = cpu_clock()
        self._loop_at_s = loop_clock()

    def wait_s(self) -> float:
        """
        Return for how many seconds the thread must wait. 0 if it has not used its slice up.

        After one wait the thread must work, and then call this again. Waking up takes processor time too. If the thread waited for what
        that has cost, it could do so forever. If the wait was too short, because the event loop has become busy, the next one is longer.
        """
        now_s, cpu_s, loop_s = self._clock(), self._cpu_clock(), self._loop_clock()
        passed_s, busy_s = now_s - self._at_s, loop_s - self._loop_at_s
        share = self._share
        if passed_s > 0:
            share *= 1.0 - (1.0 - BUSY_PART) * min(1.0, busy_s / passed_s)
        self._credit_s = min(self._credit_s + passed_s * share - (cpu_s - self._cpu_at_s), SLICE_S)
        self._at_s, self._cpu_at_s, self._loop_at_s = now_s, cpu_s, loop_s
        return (SLICE_S - self._credit_s) / share if self._credit_s <= 0.0 else 0.0


def cpu_clock_of_this_thread() -> Callable[[], float]:
    """Return a clock of the processor time of the calling thread, which other threads can read."""
    if not hasattr(time, "pthread_getcpuclockid"):  # macOS does not have it
        return lambda: 0.0
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
