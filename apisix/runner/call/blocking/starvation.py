# SPDX-License-Identifier: Apache-2.0
"""Measure for how long a thread was ready to run, but had to wait for a processor."""

import threading
from collections import deque
from typing import Final

MAX_SAMPLES: Final = 100


class Starvation:
    """
    Measures for how long a thread has waited for a processor, on a busy machine or in a container that has used up its CPU quota.

    The result is always 0 if the system does not report these times. An instance must be created in the thread to measure. Its methods can
    be called in any thread.
    """

    def __init__(self) -> None:
        self._file = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._samples: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)

    def sample(self, now_s: float) -> None:
        """Record the total so far. Must be called regularly, because `since_s` subtracts an earlier total."""
        self._samples.append((now_s, self._total_s()))

    def since_s(self, then_s: float) -> float:
        """Return for how many seconds the thread has waited since the last sample that is not after `then_s`."""
        samples = list(self._samples)
        if not samples:
            return 0.0
        before_s = next((total_s for sampled_s, total_s in reversed(samples) if sampled_s <= then_s), samples[0][1])
        return self._total_s() - before_s

    def _total_s(self) -> float:
        try:
            with open(self._file, "rb") as file:
                return int(file.read().split()[1]) / 1e9  # run time and time on the run queue in nanoseconds, and the number of time slices
        except (OSError, ValueError, IndexError):
            return 0.0
