# SPDX-License-Identifier: Apache-2.0
"""
Whose turn it is to write the conf store.

SQLite's lock protects the file, but who finds it taken can only look again and again, and whoever looks at the wrong moments waits
long: of four workers that write flat out, the 99th percentile was 5 to 10 ms. Here the kernel wakes who waits longest: 3 to 4 ms.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

PATIENCE_S: Final = 0.1
"""Who has waited for so long goes on without its turn, in seconds: its holder was killed or stopped. A turn takes some milliseconds."""


class WriteTurn:
    """
    One datagram in a socket pair that the workers of a runner share: who has received it may write. Made before the fork.

    It makes nothing safe, only fair. Who goes on without it puts one back all the same, so that what was lost with its holder is
    made good, and who receives takes all that there are.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._end, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._other.setblocking(False)
        # The system's own time-out, since only those that wait in `recv` are woken one at a time, in their order.
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6)))
        self._pass_on()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn and pass it on at the end of the block."""
        with suppress(BlockingIOError):  # in time there was none, or there is no other
            self._end.recv(1)
            while True:
                self._end.recv(1, socket.MSG_DONTWAIT)
        try:
            yield
        finally:
            self._pass_on()

    def close(self) -> None:
        """Give the descriptors back."""
        self._end.close()
        self._other.close()

    def _pass_on(self) -> None:
        with suppress(BlockingIOError):  # full: there are more than one
            self._other.send(b"t")
