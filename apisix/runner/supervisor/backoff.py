# SPDX-License-Identifier: Apache-2.0
"""How long to wait before what has failed is tried again."""

from typing import Final

STEADY_S: Final = 10.0
"""What lived this long, in seconds, has not failed at once: the next failure is a first one."""
FIRST_S: Final = 0.25
LONGEST_S: Final = 5.0
"""Connections wait meanwhile, so this is far below the gateway's 60 s."""


class Backoff:
    """At once the first time, then after 0.25 s, and twice as long with each failure in a row. Source: design, 7."""

    def __init__(self) -> None:
        self._failures = 0

    def next_delay_s(self, lived_s: float) -> float:
        """Return how long to wait, in seconds, now that something has failed that worked for `lived_s`."""
        if lived_s >= STEADY_S:
            self._failures = 0
        self._failures += 1
        return 0.0 if self._failures == 1 else min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures - 2, 16))
