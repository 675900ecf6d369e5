# SPDX-License-Identifier: Apache-2.0
"""Capture the output of `print`: each line becomes a log record immediately, with the plugin's name."""

import io
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final, TextIO

from apisix.runner.logging.call_fields import CallFields, current_call

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_LINE_CHARS: Final = 1 << 16
"""The length at which a line without an end is split, to bound memory, in characters."""
_NOT_AN_AUTHOR: Final = ("logging", "traceback", "warnings", "pprint", __name__)
"""Modules that write on behalf of others: the record has the name of the module that called them."""

Emit = Callable[[logging.LogRecord], object]


class PrintedLines(io.TextIOBase):
    """
    A text stream, for `sys.stdout` or `sys.stderr`, that makes a log record of each line.

    An incomplete line is kept until the line ends, the stream is flushed, or the same thread writes during another call.

    Records go to `emit` instead of a logger, because an author's own handler may write to this stream and would receive its own output.

    Args:
        original: the stream that is replaced, which has the descriptor; None if the process was started without it.
        level: the level of the records.
        emit: called with each record.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, original: TextIO | None, level: int, emit: Emit) -> None:
        self._original = original
        self._level = level
        self._emit = emit
        # By thread: the incomplete line, the call during which it was written, and the module that wrote it.
        self._parts: dict[int, tuple[str, CallFields | None, str]] = {}

        self._emitting: set[int] = set()  # threads in `emit`

    @property
    def buffer(self) -> "PrintedBytes":
        """A binary stream that decodes UTF-8 and writes to this one."""
        return PrintedBytes(self)

    def reconfigure(self, **options: object) -> None:
        """Do nothing: the log decides about encoding and buffering."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return False: a terminal is not captured."""
        return False

    def fileno(self) -> int:
        """
        Return the descriptor of the original stream, for code that writes to it directly.

        Raises: UnsupportedOperation: the process was started without it.
        """
        if self._original is None:
            raise io.UnsupportedOperation("the runner was started without this stream")
        return self._original.fileno()

    def write(self, text: str) -> int:
        """Log the lines that are now complete. Return the number of characters."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        thread = threading.get_ident()
        call = current_call.get()
        part, part_call, module = self._parts.pop(thread, ("", call, ""))
        if part and part_call is not call:
            self._log(part, part_call, module)
            part, module = "", ""
        module = module or _author()
        *lines, rest = (part + text).split("\n")
        for line in lines:
            self._log(line, call, module)
        while len(rest) > MAX_LINE_CHARS:
            self._log(rest[:MAX_LINE_CHARS], call, module)
            rest = rest[MAX_LINE_CHARS:]
        if rest:
            self._parts[thread] = rest, call, module
        return len(text)

    def flush(self) -> None:
        """Log the incomplete line of this thread."""
        if waiting := self._parts.pop(threading.get_ident(), None):
            self._log(*waiting)

    def flush_all(self) -> None:
        """Log the incomplete lines of all threads. Called at the end of the process."""
        for thread in list(self._parts):
            if waiting := self._parts.pop(thread, None):
                self._log(*waiting)

    def _log(self, line: str, call: CallFields | None, module: str) -> None:
        if not line:  # an empty line is of no use in a log
            return
        record = logging.LogRecord(module, self._level, "", 0, "%s", (line,), None)
        record.limited = False  # the limit compares formats, and printed lines have only one
        thread = threading.get_ident()
        if thread in self._emitting:
            # The log itself writes here, for example because it can't write to its file.
            if self._original is not None:
                with suppress(OSError, ValueError):
                    self._original.write(f"{line}\n")
            return
        self._emitting.add(thread)
        token = current_call.set(call)
        try:
            self._emit(record)
        finally:
            current_call.reset(token)
            self._emitting.discard(thread)


class PrintedBytes(io.RawIOBase):
    """The binary stream of a `PrintedLines`."""

    def __init__(self, lines: PrintedLines) -> None:
        self._lines = lines

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: "ReadableBuffer") -> int:
        """Log the lines that are now complete. Return the number of bytes."""
        view = memoryview(data)
        self._lines.write(bytes(view).decode(errors="backslashreplace"))
        return view.nbytes

    def flush(self) -> None:
        """Log the incomplete line of this thread."""
        self._lines.flush()

    def fileno(self) -> int:
        """Return the descriptor of the original stream. Raise UnsupportedOperation if there is none."""
        return self._lines.fileno()


def capture_prints(emit: Emit) -> Callable[[], None]:
    """
    Log output to `sys.stdout` (level info) and `sys.stderr` (warning), unless the stream is a terminal.

    A terminal is read by a person, and a debugger may need it.

    Returns: a function that logs incomplete lines, to be called at the end of the process.
    """
    captured = []
    for name, level in (("stdout", logging.INFO), ("stderr", logging.WARNING)):
        original: TextIO | None = getattr(sys, name)
        if original is None or not original.isatty():
            if isinstance(original, io.TextIOWrapper):
                # For code that writes to sys.__stdout__, because workers exit without flushing it.
                original.reconfigure(line_buffering=True)
            captured.append(PrintedLines(original, level, emit))
            setattr(sys, name, captured[-1])

    def finish() -> None:
        for stream in captured:
            stream.flush_all()

    return finish


def _author() -> str:
    """Return the name of the module that writes."""
    frame: FrameType | None = sys._getframe(2)
    name = "?"
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "?"))
        if name not in _NOT_AN_AUTHOR and not name.startswith("logging."):
            break
        frame = frame.f_back
    return name
