# SPDX-License-Identifier: Apache-2.0
"""Find out, from another thread, whether a loop turns, and where it is if it does not."""

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Final

from apisix.runner.call.blocking import places
from apisix.runner.call.blocking.long_calls import passed

LOOK_S: Final = 1.0
"""How often `look` is called, in seconds."""


class LoopTurn:
    """
    A callback that a loop is asked to run again and again: as long as it has not run it, something holds the loop.

    To be created in the loop's thread, and used in another one.

    Args:
        loop: the loop; None for one that always turns.
        look: called in the loop's thread about every second, with the time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, look: Callable[[float], None] | None = None) -> None:
        self._loop = loop
        self._look = look
        self._thread_id = threading.get_ident()
        self._asked_at_s: float | None = None  # None while nothing is asked
        self._looked_at_s = 0.0
        self._reported_s = 0.0
        self._frame: object = None

    def held_s(self, now_s: float) -> float:
        """Return for how long the loop has not turned, in seconds. Asks it for a turn if it has."""
        asked_at_s = self._asked_at_s
        if asked_at_s is not None:
            return now_s - asked_at_s
        self._reported_s, self._frame = 0.0, None
        if self._loop is not None:
            self._asked_at_s = now_s
            try:
                self._loop.call_soon_threadsafe(self._turned, now_s)
            except RuntimeError:  # it is closed
                self._loop = None
        return 0.0

    def place(self) -> str | None:
        """Return the line of a plugin in which the loop's thread is."""
        return places.of_thread(self._thread_id)

    def place_to_report(self, now_s: float) -> str | None:
        """
        Return that line if it is to be reported: at first, and after 5, 10, 20, ... seconds.

        None if the loop is not in the same call of a function as the last time: many calls that come together hold up the loop too.
        """
        held_s = self.held_s(now_s)
        before, self._frame = self._frame, places.outermost(sys._current_frames().get(self._thread_id))
        if self._frame is None or self._frame != before:
            return None
        if self._reported_s and passed(self._reported_s, held_s) is None:
            return None
        self._reported_s = held_s
        return self.place()

    def task(self) -> str:
        """Name what runs: the plugin of a task that runs a hook, else a task or a callback."""
        task = None if self._loop is None else asyncio.current_task(self._loop)
        if task is None:
            return "a callback of a plugin"
        name = task.get_name()
        return "a task that a plugin has started" if name.startswith("Task-") else f"plugin {name}"

    def _turned(self, asked_at_s: float) -> None:
        self._asked_at_s = None
        if self._look is not None and asked_at_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = asked_at_s
            self._look(asked_at_s)
