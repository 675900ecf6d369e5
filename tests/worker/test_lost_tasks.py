# SPDX-License-Identifier: Apache-2.0
"""A background task that failed is reported, although something still refers to it."""

import asyncio

import pytest

from apisix.runner.worker import lost_tasks
from apisix.runner.worker.lost_tasks import report_lost_tasks


async def fail() -> None:
    """Fail at once."""
    raise ValueError("in the background")


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report at the next turn of the loop."""
    monkeypatch.setattr(lost_tasks, "GRACE_S", 0.0)


async def turns(count: int = 5) -> None:
    """Let the loop run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_task_that_nobody_awaits(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, with its traceback."""
    report_lost_tasks(asyncio.get_running_loop())
    task = asyncio.create_task(fail())
    await turns()

    (record,) = caplog.records
    assert "fail" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is task.exception()


async def test_a_task_that_is_awaited(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever awaits it has its exception, so nothing is logged; neither is a cancelled or a successful task."""
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
