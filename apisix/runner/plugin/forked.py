# SPDX-License-Identifier: Apache-2.0
"""
End child processes that plugins fork. Such a child must not continue as a second worker, so it ends when the plugin's code returns.

The plugin's code returns to the runner in few places: at the end of a hook, at the end of a function in a thread, when a coroutine
ends or has to wait, and at the end of the import of a plugin's file. Each of these places checks whether this process is such a child.
"""

import logging
import os
import sys
from collections.abc import Awaitable, Generator, Iterator
from contextlib import suppress
from typing import Any, NoReturn

forked_logger = logging.getLogger("apisix.runner.plugin.forked")

_is_child = False


def become_child() -> None:
    """Remember that a plugin has forked this process. Called in the child."""
    global _is_child
    _is_child = True


def end_if_child(error: BaseException | None = None) -> None:
    """End this process if a plugin has forked it. For the argument, see `end_forked`."""
    if _is_child:
        end_forked(error)


def end_forked(error: BaseException | None) -> NoReturn:
    """
    End this process, a child of the worker. Called when the hook that forked it has ended.

    Args: error: what the hook raised, or None. SystemExit sets the exit status, as in any program.
    """
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        status = 1
        with suppress(BaseException):  # the process must end, even if the log can't be written
            forked_logger.error("a process that a plugin has forked ends with an exception", exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(BaseException):
                stream.flush()
    os._exit(status & 0xFF)


class EndingInChild:
    """
    Awaits an awaitable of a plugin. If the plugin forks, the child process ends when the awaitable is done or has to wait.

    The child must not return to the event loop, or the tasks of other calls that are ready would run in both processes.
    """

    __slots__ = ("_steps", "cr_await")

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.cr_await = awaitable  # the attribute of a coroutine, which `places.of_task` reads
        self._steps: Iterator[Any] = awaitable.__await__()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # type: ignore[return-value]  # it has the methods of a generator that `await` needs

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            waits_for = next(self._steps)
        except StopIteration:
            end_if_child()
            raise
        except BaseException as error:
            end_if_child(error)
            raise
        end_if_child()
        return waits_for

    def throw(self, *error: Any) -> Any:
        """Raise an exception at the place where the plugin waits. Same as `throw` of a generator."""
        try:
            waits_for = self._steps.throw(*error)  # type: ignore[attr-defined]  # the iterators of coroutines and futures have it
        except StopIteration:
            end_if_child()
            raise
        except BaseException as raised:
            end_if_child(raised)
            raise
        end_if_child()
        return waits_for

    def close(self) -> None:
        """Stop the plugin without a result. Same as `close` of a generator."""
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()
