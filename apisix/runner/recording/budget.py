# SPDX-License-Identifier: Apache-2.0
"""Limit the processor time of a thread, which competes with the event loop for the interpreter."""

import time
from collections.abc import Callable
from typing import Final

BURST_S: Final = 1.0
"""How long the thread may have been idle and still use the share of that time, in seconds."""


class CpuBudget:
    """
    The processor time that one thread may use. Must be used by that thread only.

    Args:
        share: the part of one processor core, above 0 and up to 1.
        clock: returns the time in seconds.
        cpu_clock: returns the processor time of the thread, in seconds.
    """

    def __init__(
        self, share: float, clock: Callable[[], float] = time.monotonic, cpu_clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._share = share
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._credit_s = share * BURST_S
        self._at_s = clock()
        self._cpu_at_s = cpu_clock()

    def wait_s(self) -> float:
        """Return for how many seconds the thread must wait. 0 if it has not used its share up."""
        now_s, cpu_s = self._clock(), self._cpu_clock()
        self._credit_s += (now_s - self._at_s) * self._share - (cpu_s - self._cpu_at_s)
        self._credit_s = min(self._credit_s, self._share * BURST_S)
        self._at_s, self._cpu_at_s = now_s, cpu_s
        return max(0.0, -self._credit_s / self._share)
