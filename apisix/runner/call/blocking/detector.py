# SPDX-License-Identifier: Apache-2.0
"""Find plugins that block the event loop or run their own event loop, so that their plain hooks run in threads. Source: design, 4."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from apisix.runner import primitives
from apisix.runner.call.blocking.long_calls import FIRST_S
from apisix.runner.call.blocking.loop_probe import UNNAMED, LoopProbe
from apisix.runner.call.blocking.starvation import Starvation
from apisix.runner.plugin.chain.background import BACKGROUND
from apisix.runner.plugin.plugin_type import PluginType

detector_logger = logging.getLogger("apisix.runner.call.blocking.detector")

SHORT_BLOCK_S: Final = 0.010
"""A hook is counted if it blocks the event loop for at least this time, in seconds."""
LONG_BLOCK_S: Final = 0.100
"""A plugin is blocking if one of its hooks blocks the event loop for at least this time, in seconds."""
SHORT_BLOCKS: Final = 3
"""A plugin is blocking if this many hooks are counted within `SHORT_BLOCKS_WITHIN_S`."""
SHORT_BLOCKS_WITHIN_S: Final = 60.0
"""In seconds."""
SHORT_LOOKS: Final = 10
"""How often a coroutine is examined after each `LONG_BLOCK_S`, at most."""

OWN_LOOP: Final = (
    "cannot be called from a running event loop",  # asyncio.run, asyncio.Runner.run
    "This event loop is already running",
    "this event loop is already running.",  # uvloop
    "Cannot run the event loop while another loop is running",
)
"""The ends of error messages if a hook runs an event loop in the thread of the worker's event loop. Source: asyncio, uvloop."""


_ADVICE: Final = {
    False: "",
    True: '. It computes most of this time, so in a thread it still delays other calls: `runs_in = "process"` runs it in other processes',
    None: '. If it computes, a thread still delays other calls: `runs_in = "process"` runs it in other processes',
}
"""The end of the warning about a plain hook, by whether the plugin computes."""
_BACKGROUND_ADVICE: Final = {
    False: "",
    True: ". It computes most of this time, so in a thread it still delays calls: use `await asyncio.create_subprocess_exec(...)`",
    None: ". If it computes, a thread still delays calls: use `await asyncio.create_subprocess_exec(...)`",
}
"""The same for background tasks. A plugin that has one can't have `runs_in`."""
_AWAIT: Final = ". In a coroutine, await what can be awaited, and run blocking code with `await asyncio.to_thread(...)`"
"""The advice for coroutines, unless it is known that they compute."""


class ShortBlocks:
    """Counts the blocks of at least `SHORT_BLOCK_S`, by plugin."""

    def __init__(self) -> None:
        self._times_s: dict[str, deque[float]] = {}

    def are_often(self, name: str, now_s: float) -> bool:
        """Count a block that was found at `now_s`. Return True if `SHORT_BLOCKS` were counted within `SHORT_BLOCKS_WITHIN_S`."""
        times_s = self._times_s.setdefault(name, deque(maxlen=SHORT_BLOCKS))
        times_s.append(now_s)
        return len(times_s) == SHORT_BLOCKS and now_s - times_s[0] <= SHORT_BLOCKS_WITHIN_S


