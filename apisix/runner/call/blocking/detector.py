# SPDX-License-Identifier: Apache-2.0
"""Find plugins that block the event loop, or run an event loop of their own. Their plain hooks run in threads then. Source: design, 4."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from apisix.runner import primitives
from apisix.runner.call.blocking.long_calls import FIRST_S
from apisix.runner.call.blocking.loop_turn import LoopTurn
from apisix.runner.call.blocking.starvation import Starvation
from apisix.runner.plugin.plugin_type import PluginType

detector_logger = logging.getLogger("apisix.runner.call.blocking.detector")

HOLD_S: Final = 0.010
"""A hook that holds the event loop for this many seconds or more is counted."""
LONG_HOLD_S: Final = 0.100
"""A plugin is blocking if one of its hooks holds the event loop for this many seconds."""
HOLDS: Final = 3
"""A plugin is blocking if this many hooks are counted within `HOLDS_WITHIN_S`."""
HOLDS_WITHIN_S: Final = 60.0
"""In seconds."""

OWN_LOOP: Final = (
    "cannot be called from a running event loop",  # asyncio.run, asyncio.Runner.run
    "This event loop is already running",
    "this event loop is already running.",  # uvloop
    "Cannot run the event loop while another loop is running",
)
"""The text of the error if a hook runs an event loop in the thread of the worker's event loop. Source: asyncio."""


class BlockingDetector:
    """
    Record for how long plain hooks hold the event loop, and mark the plugins that block it.

    Time in which other processes had the processor does not count: on a busy machine any plugin would seem to block.

    Attributes:
        on_mark: called with the name of a plugin when it is marked, so that other workers can be told. From any thread.
        running: the plugin whose hook holds the event loop now, None if none does.
        since_s: since when, a time of the clock.
        starvation: measures the event loop's thread, once it is watched.
        turn: measures the event loop, once it is watched.
    """

    def __init__(self, on_mark: Callable[[str], None] | None = None) -> None:
        self.on_mark = on_mark
        self.running: PluginType | None = None
        self.since_s = 0.0
        self.starvation: Starvation | None = None
        self._holds: dict[str, deque[float]] = {}
        self._marking = threading.Lock()
        self._closed = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self.turn = LoopTurn()

    def record(self, plugin_type: PluginType, held_s: float, now_s: float) -> None:
        """Record that a hook of `plugin_type` held the event loop for `held_s` seconds until `now_s`, a time of the clock."""
        if plugin_type.blocking is not None:  # set by the author, or marked already
            return
        held_s -= self._starved_s(now_s - held_s)
        if held_s < HOLD_S:
            return
        holds = self._holds.setdefault(plugin_type.name, deque(maxlen=HOLDS))
        holds.append(now_s)
        often = len(holds) == HOLDS and now_s - holds[0] <= HOLDS_WITHIN_S
        if held_s >= LONG_HOLD_S or often:
            self._mark(plugin_type, _held_up(held_s, None))

    def failed(self, plugin_type: PluginType, error: BaseException) -> None:
        """Mark a plugin whose plain hook failed because it runs an event loop of its own. In a thread it can."""
        if plugin_type.blocking is None and _is_of_own_loop(error):
            self._mark(plugin_type, "runs an event loop of its own, which fails in the thread of the worker's event loop")

    def watch(self, loop: asyncio.AbstractEventLoop, look: Callable[[float], None]) -> None:
        """
        Start a thread that watches the event loop. Must be called in the event loop's thread.

        Args: look: called about every second, in the event loop's thread, with the time.
        """
        self.starvation = Starvation()
        self.turn = LoopTurn(loop, look)
        threading.Thread(target=self._watch, name="blocking-detector", daemon=True).start()

    def sleep(self) -> None:
        """Stop looking until `wake` is called. Called when the worker has nothing to do, so that the thread does not wake up in vain."""
        self._awake.clear()

    def wake(self) -> None:
        """Look again. Called when the worker has something to do."""
        self._awake.set()

    def close(self) -> None:
        """End that thread."""
        self._closed.set()
        self._awake.set()

    def look(self, now_s: float) -> None:
        """Mark the plugin whose hook holds the event loop now, if it has done so for long enough."""
        plugin_type, since_s = self.running, self.since_s  # in this order, because the event loop sets them in the other order
        if plugin_type is not None and plugin_type.blocking is None and now_s - since_s >= LONG_HOLD_S:
            held_s = now_s - since_s - self._starved_s(since_s)
            if held_s >= LONG_HOLD_S:
                self._mark(plugin_type, _held_up(held_s, self.turn.place()))

    def examine_loop(self, now_s: float) -> None:
        """
        Report what has held the event loop for long, with its line, while it still does.

        A plain hook is first reported by `look`, which also marks its plugin.
        """
        held_s = self.turn.held_s(now_s)
        running = self.running
        if held_s - self._starved_s(now_s - held_s) < (LONG_HOLD_S if running is None else FIRST_S):
            return
        place = self.turn.place_to_report(now_s)
        if place is None:
            return
        if running is not None:
            detector_logger.warning(
                "plugin %s still holds up all calls of its worker after %g s, in %s", running.name, round(held_s, 1), place
            )
        else:
            detector_logger.warning(
                "%s holds up all calls of its worker, for %g s so far, in %s. In a coroutine, await what can be awaited, and run what "
                "blocks with `await asyncio.to_thread(...)`",
                self.turn.task(),
                round(held_s, 1),
                place,
            )

    def _starved_s(self, since_s: float) -> float:
        return 0.0 if self.starvation is None else self.starvation.since_s(since_s)

    def _watch(self) -> None:
        while self._awake.wait() and not self._closed.wait(LONG_HOLD_S):
            now_s = primitives.now_s()
            self.look(now_s)
            self.examine_loop(now_s)
            if self.starvation is not None:
                self.starvation.note(now_s)

    def _mark(self, plugin_type: PluginType, what: str) -> None:
        with self._marking:  # the event loop and the watching thread can find it at the same time
            if plugin_type.blocking is not None:
                return
            plugin_type.blocking = True
        detector_logger.warning(
            "plugin %s %s: from now on it runs in threads. "
            "Set `blocking = True` on its class to run it in threads from the start, or `blocking = False` to prevent it",
            plugin_type.name,
            what,
        )
        if self.on_mark is not None:
            self.on_mark(plugin_type.name)


def _held_up(held_s: float, place: str | None) -> str:
    return f"held up all calls of its worker for {held_s * 1000:.0f} ms{f', in {place}' if place else ''}"


def _is_of_own_loop(error: BaseException) -> bool:
    """Return True if this error, or one that caused it, is asyncio's refusal to run an event loop."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RuntimeError) and str(found).endswith(OWN_LOOP):
            return True
        found = found.__cause__ or found.__context__
    return False
