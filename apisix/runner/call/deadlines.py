# SPDX-License-Identifier: Apache-2.0
"""The deadlines of the calls that wait, with one timer for all of them: one for each would cost a call that waits 1 us."""

import asyncio
from math import inf
from typing import Any, Protocol

from apisix.runner import primitives


class Expiring(Protocol):
    """What can be too late."""

    def expire(self) -> None:
        """Take note that it is."""


class Deadlines:
    """
    Tell what waits that it is too late, on the loop.

    All deadlines are equally far away when they begin, so the timer is rarely set: it goes off for the oldest, and then for what
    waits by then. What no longer waits is just forgotten.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due_s: dict[Expiring, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf

    def add(self, waiting: Expiring, at_s: float) -> None:
        """Let `waiting` expire at `at_s`, a time of the clock, unless it is discarded before."""
        self._due_s[waiting] = at_s
        if at_s < self._timer_s:
            self._set_timer(at_s)

    def discard(self, waiting: Expiring) -> None:
        """Take note that it waits no longer."""
        self._due_s.pop(waiting, None)

    def waiting(self) -> list[Any]:
        """Return what waits, in the order in which it began to."""
        return list(self._due_s)

    def close(self) -> None:
        """Forget all of them."""
        self._due_s.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = at_s
        self._timer = self._loop.call_later(max(0.0, at_s - primitives.now_s()), self._look)

    def _look(self) -> None:
        self._timer = None
        self._timer_s = inf
        now_s = primitives.now_s()
        due = [(at_s, waiting) for waiting, at_s in self._due_s.items() if at_s <= now_s]
        for _, late in sorted(due, key=lambda pair: pair[0]):  # in their order, also if the loop was late
            if self._due_s.pop(late, None) is not None:  # one that expires may have ended another
                late.expire()
        if self._due_s:
            self._set_timer(min(self._timer_s, *self._due_s.values()))
