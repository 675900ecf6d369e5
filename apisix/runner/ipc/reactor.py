# SPDX-License-Identifier: Apache-2.0
"""The supervisor's loop: descriptors, timers and signals, in one thread and without asyncio, so that it can fork at any time."""

import heapq
import itertools
import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Protocol

logger = logging.getLogger(__name__)

Callback = Callable[[], object]
"""Called without arguments. The return value is ignored."""


class HasFileno(Protocol):
    """An object with a file descriptor, which can be watched."""

    def fileno(self) -> int: ...


class Timer:
    """A callback that is called at a time. `at_s` is by `time.monotonic`."""

    __slots__ = ("at_s", "callback", "every_s")

    def __init__(self, at_s: float, callback: Callback | None, every_s: float | None) -> None:
        self.at_s = at_s
        self.callback = callback
        self.every_s = every_s

    def cancel(self) -> None:
        """Do not call the callback any more."""
        self.callback = None


class Reactor:
    """
    Wait for descriptors, times and signals, and call what was registered for them.

    To be created in the main thread, once in a process: signals are the process's.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._signals: dict[int, Callback] = {}
        self._arrived_s: dict[int, float] = {}
        self._wakeup, self._wakeup_sender = socket.socketpair()
        self._wakeup.setblocking(False)
        self._wakeup_sender.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_sender.fileno(), warn_on_full_buffer=False)
        self.watch(self._wakeup, self._take_signals)

    def on_signal(self, signum: int, callback: Callback) -> None:
        """Call `callback` when the signal arrives, in the event loop, and so never in the middle of another callback."""
        self._signals[signum] = callback
        signal.signal(signum, self._note)

    def signal_age_s(self, signum: int) -> float:
        """Return how long ago a signal arrived that is not completely handled yet, in seconds, or 0 if there is none."""
        arrived_s = self._arrived_s.get(signum)
        return 0.0 if arrived_s is None else time.monotonic() - arrived_s

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # Called by the interpreter, perhaps long before the event loop runs. Python also writes the number to the wake-up descriptor.
        self._arrived_s.setdefault(signum, time.monotonic())

    def watch(self, source: HasFileno, callback: Callback) -> None:
        """Call `callback` whenever `source` can be read."""
        self._selector.register(source, selectors.EVENT_READ, (callback, None))

    def watch_writing(self, source: HasFileno, callback: Callback | None) -> None:
        """Call `callback` whenever `source` can be written. None stops that. If `source` is not watched, do nothing."""
        with suppress(KeyError):
            on_read = self._selector.get_key(source).data[0]
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if callback else 0)
            self._selector.modify(source, events, (on_read, callback))

    def unwatch(self, source: HasFileno) -> None:
        """Stop watching `source`. Must be called before the descriptor is closed. If `source` is not watched, do nothing."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call `callback` once, in `delay_s` seconds."""
        return self._schedule(Timer(time.monotonic() + delay_s, callback, None))

    def call_every(self, period_s: float, callback: Callback) -> Timer:
        """
        Call `callback` every `period_s` seconds, and skip calls that were missed.

        The times are multiples of the period, so timers whose periods are multiples of each other share their wake-ups.
        """
        return self._schedule(Timer(_next_multiple(period_s, time.monotonic()), callback, period_s))

    def run(self, until: Callable[[], bool]) -> None:
        """Run the event loop until `until` returns true. It is called before each iteration."""
        while not until():
            for key, events in self._selector.select(self._timeout_s()):
                on_read, on_write = key.data
                # An earlier callback of this iteration may have closed the descriptor, which is not watched any more then.
                if events & selectors.EVENT_WRITE and on_write and self._watches(key):
                    _call(on_write)
                if events & selectors.EVENT_READ and self._watches(key):
                    _call(on_read)
            self._run_timers()

    def close(self) -> None:
        """
        Release all resources. Called by a child after the fork, too.

        Descriptors are not unregistered one by one: a child shares the selector with its parent, which would then get no more events.
        """
        signal.set_wakeup_fd(-1)
        for signum in self._signals:
            signal.signal(signum, signal.SIG_DFL)
        self._selector.close()
        self._wakeup.close()
        self._wakeup_sender.close()

    def _watches(self, key: selectors.SelectorKey) -> bool:
        now = self._selector.get_map().get(key.fd)
        return now is not None and now.fileobj is key.fileobj

    def _schedule(self, timer: Timer) -> Timer:
        heapq.heappush(self._timers, (timer.at_s, next(self._order), timer))
        return timer

    def _timeout_s(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        now_s = time.monotonic()
        while self._timers and self._timers[0][0] <= now_s:
            _, _, timer = heapq.heappop(self._timers)
            if timer.callback is None:
                continue
            callback = timer.callback
            if timer.every_s is not None:
                timer.at_s += timer.every_s
                if timer.at_s <= now_s:
                    timer.at_s = _next_multiple(timer.every_s, now_s + timer.every_s)
                self._schedule(timer)
            _call(callback)

    def _take_signals(self) -> None:
        with suppress(BlockingIOError):
            for signum in self._wakeup.recv(4096):
                if callback := self._signals.get(signum):
                    _call(callback)
                    self._arrived_s.pop(signum, None)


def _next_multiple(period_s: float, after_s: float) -> float:
    """Return the first multiple of a period that is later than `after_s`."""
    return (after_s // period_s + 1) * period_s


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:
        # All workers exit with the supervisor, so a defect in one callback must not stop it.
        logger.exception("a defect of the runner's supervisor")
