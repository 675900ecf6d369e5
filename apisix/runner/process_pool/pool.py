# SPDX-License-Identifier: Apache-2.0
"""
The pool of processes of one worker.

A process runs one hook at a time, and ends only its own call if it crashes. `concurrent.futures` and loky fail all pending calls then, and
none of the executors can answer a process that requests the body in the middle. So a call owns its process until the hook has returned.

If the call is cancelled, because its time limit is over or the gateway has hung up, the hook may finish within `GRACE_S`. Its result is
ignored. Then the process is killed.

The first processes are started when calls need them. A process that has ended is replaced at once, or after a back-off if processes keep
ending.
All are forked by a fork server, which has imported what they need. A process that has no hook to run creates the instances that calls have
used, so that the next call does not wait for them.
"""

import asyncio
import contextvars
import logging
import os
import sys
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from apisix.runner.errors import CallCancelled, HookFailed, InfoUnavailable, Overloaded, RemoteProtocolError
from apisix.runner.http.plain_data import PlainEdits, fetch_info
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.process_pool.back_off import BackOff
from apisix.runner.process_pool.fork_server import ForkServer
from apisix.runner.process_pool.messages import (
    MAX_INSTANCES,
    Done,
    Failed,
    Hello,
    InfoRefused,
    InfoReplies,
    InfoWanted,
    Malformed,
    PluginPlace,
    Run,
    encode,
)
from apisix.runner.process_pool.pool_process import PoolProcess
from apisix.runner.settings.table import Settings

logger = logging.getLogger(__name__)

