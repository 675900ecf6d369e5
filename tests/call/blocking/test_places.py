# SPDX-License-Identifier: Apache-2.0
"""The places of tasks, threads and frames, as the log shows them."""

import asyncio
import sys
import types
from collections.abc import Awaitable, Callable, Generator

import pytest

from apisix.runner.call.blocking import places


async def waits() -> None:
    """Wait for long."""
    await asyncio.sleep(60)  # here


class Wrapped:
    """An awaitable that returns the iterator of a coroutine, as compiled code does."""

    def __await__(self) -> Generator[object, None, None]:
        return waits().__await__()


async def directly() -> None:
    """Wait in another coroutine."""
    await waits()


async def wrapped() -> None:
    """Wait in an awaitable."""
    await Wrapped()


@pytest.mark.parametrize("coroutine", [directly, wrapped])
def test_task(coroutine: Callable[[], Awaitable[None]]) -> None:
    """The place is in the innermost coroutine of the plugin's file."""

    async def scenario() -> str | None:
        task = asyncio.ensure_future(coroutine())
        await asyncio.sleep(0)
        place = places.of_task(task)
        task.cancel()
        return place

    line = waits.__code__.co_firstlineno + 2
    assert asyncio.run(scenario()) == f"test_places.py:{line} in waits: await asyncio.sleep(60)  # here"


def test_frame_of_no_module() -> None:
    """Frames of compiled coroutines have neither a module nor a line, and do not belong to a plugin."""
    frames: list[types.FrameType] = []
    exec("frames.append(sys._getframe())", {"frames": frames, "sys": sys})  # noqa: S102  # the text above

    assert "__name__" not in frames[0].f_globals
    assert places.outermost(frames[0]) is not None
    assert not places._is_the_plugins(frames[0])


def test_no_such_thread() -> None:
    """A thread that has ended has no place."""
    assert places.of_thread(0) is None
