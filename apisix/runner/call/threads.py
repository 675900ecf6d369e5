# SPDX-License-Identifier: Apache-2.0
"""A pool of threads for blocking plugins, in which a thread that does not come back can be abandoned."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger(__name__)


class Job:
    """One function for one thread. `thread_id` is `threading.get_ident()` of the thread that runs it, 0 before."""

    __slots__ = ("abandoned", "function", "replaced", "running", "thread_id")

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.thread_id = 0
        self.running = False
        self.abandoned = False
        self.replaced = False


class ThreadPool:
    """
    Run functions in up to `size` threads, which are started as they are needed and never joined.

    A standard executor waits for its threads at exit, and one that hangs lowers its capacity for good. Here the
    threads are daemons, and an abandoned one is replaced, up to `size` of them at a time. Source: design, 4 and 7.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._abandoned = 0

    @property
    def abandoned(self) -> int:
        """How many threads are stuck in a function that nobody waits for."""
        return self._abandoned

    def submit(self, job: Job) -> None:
        """Run the function of `job`, which must not raise, in a thread as soon as one is free."""
        with self._lock:
            self._queue.put(job)
            if self._idle < self._queue.qsize():
                self._start_thread()

    def abandon(self, job: Job) -> None:
        """Wait no longer for `job`: it does not start any more, or its thread is replaced."""
        with self._lock:
            if job.abandoned:
                return
            job.abandoned = True
            if not job.running:
                return
            self._abandoned += 1
            if self._abandoned <= self._size:
                job.replaced = True
                self._threads -= 1
                if not self._queue.empty():
                    self._start_thread()
            else:
                logger.error("%d threads hang in blocking plugins: this one is not replaced", self._abandoned)

    def close(self) -> None:
        """End the idle threads. Those that are busy are left to themselves: they are daemons."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _start_thread(self) -> None:
        if self._threads < self._size:
            self._threads += 1
            threading.Thread(target=self._work, name="blocking-plugin", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._queue.get()
            with self._lock:
                self._idle -= 1
                if job is None:
                    self._threads -= 1
                    return
                if job.abandoned:
                    continue
                job.running = True
                job.thread_id = threading.get_ident()
            job.function()
            with self._lock:
                job.running = False
                if job.abandoned:
                    self._abandoned -= 1
                    if job.replaced:
                        return
