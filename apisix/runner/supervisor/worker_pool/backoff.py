# SPDX-License-Identifier: Apache-2.0
"""How long to wait before a failed worker is started again."""

from typing import Final

STEADY_S: Final = 10.0
"""If a worker ran for this long, in seconds, its failure counts as the first one."""
FIRST_S: Final = 0.25
LONGEST_S: Final = 5.0
"""Connections wait meanwhile, so this is much less than the gateway's timeout of 60 s."""


class Backoff:
    """No delay the first time, then FIRST_S, and twice as long after each further failure. Source: design, 7."""

    def __init__(self) -> None:
        self._failures = 0

    def next_delay_s(self, lived_s: float) -> float:
        """Return how long to wait after a worker has failed that ran for `lived_s`, both in seconds."""
        if lived_s >= STEADY_S:
            self._failures = 0
        self._failures += 1
        return 0.0 if self._failures == 1 else min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures - 2, 16))
