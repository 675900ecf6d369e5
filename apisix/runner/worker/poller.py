# SPDX-License-Identifier: Apache-2.0
"""
The descriptors of a worker's connections, watched together.

They are in an epoll of their own, which the loop watches as one descriptor: one callback of the loop serves all that is ready. What
uvloop's transports do for each message costs a quarter of what a bare echo takes.
"""

import asyncio
import logging
import select
from collections.abc import Iterable
from typing import Any, Final, Protocol

poller_logger = logging.getLogger("apisix.runner.worker.poller")

MOST_AT_ONCE: Final = 64
"""How many connections are served in one turn of the loop, so that timers and tasks get theirs too."""


_READABLE: Final = 1  # EPOLLIN
_WRITABLE: Final = 4  # EPOLLOUT


class Watched(Protocol):
    """What the poller tells."""

    def readable(self) -> None:
        """Take note that there is something to read, be it the end."""

    def writable(self) -> None:
        """Take note that there is room to write."""

    def cut(self) -> None:
        """End, because of a defect of the runner."""


class Poller:
    """
    Tell sessions when their descriptors are ready.

    Where the system has no epoll, the loop watches each of them by itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Watched] = {}
        self._epoll: Any = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            loop.add_reader(self._epoll.fileno(), self._turn)

    def watch(self, descriptor: int, watched: Watched) -> None:
        """Tell `watched` when there is something to read."""
        self._watched[descriptor] = watched
        if self._epoll is not None:
            self._epoll.register(descriptor, _READABLE)
        else:
            self.want(descriptor, reading=True, writing=False)

    def want(self, descriptor: int, *, reading: bool, writing: bool) -> None:
        """Tell only when there is something to read, or room to write, as is wanted from now on."""
        if self._epoll is not None:
            self._epoll.modify(descriptor, (_READABLE if reading else 0) | (_WRITABLE if writing else 0))
            return
        if reading:
            self._loop.add_reader(descriptor, self._serve, [(descriptor, _READABLE)])
        else:
            self._loop.remove_reader(descriptor)
        if writing:
            self._loop.add_writer(descriptor, self._serve, [(descriptor, _WRITABLE)])
        else:
            self._loop.remove_writer(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """Tell no more. To be called before the descriptor is closed."""
        del self._watched[descriptor]
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
        else:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)

    def close(self) -> None:
        """Watch nothing any more. May be called again."""
        if self._epoll is not None and not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def abandon(self) -> None:
        """In a child of this process: close the descriptor. What is watched is shared with the parent and stays as it is."""
        if self._epoll is not None:
            self._epoll.close()

    def _turn(self) -> None:
        self._serve(self._epoll.poll(0, MOST_AT_ONCE))

    def _serve(self, ready: Iterable[tuple[int, int]]) -> None:
        for descriptor, events in ready:
            watched = self._watched.get(descriptor)
            if watched is None:  # ended by another one of this turn
                continue
            try:
                if events & _WRITABLE:
                    watched.writable()
                if events & ~_WRITABLE:  # the end and errors are seen by reading
                    watched.readable()
            except Exception:
                poller_logger.exception("a defect of the runner ends a connection")
                watched.cut()
