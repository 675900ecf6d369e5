# SPDX-License-Identifier: Apache-2.0
"""
A process that a plugin has forked must not go on as a second worker: it ends as soon as the plugin's code returns to the runner.

The plugin's code returns to the runner in few places: at the end of a hook, at the end of a function in a thread, when a coroutine
ends or has to wait, and at the end of the import of a plugin's file. Each of them looks whether this process is such a child.
"""

import logging
import os
import sys
from collections.abc import Awaitable, Generator, Iterator
from contextlib import suppress
from typing import Any, NoReturn

logger = logging.getLogger(__name__)

_is_child = False


def become_child() -> None:
    """Take note that this process has been forked by a plugin."""
    global _is_child
    _is_child = True


def end_if_child(failure: BaseException | None = None) -> None:
    """End this process if a plugin has forked it. Args: as `end_forked`."""
    if _is_child:
        end_forked(failure)


def end_forked(failure: BaseException | None) -> NoReturn:
    """
    End this process, a child of the worker, now that the hook in which it was forked has ended.

    Args: failure: what the hook raised, if anything. SystemExit gives the exit status, as in any program.
    """
    status = 0
    if isinstance(failure, SystemExit):
        status = failure.code if isinstance(failure.code, int) else int(failure.code is not None)
    elif failure is not None:
        status = 1
        with suppress(BaseException):  # whatever happens, the process ends
            logger.error("a process that a plugin has forked ends with an exception", exc_info=failure)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(BaseException):
                stream.flush()
    os._exit(status & 0xFF)


class EndingInChild:
    """
    Await something of a plugin. In a child that it forks, end the process when it ends or has to wait.

    A child must not get back into the loop: the tasks of other calls that are ready would run in both processes.
    """

    __slots__ = ("_steps", "cr_await")

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.cr_await = awaitable  # as in a coroutine, for `places.of_task`
        self._steps: Iterator[Any] = awaitable.__await__()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # type: ignore[return-value]  # it has what `await` needs of a generator

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
        """Raise an exception where the plugin waits, as `throw` of a generator does."""
        try:
            waits_for = self._steps.throw(*error)  # type: ignore[attr-defined]  # that of a coroutine or future has it
        except StopIteration:
            end_if_child()
            raise
        except BaseException as failure:
            end_if_child(failure)
            raise
        end_if_child()
        return waits_for

    def close(self) -> None:
        """End it without an outcome, as `close` of a generator does."""
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()
