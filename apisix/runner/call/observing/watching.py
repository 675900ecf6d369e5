# SPDX-License-Identifier: Apache-2.0
"""
Find mistakes while a hook runs, for `dev` and the test kit. These mistakes are easy to miss if a plugin is tried only once:

- A coroutine that is never awaited: `self.check(request)` without `await` checks nothing, and `if request.avar(...)` is always true.
- An assignment to an attribute of `self` in a hook: all calls of the route share the instance.

A context variable contains the `HookWatch`, so the tasks and threads that the hook starts find it too. This module has no effect unless
`install` was called.
"""

import gc
import sys
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from apisix.runner.call.blocking import places
from apisix.runner.errors import RunnerError
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.plugin import Plugin

ORIGIN_DEPTH: Final = 1
"""How many frames of its creation each coroutine records: only the line that created it."""


class CoroutineNeverAwaited(RunnerError, RuntimeError):
    """A hook created a coroutine and did not await it, so it did not run."""


class SharedStateWarning(UserWarning):
    """A hook assigned an attribute of `self`, but all calls of its route share the instance."""


watched: "ContextVar[HookWatch | None]" = ContextVar("watched", default=None)
"""The watch of the hook that runs in this context."""


class HookWatch:
    """
    Collects mistakes of one hook, and of the tasks and threads that it starts.

    Args: hook: a method of the plugin's instance, or a function.
    """

    def __init__(self, hook: Callable[..., object]) -> None:
        self.instance = getattr(hook, "__self__", None)
        watched.set(self)
        self._never_awaited: list[str] = []

    def never_awaited(self, coroutine: Any) -> None:
        """Called when a coroutine is deleted that never started."""
        name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
        origin = getattr(coroutine, "cr_origin", None)
        if origin:
            file, line, function = origin[0]
            place = f"{Path(file).name}:{line} in {function}"
        else:
            place = places.of_frame(sys._getframe(1)) or "an unknown place"
        self._never_awaited.append(f"{place}: the coroutine {name} was never awaited, so it did not run. Write `await` before the call")

    def end(self) -> None:
        """Called when the hook has ended."""
        watched.set(None)

    def check(self) -> None:
        """Raise CoroutineNeverAwaited if the hook did not await a coroutine that it created."""
        if self._never_awaited:
            raise CoroutineNeverAwaited("; ".join(dict.fromkeys(self._never_awaited)))


def _with_python_coroutines(cls: Any) -> Any:
    """Derive a class with Python coroutines, because coroutines of a compiled class do not record the line that created them."""

    def of_python(name: str) -> Callable[..., Any]:
        method = getattr(cls, name)

        async def accessor(self: Any, *arguments: Any, **options: Any) -> Any:
            return await method(self, *arguments, **options)

        accessor.__qualname__ = f"{cls._kind}.{name}"
        return accessor

    return type(cls.__name__, (cls,), {"__slots__": (), **{name: of_python(name) for name in ACCESSORS}})


ACCESSORS: Final = ("aread", "atext", "ajson", "aform", "afiles", "avar", "ametadata")
WatchedRequest: Final[type[Request]] = _with_python_coroutines(Request)
"""Watched plugins get this instead of a Request."""
WatchedResponse: Final[type[Response]] = _with_python_coroutines(Response)
"""Watched plugins get this instead of a Response."""


_warn_of_coroutine: Callable[[Any], None] | None = None
_warned: set[tuple[type, str]] = set()
_collecting = False


def install() -> None:
    """Start to watch in this process, for coroutines that this thread creates. Later calls have no further effect."""
    global _warn_of_coroutine
    sys.set_coroutine_origin_tracking_depth(max(ORIGIN_DEPTH, sys.get_coroutine_origin_tracking_depth()))
    if _warn_of_coroutine is None:
        # The interpreter calls this function of `warnings` for each coroutine that is deleted before it has started.
        # `warnings.showwarning` can't be used, because filters decide whether it is called, and test runners change both.
        _warn_of_coroutine = getattr(warnings, "_warn_unawaited_coroutine")  # noqa: B009
        setattr(warnings, "_warn_unawaited_coroutine", _coroutine_ended)  # noqa: B010
        setattr(Plugin, "__setattr__", _assign)  # noqa: B010
        gc.callbacks.append(_note_collection)


def _note_collection(phase: str, _info: dict[str, int]) -> None:
    global _collecting
    _collecting = phase == "start"


def _coroutine_ended(coroutine: Any) -> None:
    watch = watched.get()
    # A coroutine that the garbage collector deletes may belong to an earlier call.
    if watch is not None and not _collecting:
        watch.never_awaited(coroutine)
    elif _warn_of_coroutine is not None:
        _warn_of_coroutine(coroutine)


def _assign(self: Plugin[Any], name: str, value: object) -> None:
    object.__setattr__(self, name, value)
    watch = watched.get()
    if watch is None or watch.instance is not self or name in self.shared_state or (type(self), name) in _warned:
        return
    _warned.add((type(self), name))
    warnings.warn(
        f"{type(self).__name__} assigns self.{name} while a call runs. One instance serves all calls of a route, so the call of another "
        "client can see it. Keep it in a local variable or in request.context. If all calls are meant to share it, "
        f'set shared_state = ("{name}",) on the class',
        SharedStateWarning,
        stacklevel=2,
    )
