# SPDX-License-Identifier: Apache-2.0
"""Report background tasks of plugins that failed. asyncio reports them only after the last reference is gone."""

import asyncio
import logging
import weakref
from collections.abc import Coroutine, Generator
from typing import Any, Final

logger = logging.getLogger(__name__)

GRACE_S: Final = 1.0
"""How long after a task has failed a plugin may still begin to await it, in seconds."""


def report_lost_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, log the exception of each task of `loop` that was not awaited. For development, because it slows down tasks."""
    loop.set_task_factory(_make_task)


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any) -> Any:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    if _is_lost(task):
        # A weak reference: a task that nothing else refers to is reported by asyncio, at once.
        task.get_loop().call_later(GRACE_S, _report, weakref.ref(task))


def _report(reference: "weakref.ref[asyncio.Task[Any]]") -> None:
    task = reference()
    if task is not None and _is_lost(task):
        error = task.exception()  # from now on asyncio does not report it either
        logger.error("a background task failed, and was not awaited within %g s: %r", GRACE_S, task.get_coro(), exc_info=error)


def _is_lost(task: asyncio.Task[Any]) -> bool:
    """Return whether the exception of a task was never retrieved. asyncio checks the same attribute when it deletes a task."""
    return not task.cancelled() and bool(getattr(task, "_log_traceback", False))
