# SPDX-License-Identifier: Apache-2.0
"""Keep an error that occurs in every call from filling the disk: its lines are limited, and the others are counted."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from apisix.runner.logging.call_fields import current_call

WINDOW_S = 60.0
MAX_TEXT = 1000
"""How many characters of a format are kept and compared."""
MAX_KINDS = 1000  # a plugin that formats a user's name itself creates a new kind for each user


class Window(msgspec.Struct):
    """
    The current minute of one kind of line.

    It keeps only what the line with the count needs, and no record: a record refers to its arguments and to a traceback, and so to
    the local variables of a failed call.
    """

    until_s: float
    name: str
    level: int
    path: str
    line: int
    text: str
    written: int = 0
    suppressed: int = 0


class RepeatLimit(logging.Filter):
    """
    Write up to `limit` lines of a kind within a minute, and then write how many were suppressed.

    Lines are of one kind if their logger, level, format (before its arguments are filled in), plugin and class of exception
    are the same. Only warnings and errors are limited, and only if they do not have
    `extra={"limited": False}`, which marks lines that are logged once for each route.

    The count is written before the first line of any kind after the minute, or by `write_counts`.
    """

    def __init__(self, limit: int, write: Callable[[logging.LogRecord], object], clock: Callable[[], float] = time.monotonic) -> None:
        """Args: limit: lines per minute. write: called with the records that contain a count. clock: returns seconds."""
        super().__init__()
        self._limit = limit
        self._write = write
        self._clock = clock
        self._lock = threading.RLock()  # handlers call their filters outside their own lock
        self._windows: OrderedDict[tuple[object, ...], Window] = OrderedDict()  # by the end of the window

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the record. Counts of earlier records are written first."""
        with self._lock:
            return self._admit(record)

    def _admit(self, record: logging.LogRecord) -> bool:
        now_s = self._clock()
        while self._windows and next(iter(self._windows.values())).until_s <= now_s:
            self._close_oldest()
        if record.levelno < logging.WARNING or not getattr(record, "limited", True):
            return True
        kind = _kind(record)
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                self._close_oldest()
            window = self._windows[kind] = Window(
                now_s + WINDOW_S, record.name, record.levelno, record.pathname, record.lineno, _text(record)
            )
        if window.written < self._limit:
            window.written += 1
            return True
        window.suppressed += 1
        return False

    def renew_lock(self) -> None:
        """Replace the lock in a forked child: a thread that does not exist in the child may have held it."""
        self._lock = threading.RLock()

    def write_counts(self) -> None:
        """Write all counts now, for example at the end of the process."""
        with self._lock:
            while self._windows:
                self._close_oldest()

    def _close_oldest(self) -> None:
        _, window = self._windows.popitem(last=False)
        if window.suppressed:
            message = "%d more lines like this one were not written: %s"
            arguments = (window.suppressed, window.text)
            summary = logging.LogRecord(window.name, window.level, window.path, window.line, message, arguments, None)
            summary.suppressed = window.suppressed
            self._write(summary)


def _text(record: logging.LogRecord) -> str:
    """Return the format of a record, shortened, because a plugin can log a text of any length."""
    return str(record.msg)[:MAX_TEXT]


def _kind(record: logging.LogRecord) -> tuple[object, ...]:
    call = current_call.get()
    exception = record.exc_info[0].__qualname__ if record.exc_info and record.exc_info[0] is not None else None
    return (record.name, record.levelno, _text(record), call.plugin if call else None, exception)
