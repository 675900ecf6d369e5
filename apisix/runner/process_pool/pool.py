# SPDX-License-Identifier: Apache-2.0
"""
The pool of processes of one worker.

A process runs one hook at a time, and ends only its own call if it crashes. `concurrent.futures` and loky fail all pending calls then, and
none of the executors can answer a process that requests the body in the middle. So a call owns its process until the hook has returned.

If the call is cancelled, because its time limit is over or the gateway has hung up, the hook may finish within `GRACE_S`. Its result is
ignored. Then the process is killed. A process that has ended is replaced when a call needs one, with a back-off if processes keep ending.
"""

import asyncio
import logging
import os
import sys
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from apisix.runner.errors import CallCancelled, HookFailed, InfoUnavailable, Overloaded, RemoteProtocolError
from apisix.runner.http.plain_data import PlainEdits, fetch_info
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.process_pool.messages import Done, Failed, Hello, InfoRefused, InfoReplies, InfoWanted, Malformed, Run, encode
from apisix.runner.process_pool.pool_process import PoolProcess
from apisix.runner.settings.table import Settings

logger = logging.getLogger(__name__)

GRACE_S: Final = 0.5
"""How long a hook may continue after its call was cancelled, in seconds."""
FIRST_DELAY_S: Final = 0.1
"""How long no process is started after one has ended unexpectedly, in seconds. It doubles with each one until a hook has returned."""
LONGEST_DELAY_S: Final = 5.0
CLOSE_S: Final = 1.0
"""How long processes may take to close their plugins, in seconds."""
POLL_S: Final = 0.01


@dataclass(slots=True)
class Counts:
    """
    What the pool has done.

    Attributes:
        started: how many processes were started.
        crashed: how many have ended by themselves.
        killed: how many the worker has killed because of a hook.
    """

    started: int = 0
    crashed: int = 0
    killed: int = 0


def default_size(workers: int | Literal["auto"]) -> int:
    """Return how many processes each worker may start if it is not set. Args: workers: the setting `workers.count`."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return 1 if workers == "auto" else -(-cores // workers)


class ProcessPool:
    """
    Runs hooks in up to `limits.processes` processes, which are started when they are needed. Must be used in the event loop's thread.

    Args:
        settings: the settings of the worker.
        store: the function that returns the opener of the shared store for these settings, as `package.module:function`. None: none.
    Attributes:
        counts: what the pool has done.
    """

    def __init__(self, settings: Settings, store: str | None = None) -> None:
        self._size = settings.processes or default_size(settings.workers)
        self._max_waiting = settings.max_in_flight // 2  # the other half is for calls of other plugins
        self._settings = msgspec.msgpack.encode(settings)
        self._store = store
        self._all: set[PoolProcess] = set()
        self._idle: list[PoolProcess] = []
        # A waiter gets a process, or None if it may start one.
        self._waiters: deque[asyncio.Future[PoolProcess | None]] = deque()
        self._delay_s = 0.0
        self._retry_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.counts = Counts()

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return len(self._all)

    @property
    def waiting(self) -> int:
        """How many calls wait for a process."""
        return sum(not waiter.done() for waiter in self._waiters)

    async def run(self, run: Run, message: Request | Response) -> PlainEdits:
        """
        Run a hook in a process and return its edits.

        Args: message: the request or response, which replies to info requests of the hook.
        Raises:
            HookFailed: the hook raised an exception, or its process has ended.
            RemoteProtocolError: the hook has read a malformed part of the gateway's message.
            Overloaded: too many calls wait for a process.
        """
        data = encode(run)
        process = await self._acquire()
        try:
            process.send(data)
            edits = await self._converse(process, message)
        except HookFailed:
            if not process.ended:
                self._release(process)
            raise
        except RemoteProtocolError:
            self._release(process)
            raise
        except BaseException:
            process.abandon(GRACE_S)
            raise
        self._delay_s = 0.0
        self._release(process)
        return edits

    async def close(self) -> None:
        """Let all processes close their plugins and exit, and kill those that don't do so in time."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            waiter.cancel()
        processes = list(self._all)
        for process in processes:
            if process.busy:
                process.kill()
            process.close()
        loop = asyncio.get_running_loop()
        end_s = loop.time() + CLOSE_S
        while any(not process.has_exited() for process in processes) and loop.time() < end_s:  # noqa: ASYNC110  # an exit is not an event
            await asyncio.sleep(POLL_S)
        for process in processes:
            if not process.has_exited():
                process.kill()

    async def _converse(self, process: PoolProcess, message: Request | Response) -> PlainEdits:
        while True:
            received = await process.receive()
            if isinstance(received, InfoWanted):
                try:
                    process.send(encode(InfoReplies(await fetch_info(message, received.names))))
                except InfoUnavailable as error:
                    process.send(encode(InfoRefused(str(error))))
            elif isinstance(received, Done):
                return received.edits
            elif isinstance(received, Malformed):
                raise RemoteProtocolError(received.reason)
            elif isinstance(received, Failed):
                failure = HookFailed(received.error)
                failure.add_note(received.traceback)
                raise failure

    # Processes.

    async def _acquire(self) -> PoolProcess:
        """Return a process that runs no hook, and mark it as busy. Wait until there is one."""
        if self._closed:
            raise CallCancelled("the worker is stopping")
        process: PoolProcess | None
        if self._idle:
            process = self._idle.pop()
        elif self._may_start():
            process = None
        else:
            process = await self._wait()
        if process is None:
            process = await self._start()
        process.busy = True
        return process

    def _may_start(self) -> bool:
        return len(self._all) < self._size and asyncio.get_running_loop().time() >= self._retry_at_s

    async def _wait(self) -> PoolProcess | None:
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self.waiting} calls already wait for a process of the pool, half of what max_in_flight allows")
        waiter: asyncio.Future[PoolProcess | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._plan()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # pass on what this call has got
                self._pass_on(waiter.result())
            raise

    async def _start(self) -> PoolProcess:
        try:
            process = PoolProcess(self._pass_on, self._ended)
        except OSError as error:
            self._back_off()
            raise HookFailed(f"a process of the pool can't be started: {error}") from error
        self._all.add(process)
        self.counts.started += 1
        process.busy = True
        try:
            await process.connect()
        except BaseException:
            process.kill()
            self._all.discard(process)
            raise
        level = logging.getLogger().getEffectiveLevel()
        path = os.environ.get("PYTHONPATH")
        process.send(encode(Hello(sys.path, path, level, self._settings, self._store)))
        return process

    def _release(self, process: PoolProcess) -> None:
        process.busy = process.abandoned = False
        self._pass_on(process)

    def _pass_on(self, process: PoolProcess | None) -> None:
        """Give a process, or None for the permission to start one, to the call that has waited for the longest time."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                if process is not None:
                    process.busy = True
                waiter.set_result(process)
                return
        if process is not None and not process.ended:
            self._idle.append(process)

    def _ended(self, process: PoolProcess) -> None:
        """Called when a process has ended."""
        self._all.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        if self._closed:
            return
        if process.killed:
            self.counts.killed += 1
        else:
            self.counts.crashed += 1
            self._back_off()
            logger.warning("process %d of the pool has ended: %s", process.pid, process.how_it_ended())
        self._plan()

    def _back_off(self) -> None:
        self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)
        self._retry_at_s = asyncio.get_running_loop().time() + self._delay_s

    def _plan(self) -> None:
        """Let the next waiting call start a process, as soon as the back-off is over and if there is room for one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiters or len(self._all) >= self._size:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._retry_at_s:
            self._pass_on(None)
        else:
            self._timer = loop.call_at(self._retry_at_s, self._plan)
