# SPDX-License-Identifier: Apache-2.0
"""Run blocking plugins in pools of threads, in which a thread that does not return can be abandoned."""

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from apisix.runner.call.blocking import places
from apisix.runner.call.outcomes import Outcome, capture, unwrap
from apisix.runner.errors import Overloaded
from apisix.runner.plugin.forked import end_if_child

threads_logger = logging.getLogger("apisix.runner.call.threads")


class Job:
    """
    A function that runs once in a thread of a pool.

    Attributes:
        function: the function. It must not raise.
        thread_id: `threading.get_ident()` of the thread that runs the function, 0 before.
        running: True while the function runs.
        abandoned: True if nothing waits for the function any more.
        replaced: True if the pool may start another thread instead of the abandoned one.
        pool: the pool to which the job was submitted, None before.
        outcome: contains the outcome of the function if the function has put it there. The code that waits for the job takes it.
    """

    __slots__ = ("abandoned", "function", "outcome", "pool", "replaced", "running", "thread_id")

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.thread_id = 0
        self.running = False
        self.abandoned = False
        self.replaced = False
        self.pool: ThreadPool | None = None
        self.outcome: list[Outcome] = []

    def abandon(self) -> None:
        """Stop waiting for the job. If it has not started, it never runs. Otherwise its thread is replaced."""
        if self.pool is not None:
            self.pool.abandon(self)


class ThreadPool:
    """
    Run functions in up to `size` threads, which are started when they are needed and never joined.

    An executor of the standard library waits for its threads at exit, and each thread that does not return reduces its capacity
    permanently. Here the threads are daemons, and abandoned threads are replaced, up to `size` of them at a time. Source: design, 4 and 7.

    Args:
        size: how many threads may run at once. Abandoned threads that were replaced do not count.
        plugin: the name of the plugin whose functions run in the pool, for the log.
    """

    def __init__(self, size: int, plugin: str = "") -> None:
        self._size = size
        self._plugin = plugin
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._free = 0  # the number of idle threads minus the number of waiting functions
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
        Run the function of `job` in a thread as soon as a thread is free.

        Raises: Overloaded: all threads are stuck in abandoned functions, and no more threads are replaced.
        """
        with self._lock:
            if self._abandoned - self._replaced >= self._size:
                raise Overloaded(f"all {self._abandoned} threads of plugin {self._plugin} are stuck")
            self._free -= 1
            if self._free < 0:
                self._start_thread()
            job.pool = self
            self._queue.put(job)

    def abandon(self, job: Job) -> None:
        """Stop waiting for `job`. If it has not started, it never runs. Otherwise its thread is replaced."""
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
        if is_last:  # so it is logged once, not once for each thread
            threads_logger.error(
                "plugin %s: %d of its threads are stuck, the last one in %s. If its other threads get stuck too, its calls are refused "
                "immediately. Other plugins are not affected. Set timeouts shorter than plugin_timeout in every library that it calls",
                self._plugin,
                self._abandoned,
                places.of_thread(job.thread_id) or "code without a Python frame",
            )

    async def run(self, function: Callable[[], Any]) -> Any:
        """
        Run `function` in a thread, in the current context, and return its result or raise what it raised.

        If the coroutine is cancelled meanwhile, the thread continues.
        """
        job, done = self.start(function)
        await done
        return unwrap(job.outcome)

    def start(self, function: Callable[[], Any]) -> tuple[Job, "asyncio.Future[None]"]:
        """
        Run `function` in a thread, in the current context. Must be called in a coroutine.

        Returns: the job, which gets the outcome, and a future that is done when the function has returned.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        done: asyncio.Future[None] = loop.create_future()

        def set_done() -> None:
            if not done.done():
                done.set_result(None)

        def work() -> None:
            job.outcome.append(capture(lambda: context.run(function)))
            end_if_child(job.outcome[0][1])
            with suppress(RuntimeError):  # the loop is closed, because the worker exits
                loop.call_soon_threadsafe(set_done)

        job = Job(work)
        self.submit(job)
        return job, done

    def run_blocking(self, function: Callable[[], Any]) -> Any:
        """Run `function` in a thread, block the calling thread until it has returned, and return its result or raise what it raised."""
        done = threading.Event()

        def work() -> None:
            job.outcome.append(capture(function))
            done.set()

        job = Job(work)
        self.submit(job)
        done.wait()
        return unwrap(job.outcome)

    def close(self) -> None:
        """End the idle threads. Busy threads are daemons and keep running."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _start_thread(self) -> None:
        if self._threads < self._size:
            self._threads += 1
            # Each thread has its own setting for tracking where coroutines are created. `watching.py` needs it in all threads.
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
    A pool of threads for each plugin. If the calls of a plugin do not return, it uses up its own threads, and no other plugin has to wait.

    Must be used in the event loop's thread.

    Args: size: the size of each pool.
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
        """End the idle threads. Busy threads are daemons and keep running."""
        for pool in self._pools.values():
            pool.close()
