# SPDX-License-Identifier: Apache-2.0
"""One process of the pool, as the worker sees it."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final, cast

import msgspec

from apisix.runner.errors import HookFailed
from apisix.runner.process_pool.log import write
from apisix.runner.process_pool.messages import LENGTH, MAX_MESSAGE_BYTES, FromProcess, InfoWanted, Logged

logger = logging.getLogger(__name__)

REAP_S: Final = 0.01
"""How often it is checked whether a process that has closed its socket has exited, in seconds."""
REAP_TRIES: Final = 300
"""How often it is checked at most."""

_decode = msgspec.msgpack.Decoder(FromProcess).decode


class PoolProcess(asyncio.Protocol):
    """
    A process that runs one hook at a time.

    The main thread of the worker must start it: on Linux, the process is killed when the thread that started it ends.

    Args:
        on_free: called when a hook that nothing waits for any more has ended.
        on_end: called once, when the process has ended.
    Attributes:
        busy: True while a hook runs.
        abandoned: True if nothing waits for the hook any more.
        killed: True if the worker has killed the process.
        ended: True if the process has ended.
    """

    def __init__(self, on_free: Callable[["PoolProcess"], None], on_end: Callable[["PoolProcess"], None]) -> None:
        self.busy = self.abandoned = self.killed = self.ended = False
        self._on_free = on_free
        self._on_end = on_end
        self._received: asyncio.Queue[FromProcess | None] = asyncio.Queue()
        self._data = bytearray()
        self._transport: asyncio.Transport | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  # this Python and this package
                    [sys.executable, "-P", "-m", "apisix.runner.process_pool", str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)  # the standard library's argument
        self._socket = ours

    async def connect(self) -> None:
        """Connect the worker's end. Must be awaited once, first."""
        await self._loop.create_unix_connection(lambda: self, sock=self._socket)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

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
            logger.error("process %d of the pool has sent an invalid message, so it is killed: %s", self.pid, error)
            self.kill()

    def connection_lost(self, error: Exception | None) -> None:
        """Called when the process has closed its end, which it does only by exiting."""
        self._reap(REAP_TRIES)

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
        self._process.kill()

    def close(self) -> None:
        """Let the process close its plugins and exit."""
        if self._transport is not None:
            self._transport.close()

    def has_exited(self) -> bool:
        """Return True if the process has exited."""
        return self._process.poll() is not None

    def how_it_ended(self) -> str:
        """Return a description of how the process has ended."""
        status = self._process.returncode
        if status is None:
            return "it has closed its socket"
        if self.killed:
            return "the runner has killed it"
        if status < 0:
            return f"it was killed by signal {-status} ({_signal_name(-status)})"
        return f"it exited with status {status}"

    def _dispatch(self, message: FromProcess) -> None:
        if self.busy and not self.abandoned:
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
            logger.warning("a process of the pool is killed, because its hook did not end after its call was cancelled (pid %d)", self.pid)
            self.kill()

    def _reap(self, tries: int) -> None:
        if not self.has_exited() and tries > 0:
            if tries == REAP_TRIES // 2:
                self._process.kill()  # code of a plugin has closed the socket
            self._loop.call_later(REAP_S, self._reap, tries - 1)
            return
        self.ended = True
        self._received.put_nowait(None)
        self._on_end(self)


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
