# SPDX-License-Identifier: Apache-2.0
"""The back-off of a pool whose processes keep ending."""

import math
from typing import Final

FIRST_DELAY_S: Final = 0.1
"""How long no process is started after the second one in succession has ended, in seconds. It doubles with each one."""
LONGEST_DELAY_S: Final = 5.0
"""The longest delay, in seconds."""


class BackOff:
    """Decides when a process may be started. The first one that ends is replaced at once."""

    def __init__(self) -> None:
        self._delay_s = 0.0
        self._until_s = 0.0
        self._last_s = -math.inf

    def failed(self, began_s: float, now_s: float) -> None:
        """
        Called when a process has ended by itself, or can't be started.

        Args: began_s, now_s: when it was started, and the time, as of the event loop. Processes that end together count as one.
        """
        if began_s < self._last_s:
            return
        self._last_s = now_s
        self._until_s = max(self._until_s, now_s + self._delay_s)
        self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)

    def reset(self) -> None:
        """Called when a hook has returned."""
        self._delay_s = 0.0

    def left_s(self, now_s: float) -> float:
        """Return how long no process may be started, in seconds."""
        return max(0.0, self._until_s - now_s)
