# SPDX-License-Identifier: Apache-2.0
"""Find the current line of a plugin in a thread, a task or a greenlet, such as `guard.py:12 in on_request: time.sleep(3)`."""

import asyncio
import gc
import linecache
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

_NOT_THE_PLUGINS: Final = ("apisix.runner.", "apisix.compiled.", "asyncio.", "uvloop.", "selectors.", "threading.")
MAX_DEPTH: Final = 1000
"""The maximum number of frames or awaitables that are followed."""


def of_thread(thread_id: int) -> str | None:
    """Return the place of a thread, None if it runs no code of a plugin. Args: thread_id: its `threading.get_ident()`."""
    return of_frame(sys._current_frames().get(thread_id))


def of_frame(frame: FrameType | None) -> str | None:
    """Return the place of the plugin's code to which `frame` belongs, or which called it. Return None if there is no such code."""
    return _place(_of_the_plugin(frame))


def outermost(frame: FrameType | None) -> object:
    """Return a value that identifies the call of the plugin's code that led to `frame`, None if there is none. It refers to no frame."""
    frames = _of_the_plugin(frame)
    return (id(frames[-1]), id(frames[-1].f_code)) if frames else None


def _of_the_plugin(frame: FrameType | None) -> list[FrameType]:
    """Return the frames of the plugin's code that led to `frame`, innermost first, without the runner's frames before and after them."""
    frames = list(_backwards(frame))
    while frames and not _is_the_plugins(frames[0]):
        del frames[0]
    count = next((number for number, frame in enumerate(frames) if not _is_the_plugins(frame)), len(frames))
    return frames[:count]


def of_task(task: "asyncio.Task[Any]") -> str | None:
    """Return the place where a task waits, None if it does not wait in code of a plugin. The task must not be running."""
    frames = [frame for frame in _awaited(task.get_coro()) if _is_the_plugins(frame)]
    return _place(frames[::-1])


def _place(frames: list[FrameType]) -> str | None:
    """Return the line of the plugin's file, and the line of the library that it calls, if any. Args: frames: innermost first."""
    if not frames:
        return None
    own = next((frame for frame in frames if frame.f_code.co_filename == frames[-1].f_code.co_filename), frames[-1])
    text = f"{_line(own)}: {linecache.getline(own.f_code.co_filename, own.f_lineno).strip()}".rstrip(": ")
    return text if own is frames[0] else f"{text} (at {_line(frames[0])})"


def _line(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"


def _is_the_plugins(frame: FrameType) -> bool:
    """Return True if the module of a frame belongs to a plugin. Frames of compiled coroutines have neither a module nor a line."""
    module = frame.f_globals.get("__name__")
    return module is not None and not f"{module}.".startswith(_NOT_THE_PLUGINS)


def _backwards(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(MAX_DEPTH):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _awaited(awaitable: Any) -> Iterable[FrameType]:
    """Yield the frames of a coroutine or generator and of the awaitables that it waits for, outermost first."""
    for _ in range(MAX_DEPTH):
        if awaitable is None:
            return
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if isinstance(frame, FrameType):
            yield frame
        following = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
        if following is None and type(awaitable).__name__ == "coroutine_wrapper":  # in compiled code
            following = next(iter(gc.get_referents(awaitable)), None)
        awaitable = following
