# SPDX-License-Identifier: Apache-2.0
"""
The lock for writing to the conf store.

SQLite has a lock of its own, but it can only be polled, so a process that polls at the wrong moments waits for long. Here the kernel wakes
up the process that has waited longest.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

PATIENCE_S: Final = 0.1
"""How long to wait for the lock, in seconds. After that the holder was probably killed or stopped, and the process writes without it."""


class WriteLock:
    """
    A datagram in a socket pair that the workers share: the process that has received it may write. Created before the fork.

    The lock is for fairness only. SQLite's own lock makes writing safe, so a process can write without this one. Such a process sends a
    datagram afterwards too, which replaces one that was lost with its holder. A process that receives the lock takes all datagrams.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._end, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._other.setblocking(False)
        # A timeout of the kernel, because only processes that wait in `recv` are woken up one at a time, in order.
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6)))
        self._release()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the lock, and release it at the end of the block."""
        with suppress(BlockingIOError):  # the timeout, or no second datagram
            self._end.recv(1)
            while True:
                self._end.recv(1, socket.MSG_DONTWAIT)
        try:
            yield
        finally:
            self._release()

    def close(self) -> None:
        """Close the file descriptors."""
        self._end.close()
        self._other.close()

    def _release(self) -> None:
        with suppress(BlockingIOError):  # there are several datagrams
            self._other.send(b"t")
