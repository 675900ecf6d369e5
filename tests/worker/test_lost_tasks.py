# SPDX-License-Identifier: Apache-2.0
"""A background task that failed is reported, although something still refers to it."""

import asyncio

import pytest

from apisix.runner.worker import lost_tasks
from apisix.runner.worker.lost_tasks import report_lost_tasks


async def fail() -> None:
    """Raise an exception immediately."""
    raise ValueError("in the background")


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report tasks in the next iteration of the event loop."""
    monkeypatch.setattr(lost_tasks, "GRACE_S", 0.0)


async def turns(count: int = 5) -> None:
    """Run some iterations of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_task_that_is_never_awaited(caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged once, with its traceback."""
    report_lost_tasks(asyncio.get_running_loop())
    task = asyncio.create_task(fail())
    await turns()

    (record,) = caplog.records
    assert "fail" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is task.exception()


async def test_a_task_that_is_awaited(caplog: pytest.LogCaptureFixture) -> None:
    """A task that is awaited raises its exception there, so it is not logged. Cancelled and successful tasks are not logged either."""
    report_lost_tasks(asyncio.get_running_loop())
    task = asyncio.create_task(fail())
    with pytest.raises(ValueError, match="background"):
        await task
    cancelled, done = asyncio.create_task(asyncio.sleep(3600)), asyncio.create_task(asyncio.sleep(0))
    await turns(1)
    cancelled.cancel()
    await turns()

    assert done.done()
    assert caplog.records == []
