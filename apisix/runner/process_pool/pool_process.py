# SPDX-License-Identifier: Apache-2.0
"""One process of the pool, as the worker sees it."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

import msgspec

from apisix.runner.errors import HookFailed
from apisix.runner.process_pool.fork_server import ForkServer
from apisix.runner.process_pool.log import write
from apisix.runner.process_pool.messages import (
    LENGTH,
    MAX_MESSAGE_BYTES,
    FromProcess,
    Hello,
    InfoWanted,
    Logged,
    PluginPlace,
    StoreCounted,
    WarmedUp,
    WarmUp,
    encode,
)
from apisix.runner.state.counters import counters

logger = logging.getLogger(__name__)

EXIT_S: Final = 1.5
"""How long a process may take to exit after it has closed its socket, in seconds. Then it is killed."""

_decode = msgspec.msgpack.Decoder(FromProcess).decode


class PoolProcess(asyncio.Protocol):
    """
    A process that runs one hook at a time.

    Args:
        server: forks the process.
        on_free: called when a hook that nothing waits for any more has ended.
        on_end: called once, when the process has ended.
    Raises: OSError: the fork server has ended.
    Attributes:
        pid: the id of the process; None until it is forked.
        began_s: when it was started, as of the event loop.
        is_ready: True if the process has reported that it can run hooks.
        is_warming_up: True while it creates instances that no call needs yet.
        busy: True while a hook runs.
        abandoned: True if nothing waits for the hook any more.
        killed: True if the worker has killed the process.
        ended: True if the process has ended.
    """

    def __init__(self, server: ForkServer, on_free: Callable[["PoolProcess"], None], on_end: Callable[["PoolProcess"], None]) -> None:
        self.pid: int | None = None
        self.is_ready = self.is_warming_up = self.busy = self.abandoned = self.killed = self.ended = False
        self._on_free = on_free
        self._on_end = on_end
        self._received: asyncio.Queue[FromProcess | None] = asyncio.Queue()
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.began_s = self._loop.time()
        self._pidfd: int | None = None
        self._has_exited = self._is_lost = False
        self._how: int | str = "it has closed its socket"
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                server.start(theirs, self)
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)  # the standard library's argument
        self._socket = ours

    async def open(self, hello: Hello) -> None:
        """Connect the worker's end, and wait until the process is ready. Raise HookFailed if it ends before. Must be awaited first."""
        self.busy = True
        await self._loop.create_unix_connection(lambda: self, sock=self._socket)
        self.send(encode(hello))
        await self.receive()
        self.busy = False
        self.is_ready = True

    # The interface of the fork server.

    def forked(self, pid: int) -> None:
        """Called when the process runs."""
        self.pid = pid
        if sys.platform == "linux":
            with suppress(OSError):  # it has exited already
                self._pidfd = os.pidfd_open(pid)
        if self.killed:
            self.kill()

    def exited(self, how: int | str) -> None:
        """Called when the process has exited. Its last messages may not be read yet."""
        self._has_exited = True
        self._how = how
        if self._is_lost or self._transport is None:
            self._end()
        else:  # a child process of the process may have the socket too
            self._loop.call_later(EXIT_S, self._transport.abort)

    # The interface of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when the worker's end is connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called with the next bytes."""
        self._data += data
        try:
            while len(self._data) >= LENGTH.size:
                (length,) = LENGTH.unpack_from(self._data)
                if length > MAX_MESSAGE_BYTES:
                    raise ValueError(f"a message announces {length} bytes; the limit is {MAX_MESSAGE_BYTES}")
                end = LENGTH.size + length
                if len(self._data) < end:
                    break
                message: FromProcess = _decode(memoryview(self._data)[LENGTH.size : end])
                del self._data[:end]
                self._dispatch(message)
        except (ValueError, msgspec.MsgspecError) as error:  # code of a plugin may have written to the socket
            logger.error("process %s of the pool has sent an invalid message, so it is killed: %s", self.pid, error)
            self.kill()

    def connection_lost(self, error: Exception | None) -> None:
        """Called when the process has closed its end, which it does only by exiting."""
        self._is_lost = True
        if self._has_exited:
            self._end()
        else:
            self._loop.call_later(EXIT_S, self._exit_is_overdue)

    # For the pool.

    def send(self, data: bytes) -> None:
        """Send an encoded message."""
        if self._transport is not None and not self.ended:
            self._transport.write(data)

    async def receive(self) -> FromProcess:
        """Return the next message of the hook. Log lines are logged here, in the context of the caller. Raise HookFailed at the end."""
        while True:
            message = await self._received.get()
            if message is None:
                raise HookFailed(f"its process ended before the hook returned: {self.how_it_ended()}")
            if not isinstance(message, Logged):
                return message
            write(message)

    def abandon(self, within_s: float) -> None:
        """Let a hook that nothing waits for finish, and kill the process if it has not ended within `within_s` seconds."""
        self.abandoned = True
        self._grace = self._loop.call_later(within_s, self._kill_abandoned)
        while not self._received.empty():
            message = self._received.get_nowait()
            if message is not None:
                self._dispatch(message)

    def kill(self) -> None:
        """Kill the process."""
        self.killed = True
        if self._has_exited or self.pid is None:  # in the second case, `forked` does it
            return
        with suppress(ProcessLookupError):
            if self._pidfd is not None and sys.platform == "linux":  # the number may belong to another process by now
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def warm_up(self, instances: list[tuple[PluginPlace, str]]) -> None:
        """Let the process create and set up instances until it is used."""
        self.is_warming_up = True
        self.send(encode(WarmUp(instances)))

    def close(self) -> None:
        """Let the process close its plugins and exit."""
        if self._transport is not None:
            self._transport.close()

    def how_it_ended(self) -> str:
        """Return a description of how the process has ended."""
        if self.killed:
            return "the runner has killed it"
        if isinstance(self._how, str):
            return self._how
        if self._how < 0:
            return f"it was killed by signal {-self._how} ({_signal_name(-self._how)})"
        return f"it exited with status {self._how}"

    def _dispatch(self, message: FromProcess) -> None:
        if isinstance(message, WarmedUp):
            self.is_warming_up = False
        elif isinstance(message, StoreCounted):
            counters.add(message.values)
        elif isinstance(message, Logged) and self.is_warming_up:
            write(message)
        elif self.busy and not self.abandoned:
            self._received.put_nowait(message)
        elif isinstance(message, Logged):  # a thread of a plugin, or a hook that nothing waits for
            write(message)
        elif self.abandoned and isinstance(message, InfoWanted):  # nothing can reply
            self.kill()
        elif self.abandoned:
            self.busy = self.abandoned = False
            if self._grace is not None:
                self._grace.cancel()
            self._on_free(self)

    def _kill_abandoned(self) -> None:
        if not self.ended:
            logger.warning("a process of the pool is killed, because its hook did not end after its call was cancelled (pid %s)", self.pid)
            self.kill()

    def _exit_is_overdue(self) -> None:
        if not self._has_exited:  # code of a plugin has closed the socket
            self.kill()
            self._loop.call_later(EXIT_S, self._end)

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if self._transport is None:
            self._socket.close()
        self._received.put_nowait(None)
        self._on_end(self)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
