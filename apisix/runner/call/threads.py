# SPDX-License-Identifier: Apache-2.0
"""Pools of threads for blocking plugins, in which a thread that hangs can be abandoned."""

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from apisix.runner.call.blocking import places
from apisix.runner.errors import Overloaded
from apisix.runner.plugin.forked import end_if_child

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Job:
    """
    One function for one thread.

    Attributes:
        thread_id: `threading.get_ident()` of the thread that runs it, 0 before.
        running: True while it runs.
        outcome: for whoever waits for the job: the result and the exception, of which one is None. Empty until it has run.
    """

    __slots__ = ("abandoned", "function", "outcome", "pool", "replaced", "running", "thread_id")

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.thread_id = 0
        self.running = False
        self.abandoned = False
        self.replaced = False
        self.pool: ThreadPool | None = None
        self.outcome: list[tuple[Any, BaseException | None]] = []

    def abandon(self) -> None:
        """Stop waiting for the job: if it has not started, it never will; else its thread is replaced."""
        if self.pool is not None:
            self.pool.abandon(self)


class ThreadPool:
    """
    Run functions in up to `size` threads, which are started when they are needed and never joined.

    A standard executor waits for its threads at exit, and each thread that hangs lowers its capacity permanently. Here the threads are
    daemons, and an abandoned one is replaced, up to `size` of them at a time. Source: design, 4 and 7.

    Args:
        size: how many threads may run at once. Those that were abandoned and replaced do not count.
        plugin: the plugin whose functions are run, for the log.
    """

    def __init__(self, size: int, plugin: str = "") -> None:
        self._size = size
        self._plugin = plugin
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._free = 0  # idle threads less waiting functions, so it is below 0 while functions wait
        self._abandoned = 0
        self._replaced = 0

    @property
    def waiting(self) -> int:
        """How many functions wait for a thread."""
        return self._queue.qsize()

    @property
    def abandoned(self) -> int:
        """How many threads are stuck in an abandoned function."""
        return self._abandoned

    def submit(self, job: Job) -> None:
        """
        Run the function of `job` in a thread as soon as one is free. The function must not raise.

        Raises: Overloaded: all threads are stuck, and none of them is replaced any more.
        """
        with self._lock:
            if self._abandoned - self._replaced >= self._size:
                raise Overloaded(f"all threads of plugin {self._plugin} are stuck, {self._abandoned} of them")
            self._free -= 1
            if self._free < 0:
                self._start_thread()
            job.pool = self
            self._queue.put(job)

    def abandon(self, job: Job) -> None:
        """Stop waiting for `job`: if it has not started, it never will; else its thread is replaced."""
        with self._lock:
            if job.abandoned:
                return
            job.abandoned = True
            if not job.running:
                return
            self._abandoned += 1
            if self._replaced < self._size:
                job.replaced = True
                self._replaced += 1
                self._threads -= 1
                if not self._queue.empty():
                    self._start_thread()
            is_last = self._abandoned == self._size
        if is_last:  # once for all of them, not once for each
            logger.error(
                "plugin %s: %d of its threads are stuck, the last one in %s. If its other threads get stuck too, its calls are refused at "
                "once; other plugins are not affected. Give every library that it calls a timeout shorter than plugin_timeout",
                self._plugin,
                self._abandoned,
                places.of_thread(job.thread_id) or "code that has no Python frame",
            )

    async def run(self, function: Callable[[], T]) -> T:
        """
        Run `function` in a thread, in the current context, and return its result or raise what it raised.

        If the coroutine is cancelled meanwhile, the thread goes on.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        done: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

        def work() -> None:
            outcome: tuple[T | None, BaseException | None]
            try:
                outcome = context.run(function), None
            except BaseException as error:  # the plugin's: it is raised in the coroutine
                outcome = None, error
            end_if_child(outcome[1])
            try:
                loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(outcome))
            except RuntimeError:
                return  # the loop has closed: the worker is gone

        self.submit(Job(work))
        result, error = await done
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # there is a result if nothing was raised

    def close(self) -> None:
        """End the idle threads. Busy ones are daemons and keep running."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _start_thread(self) -> None:
        if self._threads < self._size:
            self._threads += 1
            # Where coroutines were created is tracked for each thread separately. `watching.py` needs it in all threads.
            depth = sys.get_coroutine_origin_tracking_depth()
            threading.Thread(target=self._work, args=(depth,), name="blocking-plugin", daemon=True).start()

    def _work(self, depth: int) -> None:
        sys.set_coroutine_origin_tracking_depth(depth)
        while True:
            with self._lock:
                self._free += 1
            job = self._queue.get()
            with self._lock:
                if job is None:
                    self._free -= 1
                    self._threads -= 1
                    return
                if job.abandoned:
                    continue
                job.running = True
                job.thread_id = threading.get_ident()
            job.function()
            end_if_child()
            with self._lock:
                job.running = False
                if job.abandoned:
                    self._abandoned -= 1
                    if job.replaced:
                        self._replaced -= 1
                        return


class PluginThreads:
    """
    A pool of threads for each plugin. A plugin whose calls hang uses up its own threads, and no other plugin has to wait.

    Must be used in the event loop's thread.

    Args: size: of each pool.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pools: dict[str, ThreadPool] = {}

    @property
    def abandoned(self) -> int:
        """How many threads are stuck in an abandoned function."""
        return sum(pool.abandoned for pool in self._pools.values())

    def of(self, plugin: str) -> ThreadPool:
        """Return the pool of a plugin."""
        pool = self._pools.get(plugin)
        if pool is None:
            pool = self._pools[plugin] = ThreadPool(self._size, plugin)
        return pool

    def close(self) -> None:
        """End the idle threads. Busy ones are daemons and keep running."""
        for pool in self._pools.values():
            pool.close()