GRACE_S: Final = 0.5
"""How long a hook may continue after its call was cancelled, in seconds."""
START_S: Final = 30.0
"""How long a process may take to start, in seconds. The first one also waits for the imports of the fork server."""
MAX_WARM_VALUE_CHARS: Final = 1 << 16
"""The length of the longest configuration for which instances are created in advance, in characters."""
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
    Runs hooks in up to `limits.processes` processes. Must be used in the event loop's thread.

    Args:
        loop: the event loop.
        settings: the settings of the worker.
        store: the function that returns the opener of the shared store for these settings, as `package.module:function`. None: none.
    Attributes:
        counts: what the pool has done.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings, store: str | None = None) -> None:
        self._loop = loop
        self._size = settings.processes or default_size(settings.workers)
        self._max_waiting = settings.max_in_flight // 2  # the other half is for calls of other plugins
        self._settings = msgspec.msgpack.encode(settings)
        self._store = store
        self._server: ForkServer | None = None
        self._all: set[PoolProcess] = set()
        self._idle: list[PoolProcess] = []
        self._waiters: deque[asyncio.Future[PoolProcess]] = deque()
        self._starting: set[asyncio.Task[None]] = set()
        self._wanted = 0  # how many processes are kept while no call waits
        self._used: OrderedDict[tuple[PluginPlace, str], None] = OrderedDict()  # the plugins and configurations of recent hooks
        self._back_off = BackOff()
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

    def prepare(self) -> None:
        """Start the fork server, so that the first call does not wait for its imports. May be called before the loop runs."""
        with suppress(OSError):  # tried again when a call needs a process
            self._fork_server()

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
        self._back_off.reset()
        self._remember(run)
        self._release(process)
        return edits

    async def close(self) -> None:
        """Let all processes close their plugins and exit, and kill those that don't do so in time."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            waiter.cancel()
        for task in self._starting:
            task.cancel()
        processes = list(self._all)
        for process in processes:
            if process.busy:
                process.kill()
            process.close()
        end_s = self._loop.time() + CLOSE_S
        while any(not process.ended for process in processes) and self._loop.time() < end_s:  # noqa: ASYNC110  # simpler than an event for each
            await asyncio.sleep(POLL_S)
        for process in processes:
            if not process.ended:
                process.kill()
        if self._server is not None:
            self._server.close()

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
        process = self._idle.pop() if self._idle else await self._wait()
        process.busy = True
        return process

    async def _wait(self) -> PoolProcess:
        if self.waiting >= self._max_waiting + self._size - self._ready:  # one call waits for each process that is not ready
            raise Overloaded(f"{self.waiting} calls already wait for a process of the pool, half of what max_in_flight allows")
        waiter: asyncio.Future[PoolProcess] = self._loop.create_future()
        self._waiters.append(waiter)
        self._plan()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # pass on what this call has got
                self._release(waiter.result())
            raise

    @property
    def _ready(self) -> int:
        return sum(process.is_ready for process in self._all)

    def _plan(self) -> None:
        """Start the processes that are missing, as soon as the back-off allows it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed:
            return
        wanted = min(self._size, max(self._wanted, self._ready + self.waiting))
        while len(self._all) < wanted:
            wait_s = self._back_off.left_s(self._loop.time())
            if wait_s > 0:
                self._timer = self._loop.call_later(wait_s, self._plan)
                return
            if not self._start():
                return

    def _fork_server(self) -> ForkServer:
        """Return the fork server. Start it if there is none. Raise OSError if that fails."""
        if self._server is None or self._server.ended:
            self._server = ForkServer(self._loop, () if self._store is None else [self._store.partition(":")[0]])
        return self._server

    def _start(self) -> bool:
        """Start a process. Return False if that fails."""
        try:
            server = self._fork_server()
            process = PoolProcess(server, self._pass_on, self._ended)
        except OSError as error:
            now_s = self._loop.time()
            self._back_off.failed(now_s, now_s)
            self._failed_to_start(str(error))
            return False
        self._all.add(process)
        self.counts.started += 1
        # The process outlives the call for which it is started, so its log lines must not have the fields of that call.
        task = self._loop.create_task(self._open(process, server), context=contextvars.Context())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return True

    async def _open(self, process: PoolProcess, server: ForkServer) -> None:
        level = logging.getLogger().getEffectiveLevel()
        try:
            async with asyncio.timeout(START_S):
                await process.open(Hello(sys.path, dict(os.environb), level, self._settings, self._store))
        except HookFailed:  # `_ended` is called
            return
        except (TimeoutError, OSError) as error:
            logger.error("process %s of the pool did not start within %g s, so it is killed (%s)", process.pid, START_S, error)
            process.kill()
            if process.pid is None:  # the fork server does not work
                server.close()
            return
        self._wanted = max(self._wanted, self._ready)
        self._pass_on(process)
        if not process.busy and self._used:
            process.warm_up(list(self._used))

    def _remember(self, run: Run) -> None:
        """Remember what a hook that has returned has used, for `PoolProcess.warm_up`."""
        if len(run.value) > MAX_WARM_VALUE_CHARS:
            return
        self._used[run.plugin, run.value] = None
        self._used.move_to_end((run.plugin, run.value))
        if len(self._used) > MAX_INSTANCES:
            self._used.popitem(last=False)

    def _release(self, process: PoolProcess) -> None:
        process.busy = process.abandoned = False
        self._pass_on(process)

    def _pass_on(self, process: PoolProcess) -> None:
        """Give a process to the call that has waited for the longest time. If there is none, the process is idle."""
        if process.ended:
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                process.busy = True
                waiter.set_result(process)
                return
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
            self._back_off.failed(process.began_s, self._loop.time())
            logger.warning("process %s of the pool has ended: %s", process.pid, process.how_it_ended())
        if process.is_warming_up:  # the next one would crash too
            self._used.clear()
        if not process.is_ready:
            self._failed_to_start(process.how_it_ended())
        self._plan()

    def _failed_to_start(self, reason: str) -> None:
        """Refuse the call that has waited for the longest time. Without a call, nothing is started until one needs a process."""
        self._wanted = 0
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(HookFailed(f"a process of the pool can't be started: {reason}"))
                return
