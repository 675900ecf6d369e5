# SPDX-License-Identifier: Apache-2.0
"""Measure for how long a thread could have run, but had no processor."""

import threading
from collections import deque
from typing import Final

NOTES: Final = 100


class Starvation:
    """
    For how long a thread has waited for a processor: on a busy machine, or in a container that has used up its share.

    Always 0 if the system does not report it. Must be created in the thread to measure; the methods can be called in any thread.
    """

    def __init__(self) -> None:
        self._file = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._notes: deque[tuple[float, float]] = deque(maxlen=NOTES)

    def note(self, now_s: float) -> None:
        """Record the total so far. Called now and then, so that `since_s` can subtract earlier totals."""
        self._notes.append((now_s, self._total_s()))

    def since_s(self, then_s: float) -> float:
        """Return for how long the thread has waited since `then_s`, or since the last note before that, in seconds."""
        notes = list(self._notes)
        if not notes:
            return 0.0
        before_s = next((total_s for noted_s, total_s in reversed(notes) if noted_s <= then_s), notes[0][1])
        return self._total_s() - before_s

    def _total_s(self) -> float:
        try:
            with open(self._file, "rb") as file:
                return int(file.read().split()[1]) / 1e9  # run time, time on the run queue, time slices: in nanoseconds
        except (OSError, ValueError, IndexError):
            return 0.0
