# SPDX-License-Identifier: Apache-2.0
"""Code that blocks the event loop is reported while it does, with its line."""

import asyncio
import re
import threading
from typing import Any

import pytest

from apisix.runner import primitives
from apisix.runner.call.blocking.detector import BlockingDetector
from apisix.runner.plugin.plugin import Plugin
from tests.call.fake_gateway import WITHIN_S, Engine, until

held = threading.Event()
go = threading.Event()


class BlocksInCoroutine(Plugin[Any]):
    """Block in a coroutine, after it has waited."""

    async def on_request(self, request: Any) -> None:
        """Do that."""
        await asyncio.sleep(0)
        held.set()
        go.wait(WITHIN_S)  # here


class BlocksInline(Plugin[Any]):
    """Block in a plain hook that must not run in threads."""

    blocking = False

    def on_request(self, request: Any) -> None:
        """Do that."""
        held.set()
        go.wait(WITHIN_S)  # here


class BlocksAtFirst(Plugin[Any]):
    """Block in a plain hook."""

    def on_request(self, request: Any) -> None:
        """Do that."""
        held.set()
        go.wait(WITHIN_S)  # here


def reports_of(plugin: Any, after_s: tuple[float, ...], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Let a plugin block the event loop, check the event loop from another thread at the given times, and return the log messages."""
    held.clear()
    go.clear()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        watch = BlockingDetector()
        engine = Engine(loop, [plugin], blocking_detector=watch)
        watch.probe = type(watch.probe)(loop)  # this test uses its own thread to watch

        def look() -> None:
            began_s = primitives.now_s()
            watch.examine_loop(began_s)  # this schedules a callback
            loop.call_soon_threadsafe(connection.call, 1)
            assert held.wait(WITHIN_S)
            was_called = watch.probe._scheduled_at_s is None
            watch.examine_loop(began_s)  # this schedules a callback that does not run
            assert was_called
            for passed_s in after_s:
                watch.look(began_s + passed_s)
                watch.examine_loop(began_s + passed_s)
            go.set()

        connection = engine.connect()
        thread = threading.Thread(target=look)
        thread.start()
        await until(lambda: connection.replies)
        thread.join(WITHIN_S)

    asyncio.run(scenario())
    return [record.getMessage() for record in caplog.records]


def test_a_coroutine_that_blocks(caplog: pytest.LogCaptureFixture) -> None:
    """The plugin and the line are reported immediately, and after 5 s, 10 s, ..."""
    reports = reports_of(BlocksInCoroutine, (0.05, 0.15, 0.25, 0.35, 4.9, 5.1, 6.0, 10.1), caplog)

    assert [re.sub(r"\d+ in", "N in", report.partition(". In a coroutine")[0]) for report in reports] == [
        f"plugin blocks-in-coroutine has been blocking all calls of its worker for {blocked_s} s, "
        "in test_loop_probe.py:N in on_request: go.wait(WITHIN_S)  # here"
        for blocked_s in ("0.2", "5.1", "10.1")
    ]


def test_a_plain_hook_that_blocks_at_first(caplog: pytest.LogCaptureFixture) -> None:
    """The plugin is marked as blocking, and the line is reported."""
    reports = reports_of(BlocksAtFirst, (0.2, 0.3), caplog)

    assert len(reports) == 1
    assert re.match(
        r"plugin blocks-at-first blocked all calls of its worker for \d+ ms, in test_loop_probe.py:\d+ in on_request: "
        r"go.wait\(WITHIN_S\)  # here: from now on it runs in threads",
        reports[0],
    )


def test_a_plain_hook_that_must_not_run_in_threads(caplog: pytest.LogCaptureFixture) -> None:
    """It is not marked, but it is reported after 5 s."""
    reports = reports_of(BlocksInline, (0.2, 0.3, 5.1, 5.2, 6.0), caplog)

    assert [re.sub(r"\d+ in", "N in", report) for report in reports] == [
        "plugin blocks-inline still blocks all calls of its worker after 5.2 s, "
        "in test_loop_probe.py:N in on_request: go.wait(WITHIN_S)  # here"
    ]


def test_many_short_calls_are_not_reported(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the event loop is in another call each time, it is busy, but not blocked."""
    watch = BlockingDetector()
    frames = iter([object(), object(), object()])
    monkeypatch.setattr("apisix.runner.call.blocking.places.outermost", lambda frame: next(frames))
    watch.probe._scheduled_at_s = 1.0
    for now_s in (1.2, 1.3, 1.4):
        watch.examine_loop(now_s)

    assert caplog.records == []


def test_an_event_loop_that_is_not_blocked(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is reported, and `look` is called every second."""
    looked: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        watch = BlockingDetector()
        watch.probe = type(watch.probe)(loop, looked.append)
        for tenth in range(25):
            watch.examine_loop(100 + tenth / 10)
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert looked == [100.0, 101.0, 102.0]
    assert caplog.records == []
