# SPDX-License-Identifier: Apache-2.0
"""Find out, from another thread, whether an event loop is blocked, and which code blocks it."""

import asyncio
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from apisix.runner.call.blocking import places
from apisix.runner.call.blocking.long_calls import passed

LOOK_S: Final = 1.0
"""How often `look` is called, in seconds."""
UNNAMED: Final = "Task-"
"""The beginning of the names that asyncio gives to tasks without a name. The tasks of hooks have a name."""


class LoopProbe:
    """
    Schedule a callback in an event loop repeatedly. Until the callback has run, the event loop may be blocked.

    Must be created in the event loop's thread, and used in another thread.

    Args:
        loop: the event loop. If it is None, `blocked_s` always returns 0.
        look: called about every second in the event loop's thread, with the current time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, look: Callable[[float], None] | None = None) -> None:
        self._loop = loop
        self._look = look
        self._thread_id = threading.get_ident()
        self._scheduled_at_s: float | None = None  # None while no callback is scheduled
        self._looked_at_s = 0.0
        self._reported_s = 0.0
        self._code: object = None  # what the event loop ran when it was looked at the last time
        self._task: weakref.ref[asyncio.Task[Any]] | None = None  # the task that ran when the callback was scheduled

    def blocked_s(self, now_s: float) -> float:
        """
        Return for how many seconds the event loop has been blocked. If it is not blocked, schedule the next callback.

        The callback runs before the next step of a task that runs now. So if this task still runs while the callback waits, it has
        not waited for anything in between.
        """
        scheduled_at_s = self._scheduled_at_s
        if scheduled_at_s is not None:
            return now_s - scheduled_at_s
        self._reported_s, self._code, self._task = 0.0, None, None
        if self._loop is not None:
            self._scheduled_at_s = now_s
            try:
                self._loop.call_soon_threadsafe(self._called, now_s)
            except RuntimeError:  # it is closed
                self._loop = None
            else:
                self._code = self._task = self._current_task()  # after the callback was scheduled
        return 0.0

    def place(self) -> str | None:
        """Return the line of a plugin in which the event loop's thread is, None if it runs no code of a plugin."""
        return places.of_thread(self._thread_id)

    def place_to_report(self, now_s: float) -> str | None:
        """
        Return the same as `place` if it has to be reported now: the first time, and after 5, 10, 20, ... seconds. Otherwise return None.

        It is only reported if the event loop is in the same task or call of a function as the last time, because many calls that arrive
        together keep the event loop busy too.
        """
        blocked_s = self.blocked_s(now_s)
        code = self._current_task() or places.outermost(sys._current_frames().get(self._thread_id))
        before, self._code = self._code, code
        if code is None or code != before or self._scheduled_at_s is None:
            return None
        if self._reported_s and passed(self._reported_s, blocked_s) is None:
            return None
        self._reported_s = blocked_s
        return self.place()

    def task_since_s(self) -> float | None:
        """Return since when the task that runs is known to run without waiting for anything, None if no task does."""
        since_s = self._scheduled_at_s
        is_same = self._task is not None and self._task == self._current_task()
        return since_s if is_same and self._scheduled_at_s is not None else None

    def name(self) -> str | None:
        """Return the name of the task that runs: the name of the plugin if it is the task of a hook. Return None if no task runs."""
        task = None if self._loop is None else asyncio.current_task(self._loop)
        return None if task is None else task.get_name()

    def _current_task(self) -> "weakref.ref[asyncio.Task[Any]] | None":
        task = None if self._loop is None else asyncio.current_task(self._loop)
        return None if task is None else weakref.ref(task)

    def _called(self, scheduled_at_s: float) -> None:
        self._scheduled_at_s = None
        if self._look is not None and scheduled_at_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = scheduled_at_s
            self._look(scheduled_at_s)
