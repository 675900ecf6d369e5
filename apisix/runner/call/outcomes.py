# SPDX-License-Identifier: Apache-2.0
"""
Run code of plugins in a task or thread, and raise what it raised where a call waits for it.

An outcome is a result and an exception, of which one is None.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from apisix.runner.plugin.forked import EndingInChild

Outcome = tuple[Any, BaseException | None]


def capture(work: Callable[[], Any]) -> Outcome:
    """Call a function and return its outcome."""
    try:
        return work(), None
    except BaseException as error:  # it is raised again where the call waits
        return None, error


async def acapture(awaitable: Awaitable[Any]) -> Outcome:
    """Await something and return its outcome. If a task raised SystemExit, the event loop would end."""
    try:
        return await EndingInChild(awaitable), None
    except BaseException as error:  # it is raised again where the call waits
        return None, error


def unwrap(outcomes: list[Outcome]) -> Any:
    """
    Remove the only outcome from the list, and return its result or raise its exception.

    The frames that an exception passes through must not refer to it. Otherwise the frames and the exception would refer to each other, and
    the variables of a failed hook would be kept until the garbage collector runs.
    """
    result, error = outcomes.pop()
    if error is None:
        return result
    try:
        raise error
    finally:
        del error


EAGER: Final = sys.version_info >= (3, 12)
"""True if a task can start at once, on the stack of the code that creates it."""

if sys.version_info >= (3, 12):

    def start_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, name: str | None) -> "asyncio.Task[Any]":
        """Create a task and run it up to its first wait. If it never waits, it is done when this returns."""
        return asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)

else:

    def start_task(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, name: str | None) -> "asyncio.Task[Any]":
        """Create a task. It runs in the next iteration of the event loop, because Python before 3.12 has no eager start."""
        return loop.create_task(coroutine, name=name)
