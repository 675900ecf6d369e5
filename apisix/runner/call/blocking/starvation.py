# SPDX-License-Identifier: Apache-2.0
"""Measure for how long a thread was ready to run, but had to wait for a processor, and for how long it has run."""

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
        # When the sample was taken, and for how long the thread had waited and run until then.
        self._samples: deque[tuple[float, float, float]] = deque(maxlen=MAX_SAMPLES)

    def sample(self, now_s: float) -> None:
        """Record the total so far. Must be called regularly, because `since_s` subtracts an earlier total."""
        self._samples.append((now_s, *self._totals_s()))

    def since_s(self, then_s: float) -> float:
        """Return for how many seconds the thread has waited since the last sample that is not after `then_s`."""
        before = self._sample_before(then_s)
        return 0.0 if before is None else self._totals_s()[0] - before[1]

    def bounds_of_run_s(self, then_s: float, now_s: float) -> tuple[float, float]:
        """
        Return for how many seconds the thread has run between `then_s` and now, as the least and the greatest possible value.

        They differ, because the last sample may be older than `then_s`. Without any sample, they are 0 and the whole time.
        """
        before = self._sample_before(then_s)
        took_s = now_s - then_s
        if before is None or before[0] > then_s:
            return 0.0, took_s
        ran_s = self._totals_s()[1] - before[2]
        return max(0.0, ran_s - (then_s - before[0])), min(ran_s, took_s)

    def _sample_before(self, then_s: float) -> tuple[float, float, float] | None:
        """Return the last sample that is not after `then_s`, or else the first one; None if there is none."""
        samples = list(self._samples)
        return next((sample for sample in reversed(samples) if sample[0] <= then_s), samples[0] if samples else None)

    def _totals_s(self) -> tuple[float, float]:
        try:
            with open(self._file, "rb") as file:
                # Run time and time on the run queue in nanoseconds, and the number of time slices.
                ran_ns, waited_ns = file.read().split()[:2]
                return int(waited_ns) / 1e9, int(ran_ns) / 1e9
        except (OSError, ValueError):
            return 0.0, 0.0
