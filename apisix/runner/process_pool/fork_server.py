# SPDX-License-Identifier: Apache-2.0
"""The fork server of the pool, as the worker sees it. It forks the processes of the pool, because a start from nothing imports for long."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from apisix.runner.process_pool.messages import FORKED, REPORT

logger = logging.getLogger(__name__)

EXIT_S: Final = 1.0
"""How long a killed fork server may take to exit, in seconds."""


class Child(Protocol):
    """A process that the fork server forks."""

    def forked(self, pid: int) -> None:
        """Called when the process runs."""

    def exited(self, how: int | str) -> None:
        """Called when the process has exited, or can't be forked. Args: how: its status, as in `subprocess`; a text if there is none."""


class ForkServer:
    """
    Starts the fork server.

    The main thread of the worker must do so: on Linux, the fork server is killed when the thread that started it ends. Its children are
    killed when it ends.

    Args: loop: the event loop of the worker. modules: imported by the fork server, beside what all processes need.
    Raises: OSError: it can't be started.
    Attributes: ended: True if it has ended. It can't be used any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, modules: Sequence[str] = ()) -> None:
        self.ended = False
        self._starting: deque[Child] = deque()
        self._children: dict[int, Child] = {}
        self._data = b""
        self._loop = loop
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  # this Python and this package
                    [sys.executable, "-P", "-m", "apisix.runner.process_pool", str(theirs.fileno()), str(os.getpid()), *modules],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)  # the standard library's argument
        self._socket = ours
        self._loop.add_reader(ours.fileno(), self._receive)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def start(self, sock: socket.socket, child: Child) -> None:
        """Fork a process. Args: sock: the socket of the process, which the caller closes. Raises: OSError: the fork server has ended."""
        socket.send_fds(self._socket, [b"\0"], [sock.fileno()])
        self._starting.append(child)

    def close(self) -> None:
        """End the fork server, and with it all processes that are left."""
        if self.ended:
            return
        self.ended = True
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_S)
        for child in [*self._starting, *self._children.values()]:
            child.exited("its fork server has ended")

    def _receive(self) -> None:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            logger.warning("the fork server of the pool (pid %d) has ended, and its processes with it", self.pid)
            self.close()
            return
        self._data += data
        whole = len(self._data) - len(self._data) % REPORT.size
        reports, self._data = self._data[:whole], self._data[whole:]
        for pid, status in REPORT.iter_unpack(reports):
            self._report(pid, status)

    def _report(self, pid: int, status: int) -> None:
        if pid == 0:
            self._starting.popleft().exited(f"it can't be forked: {os.strerror(status)}")
        elif status == FORKED:
            child = self._children[pid] = self._starting.popleft()
            child.forked(pid)
        elif (exited := self._children.pop(pid, None)) is not None:
            exited.exited(status)