class BlockingDetector:
    """
    Record for how long plain hooks block the event loop, and mark blocking plugins.

    Time in which other processes used the processor does not count. Otherwise every plugin could seem to block on a busy machine.

    Attributes:
        on_mark: called, in any thread, with the name of a plugin that has been marked. None if no other worker has to be informed.
        running: the plugin whose plain hook runs on the event loop now, None if there is none.
        since_s: when this hook was called, as `primitives.now_s()` returned it.
        starvation: measures the event loop's thread; None before `watch` is called.
        probe: measures the event loop; it reports nothing before `watch` is called.
    """

    def __init__(self, on_mark: Callable[[str], None] | None = None) -> None:
        self.on_mark = on_mark
        self.running: PluginType | None = None
        self.since_s = 0.0
        self.starvation: Starvation | None = None
        self._short_blocks = ShortBlocks()
        # Used in the watching thread only.
        self._coroutines = ShortBlocks()
        self._warned: set[str] = set()
        self._marking = threading.Lock()
        self._closed = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self.probe = LoopProbe()

    def record(self, plugin_type: PluginType, blocked_s: float, now_s: float) -> None:
        """Record that a hook of `plugin_type` has blocked the event loop for `blocked_s` seconds until `now_s`."""
        if plugin_type.blocking is not None:  # the author has set it, or the plugin is already marked
            return
        since_s = now_s - blocked_s
        blocked_s -= self._starved_s(since_s)
        if blocked_s < SHORT_BLOCK_S:
            return
        often = self._short_blocks.are_often(plugin_type.name, now_s)
        if often or blocked_s >= LONG_BLOCK_S:
            self._mark(plugin_type, _blocked_for(blocked_s, None), self._computes(since_s, now_s))

    def failed(self, plugin_type: PluginType, error: BaseException) -> None:
        """Mark a plugin if its plain hook failed because it runs its own event loop, which is possible in a thread."""
        if plugin_type.blocking is None and _is_about_own_loop(error):
            self._mark(plugin_type, "runs its own event loop, which fails in the thread of the worker's event loop")

    def watch(self, loop: asyncio.AbstractEventLoop, look: Callable[[float], None]) -> None:
        """
        Start a thread that watches the event loop. Must be called in the event loop's thread.

        Args: look: called about every second in the event loop's thread, with the current time.
        """
        self.starvation = Starvation()
        self.probe = LoopProbe(loop, look)
        threading.Thread(target=self._watch, name="blocking-detector", daemon=True).start()

    def sleep(self) -> None:
        """Stop watching until `wake` is called. Called when the worker is idle, so that the thread does not wake up without need."""
        self._awake.clear()

    def wake(self) -> None:
        """Watch again. Called when the worker is no longer idle."""
        self._awake.set()

    def close(self) -> None:
        """End the thread that watches."""
        self._closed.set()
        self._awake.set()

    def look(self, now_s: float) -> None:
        """Mark the plugin whose hook blocks the event loop now, if it has blocked it for long enough."""
        plugin_type, since_s = self.running, self.since_s  # in this order, because the event loop sets `since_s` first
        if plugin_type is not None and plugin_type.blocking is None and now_s - since_s >= LONG_BLOCK_S:
            blocked_s = now_s - since_s - self._starved_s(since_s)
            if blocked_s >= LONG_BLOCK_S:
                self._mark(plugin_type, _blocked_for(blocked_s, self.probe.place()), self._computes(since_s, now_s))

    def examine_loop(self, now_s: float) -> None:
        """
        Report code that has blocked the event loop for long and still blocks it, with the line of the plugin.

        A plain hook is reported by `look` first, which also marks its plugin. Coroutines can't be moved to threads, so they are only
        reported.
        """
        blocked_s = self.probe.blocked_s(now_s)
        if blocked_s == 0.0:
            return
        since_s = now_s - blocked_s
        running = self.running
        if blocked_s - self._starved_s(since_s) < (LONG_BLOCK_S if running is None else FIRST_S):
            return
        place = self.probe.place_to_report(now_s)
        if place is None:
            return
        if running is not None:
            detector_logger.warning(
                "plugin %s still blocks all calls of its worker after %g s, in %s", running.name, round(blocked_s, 1), place
            )
        else:
            name = self.probe.name()
            subject = "a callback of a plugin" if name is None else _subject(name)
            advice = self._advice(name, since_s, now_s)
            detector_logger.warning(
                "%s has been blocking all calls of its worker for %g s, in %s%s", subject, round(blocked_s, 1), place, advice
            )
            if name is not None:
                self._warned.add(name)

    def examine_coroutine(self, now_s: float) -> bool:
        """
        Count the coroutine that blocks the event loop now, if it has done so for long enough. Report its plugin once, if this is often.

        Returns: True if it has to be examined again soon. Otherwise, it is counted, or it has waited for something.
        """
        since_s = self.probe.task_since_s()
        if since_s is None:
            return False
        if now_s - since_s - self._starved_s(since_s) < SHORT_BLOCK_S:
            return True
        name, place = self.probe.name(), self.probe.place()
        if name is None or name.startswith(UNNAMED) or place is None or self.probe.task_since_s() != since_s:
            return False
        if self._coroutines.are_often(name, now_s) and name not in self._warned:
            self._warned.add(name)
            detector_logger.warning(
                "%s blocks all calls of its worker often: %d times within a minute for at least %.0f ms, now in %s%s",
                _subject(name),
                SHORT_BLOCKS,
                SHORT_BLOCK_S * 1000,
                place,
                self._advice(name, since_s, now_s),
            )
        return False

    def _advice(self, name: str | None, since_s: float, now_s: float) -> str:
        """Return the end of the warning about a coroutine. Args: name: the name of its task."""
        computes = self._computes(since_s, now_s)
        is_background = name is not None and name.endswith(BACKGROUND)
        return ("" if computes else _AWAIT) + (_BACKGROUND_ADVICE if is_background else _ADVICE)[computes]

    def _starved_s(self, since_s: float) -> float:
        return 0.0 if self.starvation is None else self.starvation.since_s(since_s)

    def _watch(self) -> None:
        while self._awake.wait() and not self._closed.wait(LONG_BLOCK_S):
            now_s = primitives.now_s()
            if self.starvation is not None:
                self.starvation.sample(now_s)  # first, so that it is exact for the callback that `examine_loop` schedules
            self.look(now_s)
            self.examine_loop(now_s)
            # If a task runs, look again soon.
            for _ in range(SHORT_LOOKS):
                if not self.examine_coroutine(primitives.now_s()) or self._closed.wait(SHORT_BLOCK_S):
                    break

    def _computes(self, since_s: float, now_s: float) -> bool | None:
        """
        Return True if the event loop's thread has computed since then, False if it has waited, None if it is not known.

        Time in which it waited for a processor is neither.
        """
        if self.starvation is None:
            return None
        least_s, greatest_s = self.starvation.bounds_of_run_s(since_s, now_s)
        half_s = max(0.0, now_s - since_s - self._starved_s(since_s)) / 2
        return True if least_s >= half_s else False if 0.0 < greatest_s < half_s else None

    def _mark(self, plugin_type: PluginType, what: str, computes: bool | None = False) -> None:
        with self._marking:  # the event loop and the watching thread may find the plugin at the same time
            if plugin_type.blocking is not None:
                return
            plugin_type.blocking = True
        detector_logger.warning(
            "plugin %s %s: from now on it runs in threads. "
            "Set `blocking = True` on its class to run it in threads from the start, or `blocking = False` to never do so%s",
            plugin_type.name,
            what,
            _ADVICE[computes],
        )
        if self.on_mark is not None:
            self.on_mark(plugin_type.name)


def _blocked_for(blocked_s: float, place: str | None) -> str:
    return f"blocked all calls of its worker for {blocked_s * 1000:.0f} ms{f', in {place}' if place else ''}"


def _subject(name: str) -> str:
    return "a task that a plugin has started" if name.startswith(UNNAMED) else f"plugin {name}"


def _is_about_own_loop(error: BaseException) -> bool:
    """Return True if this error, or an error that caused it, was raised because an event loop is already running."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RuntimeError) and str(found).endswith(OWN_LOOP):
            return True
        found = found.__cause__ or found.__context__
    return False
