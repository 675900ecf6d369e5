# SPDX-License-Identifier: Apache-2.0
"""The deadlines of waiting calls. All of them share one timer, because one timer for each call is expensive."""

import asyncio
from math import inf
from typing import Any, Protocol

from apisix.runner import primitives


class Expiring(Protocol):
    """An object that has a deadline: a call."""

    def expire(self) -> None:
        """Called when the deadline has passed."""


class Deadlines:
    """
    Call `expire` of each waiting call whose deadline has passed, in the event loop.

    All calls have the same timeout at first, so the timer is rarely set. It is set for the earliest deadline, and when that has passed, for
    the earliest deadline of the calls that wait then. When a call stops waiting, only its deadline is removed.
    """

    __slots__ = ("_due_s", "_loop", "_timer", "_timer_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due_s: dict[Expiring, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf

    def add(self, waiting: Expiring, at_s: float) -> None:
        """Set the deadline of `waiting` to `at_s`, a time as `primitives.now_s()` returns it."""
        self._due_s[waiting] = at_s
        if at_s < self._timer_s:
            self._set_timer(at_s)

    def discard(self, waiting: Expiring) -> None:
        """Remove the deadline of `waiting`, if it has one."""
        self._due_s.pop(waiting, None)

    def waiting(self) -> list[Any]:
        """Return all objects that have a deadline, in the order in which they began to wait."""
        return list(self._due_s)

    def close(self) -> None:
        """Remove all deadlines."""
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
        for _, late in sorted(due, key=lambda pair: pair[0]):  # in the order of the deadlines, even if the event loop was late
            if self._due_s.pop(late, None) is not None:  # another `expire` may have removed it
                late.expire()
        if self._due_s:
            self._set_timer(min(self._timer_s, *self._due_s.values()))
