# SPDX-License-Identifier: Apache-2.0
"""How a worker shows the supervisor that its event loop runs: a time in memory that both share, so no heartbeat wakes the supervisor up."""

import mmap
import time
from typing import Final

BUSY_S: Final = 0.1
"""How often a worker with something to do shows that its event loop runs, in seconds."""
IDLE_S: Final = 1.0
"""The same for a worker with nothing to do."""


class Heartbeat:
    """
    The time by which the event loop of a worker will have run again. Created by the supervisor before it forks the worker.

    A worker that is busy promises to run again soon, and keeps the promise. If a plugin blocks the event loop, the promise is broken.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self._due_s = memoryview(self._memory).cast("d")
        self.promise(0.0)

    @property
    def due_s(self) -> float:
        """The time by which the event loop runs again, by `time.monotonic`."""
        return self._due_s[0]

    @due_s.setter
    def due_s(self, due_s: float) -> None:
        self._due_s[0] = due_s

    def promise(self, within_s: float) -> None:
        """Promise that the event loop runs again within `within_s` seconds."""
        self._due_s[0] = time.monotonic() + within_s

    def close(self) -> None:
        """Release the memory in this process."""
        self._due_s.release()
        self._memory.close()
