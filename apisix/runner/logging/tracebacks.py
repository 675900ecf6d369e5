# SPDX-License-Identifier: Apache-2.0
"""Tracebacks as an author wants to read them: complete, and without what is not the author's."""

import linecache
import os
import sysconfig
import traceback
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

from apisix.runner.errors import LocalProtocolError, RunnerError

MAX_FRAMES: Final = 12
"""How many frames a stack may have before the middle of it is left out: functions that call each other recurse without equal lines."""
MAX_MEMBERS: Final = 5
"""How many members of an ExceptionGroup are shown, and how deep groups within groups are followed."""

SOURCE_LINES: Final = 5
"""How many lines of source are shown before and after a line."""

_OURS: Final = ("apisix.runner.", "apisix.compiled.")
# The files of the sources, and those that the frames of compiled modules name: setup.py merges the sources into them.
_RUNNER: Final = (str(Path(__file__).parents[1]) + os.sep, os.path.join("build", "cython", "apisix", ""))
_LIBRARIES: Final = tuple(
    sorted(
        {str(Path(sysconfig.get_path(name)).resolve()) + os.sep for name in ("purelib", "platlib", "stdlib", "platstdlib")},
        key=len,
        reverse=True,  # site-packages is below the standard library
    )
)


def format_error(error: BaseException) -> str:
    """
    Return the traceback of an exception as `traceback.format_exception` does, but short.

    Causes, contexts, notes and the members of groups are shown. The runner's own frames are left out. Of consecutive frames of one
    library only the last is shown. Recursion is collapsed. Values of variables are never shown: they may be secrets.
    """
    return "".join(_trimmed(error).format()).rstrip("\n")


def describe_error(error: BaseException) -> str:
    """
    Return what was raised in the first line, and below it where.

    If the exception has no cause, no context and no members, this is its stack; else it is what `format_error` returns.
    """
    trimmed = _trimmed(error)
    summary = "".join(trimmed.format_exception_only()).strip()
    is_simple = trimmed.__cause__ is None and trimmed.exceptions is None and (trimmed.__context__ is None or trimmed.__suppress_context__)
    body = trimmed.stack.format() if is_simple else trimmed.format()
    return "\n".join([summary, *"".join(body).splitlines()])


def source_frames(error: BaseException) -> list[tuple[str, int, str, list[tuple[int, str]], bool]]:
    """
    Return the frames of an exception, outermost first, without the runner's own: file, line, function, the lines of source around it, and
    True if the code is the author's.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_RUNNER)][-MAX_FRAMES:]
    own = _library(frames[0].filename) if frames else None
    return [
        (
            _relative(frame).filename,
            frame.lineno or 0,
            frame.name,
            _lines_around(frame.filename, frame.lineno or 0),
            _library(frame.filename) in (None, own),
        )
        for frame in frames
    ]


def _lines_around(file: str, line: int) -> list[tuple[int, str]]:
    first, last = max(1, line - SOURCE_LINES), line + SOURCE_LINES
    lines = linecache.getlines(file)[first - 1 : last]
    return [(number, text.rstrip("\n")) for number, text in enumerate(lines, first)]


def past_runner(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the runner's own frames at its beginning, so that it begins in the plugin."""
    while trace is not None and trace.tb_next is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    return trace


def _is_ours(frame: FrameType) -> bool:
    """Return True for a frame of the runner, by its module: the file name of a compiled frame is relative."""
    return str(frame.f_globals.get("__name__")).startswith(_OURS)


def _trimmed(error: BaseException) -> traceback.TracebackException:
    trimmed = traceback.TracebackException(
        type(error), error, error.__traceback__, compact=True, max_group_width=MAX_MEMBERS, max_group_depth=MAX_MEMBERS
    )
    is_refusal = isinstance(error, RunnerError) and not isinstance(error, LocalProtocolError)
    if is_refusal and all(frame.filename.startswith(_RUNNER) for frame in trimmed.stack):
        # The message contains everything that an author needs. Other errors that begin in the runner may be faults of the runner.
        trimmed.stack = traceback.StackSummary()
    waiting = [trimmed]
    while waiting:
        part = waiting.pop()
        part.stack = _Stack.of(part.stack)
        waiting += [other for other in (part.__cause__, part.__context__, *(part.exceptions or ())) if other is not None]
    return trimmed


class _Stack(traceback.StackSummary):
    """A stack that is written without what its reader does not look for."""

    @classmethod
    def of(cls, stack: Iterable[traceback.FrameSummary]) -> "_Stack":
        """Return a stack without the runner's frames, unless there are no others."""
        frames = list(stack)
        shown = [frame for frame in frames if not frame.filename.startswith(_RUNNER)] or frames
        return cls(map(_relative, shown))

    def format(self, **options: Any) -> list[str]:
        """Return the lines, each of which ends in a newline."""
        lines: list[str] = []
        # A plugin that was installed is the author's too, although it is where libraries are.
        own = _library(self[0].filename) if self else None
        for library, group in groupby(self, key=lambda frame: _library(frame.filename)):
            frames = list(group)
            if library is not None and library != own and len(frames) > 1:
                lines.append(f"  [{_count(len(frames) - 1, 'more frame')} in {library}]\n")
                frames = frames[-1:]
            lines += traceback.StackSummary.from_list(frames).format(**options)
        if len(lines) > MAX_FRAMES:
            half = MAX_FRAMES // 2
            lines[half:-half] = [f"  [{_count(len(lines) - 2 * half, 'more frame')}]\n"]
        return lines


def _relative(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    """Shorten the path, and leave out the columns, which would mark parts of the line in a line of their own."""
    directory = os.getcwd() + os.sep
    return traceback.FrameSummary(frame.filename.removeprefix(directory), frame.lineno, frame.name, lookup_line=False, line=frame.line)


def _library(file: str) -> str | None:
    """Return the name of the library that a file belongs to; None for a file of the author's."""
    if file.startswith("<frozen "):
        return file.removeprefix("<frozen ").rstrip(">").partition(".")[0]
    resolved = os.path.realpath(file)
    for directory in _LIBRARIES:
        if resolved.startswith(directory):
            first = resolved.removeprefix(directory).partition(os.sep)[0]
            return first.removesuffix(".py")
    return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
