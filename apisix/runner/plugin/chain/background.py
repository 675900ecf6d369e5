# SPDX-License-Identifier: Apache-2.0
"""
The background tasks of plugins: `background` runs as a task from the setup of an instance until its `close`.

An instance with a background task is set up when the gateway sends its configuration to the worker, unless the class sets
`eager = False`, and in other workers before their first call.

If it raises an exception, it is started again after a back-off. With `once = True`, one worker of all runs it: the one that has the lease
of the plugin and its configuration in the shared store. A task never affects calls.

Each change of a task is logged, with its new state in the field `background`. The development gateway shows these lines.
"""

import asyncio
import contextvars
import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final, Literal

from apisix.runner.errors import StoreError
from apisix.runner.logging.call_fields import current_call
from apisix.runner.plugin.forked import EndingInChild
from apisix.runner.state.store import Lease

logger = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 1.0
"""The delay before a task that has failed is started again, in seconds. It doubles with each failure."""
LONGEST_RETRY_S: Final = 60.0
"""The longest delay. If a task ran for this long, its next failure counts as the first one."""
LEASE_S: Final = 15.0
"""For how long a worker has a lease, in seconds, unless it renews it. After a worker was killed, another one continues then."""
RENEW_S: Final = 5.0
"""How often a lease is renewed, and how often other workers try to get it, in seconds."""
STOP_S: Final = 2.0
"""How long a cancelled task may take to end, in seconds."""

BACKGROUND: Final = " (background)"
"""The end of the names of background tasks. They do not keep a worker from becoming idle."""

Function = Callable[[], Coroutine[object, object, None]]
State = Literal["running", "failed", "returned", "waiting", "stopped"]
"""
`failed`: it is started again after the time in the field `retry_s`. `returned`: it is not started again. `waiting`: another worker runs it.
"""

_numbers = itertools.count()


class BackgroundFields:
    """The fields of log lines of a background task."""

    id: Final[Any] = None
    request_id: Final[str | None] = None

    def __init__(self, plugin: str, route_key: str | None) -> None:
        self.plugin = plugin
        self.route_key = route_key


class BackgroundTasks:
    """
    The background tasks of a worker.

    Attributes:
        running: how many tasks there are, by plugin. With `once`, those that wait for the lease are included.
        failures: how often tasks have failed, by plugin.
    """

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many tasks there are."""
        return self.running.total()


class Background:
    """
    The background task of one instance.

    Args:
        tasks: the tasks of the worker.
        plugin: the name of the plugin.
        route_key: the key of the route configuration, for the log.
        function: the author's `background`.
        lock: with `once`, returns the lease, or None if another worker has it. None: each worker runs the task.
    """

    def __init__(
        self,
        tasks: BackgroundTasks,
        plugin: str,
        route_key: str | None,
        function: Function,
        lock: Callable[[], Coroutine[object, object, Lease | None]] | None,
    ) -> None:
        self._tasks = tasks
        self._plugin = plugin
        self._route_key = route_key
        self._function = function
        self._lock = lock
        self._task: asyncio.Task[None] | None = None
        self._name = f"{os.getpid()}-{next(_numbers)}"

    def start(self) -> None:
        """Start the task. Must be called on the event loop."""
        # In a context of its own: the task must not see the variables of the call that has started it.
        context = contextvars.Context()
        context.run(current_call.set, BackgroundFields(self._plugin, self._route_key))
        name = self._plugin + BACKGROUND
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name, context=context)

    async def stop(self) -> None:
        """Cancel the task, and wait for its end, but not for long."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=STOP_S)
        if pending:
            logger.warning("the background task of plugin %s did not end within %g s after it was cancelled", self._plugin, STOP_S)
        self._log("stopped", "is stopped, because the worker stops or does not use its configuration any more")

    async def _run(self) -> None:
        self._tasks.running[self._plugin] += 1
        try:
            await (self._keep_running() if self._lock is None else self._run_with_lease(self._lock))
        finally:
            self._tasks.running[self._plugin] -= 1

    def _log(self, state: State, text: str) -> None:
        """Log that the task has a new state."""
        logger.info("the background task of plugin %s %s", self._plugin, text, extra=self._fields(state))

    def _fields(self, state: State) -> dict[str, object]:
        """Return the fields of a log line, also of one that is written outside of the task. All workers use different names for tasks."""
        route = {} if self._route_key is None else {"route": self._route_key}
        return {"background": state, "task": self._name, "plugin": self._plugin, **route}

    async def _keep_running(self) -> None:
        """Run the author's function until it returns. If it fails, run it again after a delay."""
        loop = asyncio.get_running_loop()
        delay_s = FIRST_RETRY_S
        while True:
            began_s = loop.time()
            self._log("running", "runs")
            try:
                await EndingInChild(self._function())
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                failure: BaseException = error  # the author's code has raised it
            except BaseException as error:  # an author's function may raise anything, and a task must not raise SystemExit
                failure = error
            else:
                self._log("returned", "has returned, so it is not started again")
                return
            if loop.time() - began_s >= LONGEST_RETRY_S:
                delay_s = FIRST_RETRY_S
            self._tasks.failures[self._plugin] += 1
            logger.error(
                "the background task of plugin %s failed. It is started again in %g s",
                self._plugin,
                delay_s,
                exc_info=failure,
                extra={**self._fields("failed"), "retry_s": delay_s},
            )
            del failure  # its traceback refers to this frame
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_RETRY_S)

    async def _run_with_lease(self, lock: Callable[[], Coroutine[object, object, Lease | None]]) -> None:
        """Run the function in the one worker that has the lease. If this worker loses it, cancel the function and wait for the lease."""
        while True:
            lease = await self._acquire(lock)
            task = asyncio.get_running_loop().create_task(self._keep_running(), name=self._plugin + BACKGROUND)
            try:
                while not task.done() and await self._renew(lease):
                    await asyncio.wait([task], timeout=RENEW_S)
                if task.done():
                    # It has returned. Keep the lease, or another worker would run it again.
                    while await self._renew(lease):  # noqa: ASYNC110  # nothing reports that a lease is lost
                        await asyncio.sleep(RENEW_S)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task], timeout=STOP_S)
                with suppress(StoreError):
                    await lease.arelease()

    async def _acquire(self, lock: Callable[[], Coroutine[object, object, Lease | None]]) -> Lease:
        is_logged = waits = False
        while True:
            try:
                lease = await lock()
                if lease is not None:
                    return lease
                if not waits:
                    waits = True
                    self._log("waiting", "waits, because another worker runs it")
            except StoreError as error:
                if not is_logged:
                    is_logged = True
                    logger.error(
                        "the background task of plugin %s waits for the shared store: %s",
                        self._plugin,
                        error,
                        extra=self._fields("waiting"),
                    )
            await asyncio.sleep(RENEW_S)

    async def _renew(self, lease: Lease) -> bool:
        try:
            return await lease.arenew()
        except StoreError as error:
            logger.error(
                "the background task of plugin %s can't renew its lease, so it is stopped: %s",
                self._plugin,
                error,
                extra=self._fields("waiting"),
            )
            return False


def lease_key(value: str) -> str:
    """Return the key of the lease for a configuration, in the store of its plugin."""
    return f"background:{blake2b(value.encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}"
