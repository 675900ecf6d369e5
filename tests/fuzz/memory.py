# SPDX-License-Identifier: Apache-2.0
"""Checks if the memory of a process grows during the test."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

LIMIT: Final = 0.10
WARM_PART: Final = 10
"""The first tenth is for caches and arenas to fill."""


def resident_mib(pid: int) -> float:
    """Return how much memory a process has in use, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Growth:
    """The memory of some processes after the first tenth of a run, and at its end."""

    def __init__(self, length: int, processes: Callable[[], list[int]] = lambda: [os.getpid()]) -> None:
        self._warm_at = length // WARM_PART
        self._last_at = length - 1
        self._processes = processes
        self.before_mib = self.after_mib = 0.0

    def look(self, number: int) -> None:
        """Record that input `number` was processed."""
        if number in (self._warm_at, self._last_at):
            self.after_mib = sum(map(resident_mib, self._processes()))
            if number == self._warm_at:
                self.before_mib = self.after_mib

    @property
    def small(self) -> bool:
        """True if the memory grew by less than a tenth."""
        return self.after_mib <= self.before_mib * (1 + LIMIT)

    def __str__(self) -> str:
        change = (self.after_mib / self.before_mib - 1) * 100 if self.before_mib else 0.0
        verdict = "" if self.small else " MISSED"
        return f"memory after the first tenth {self.before_mib:.1f} MiB, at the end {self.after_mib:.1f} MiB ({change:+.1f} %){verdict}"
