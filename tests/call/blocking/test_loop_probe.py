# SPDX-License-Identifier: Apache-2.0
"""Code that blocks the event loop is reported while it does, with its line."""

import asyncio
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from apisix.runner import primitives
from apisix.runner.call.blocking.detector import LONG_BLOCK_S, SHORT_BLOCK_S, SHORT_BLOCKS, BlockingDetector
from apisix.runner.call.blocking.starvation import Starvation
from apisix.runner.plugin.chain.background import BACKGROUND
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
    reports = reports_of(BlocksInCoroutine, (0.05, 0.12, 0.25, 0.35, 4.9, 5.1, 6.0, 10.1), caplog)

    assert [re.sub(r"\d+ in", "N in", report.partition(". In a coroutine")[0]) for report in reports] == [
        f"plugin blocks-in-coroutine has been blocking all calls of its worker for {blocked_s} s, "
        "in test_loop_probe.py:N in on_request: go.wait(WITHIN_S)  # here"
        for blocked_s in ("0.1", "5.1", "10.1")
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


class _Ran(Starvation):
    """The event loop's thread has run for a part of the time."""

    def __init__(self, least_s: float, greatest_s: float) -> None:
        super().__init__()
        self._bounds_s = least_s, greatest_s

    def since_s(self, then_s: float) -> float:
        """Return how long it has waited for a processor."""
        return 0.0

    def bounds_of_run_s(self, then_s: float, now_s: float) -> tuple[float, float]:
        """Return the bounds."""
        return self._bounds_s


def while_tasks_block(watch: BlockingDetector, names: list[str | None], look: Callable[[float], object]) -> None:
    """For each name, run a task that blocks the event loop. Meanwhile, call `look` in another thread, with the time of a first look."""

    async def block() -> None:
        held.set()
        go.wait(WITHIN_S)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        watch.probe = type(watch.probe)(loop)
        for name in names:
            held.clear()
            go.clear()

            def watch_once() -> None:
                assert held.wait(WITHIN_S)
                began_s = primitives.now_s()
                watch.examine_loop(began_s)  # this schedules a callback that does not run
                look(began_s)
                go.set()

            thread = threading.Thread(target=watch_once)
            thread.start()
            await loop.create_task(block(), name=name)
            thread.join(WITHIN_S)
            await until(lambda: watch.probe._scheduled_at_s is None)

    asyncio.run(scenario())


THREADS = "asyncio.to_thread"
PROCESSES = 'runs_in = "process"'
OWN_PROCESS = "asyncio.create_subprocess_exec"


@pytest.mark.parametrize("is_long", [True, False])
@pytest.mark.parametrize(
    ("name", "ran_s", "expected"),
    [
        ("thumbnails", (1.0, 1.0), [PROCESSES]),
        ("thumbnails", (0.0, 0.001), [THREADS]),
        ("thumbnails", (0.0, 1.0), [THREADS, PROCESSES]),
        (f"thumbnails{BACKGROUND}", (1.0, 1.0), [OWN_PROCESS]),
        (f"thumbnails{BACKGROUND}", (0.0, 0.001), [THREADS]),
        (f"thumbnails{BACKGROUND}", (0.0, 1.0), [THREADS, OWN_PROCESS]),
    ],
)
def test_the_advice_for_a_coroutine(
    caplog: pytest.LogCaptureFixture, is_long: bool, name: str, ran_s: tuple[float, float], expected: list[str]
) -> None:
    """If it computes, other processes are suggested. If it waits, threads are. A plugin with a background task can't run in the pool."""
    watch = BlockingDetector()
    watch.starvation = _Ran(*ran_s)

    def look(began_s: float) -> None:
        if is_long:
            watch.examine_loop(began_s + 1.2 * LONG_BLOCK_S)
        else:
            watch.examine_coroutine(began_s + 1.2 * SHORT_BLOCK_S)

    while_tasks_block(watch, [name] * (1 if is_long else SHORT_BLOCKS), look)

    assert len(caplog.records) == 1
    assert caplog.text.count(f"plugin {name} ") == 1
    assert [advice for advice in (THREADS, PROCESSES, OWN_PROCESS) if advice in caplog.text] == expected


def test_a_coroutine_that_blocks_often(caplog: pytest.LogCaptureFixture) -> None:
    """Three short blocks within a minute are reported, with the line, and once for each plugin."""
    watch = BlockingDetector()
    counts: list[tuple[bool, bool, int]] = []

    def look(began_s: float) -> None:
        is_early = watch.examine_coroutine(began_s + SHORT_BLOCK_S / 2)
        is_late = watch.examine_coroutine(began_s + 1.2 * SHORT_BLOCK_S)
        counts.append((is_early, is_late, len(caplog.records)))

    while_tasks_block(watch, ["thumbnails"] * 5, look)

    assert counts == [(True, False, 0), (True, False, 0), (True, False, 1), (True, False, 1), (True, False, 1)]
    assert re.search(
        r"plugin thumbnails blocks all calls of its worker often: 3 times within a minute for at least 10 ms, "
        r"now in test_loop_probe.py:\d+ in block: go.wait\(WITHIN_S\)",
        caplog.text,
    )


def test_a_task_without_a_name_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    """It may belong to any plugin."""
    watch = BlockingDetector()
    while_tasks_block(watch, [None] * SHORT_BLOCKS, lambda began_s: watch.examine_coroutine(began_s + 1.2 * SHORT_BLOCK_S))

    assert caplog.records == []


def test_tasks_that_run_one_after_the_other_are_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The event loop is busy, but none of them blocks it."""
    watch = BlockingDetector()
    needs_another_look: list[bool] = []

    async def short() -> None:
        watch.examine_loop(1.0)  # the first task schedules a callback, which runs after the other tasks
        needs_another_look.append(watch.examine_coroutine(1.0 + SHORT_BLOCK_S / 2))

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        watch.probe = type(watch.probe)(loop)
        await asyncio.gather(*(loop.create_task(short(), name="short") for _ in range(3)))

    asyncio.run(scenario())
    assert needs_another_look == [True, False, False]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_coroutine_that_computes_in_each_call(
    caplog: pytest.LogCaptureFixture, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The watching thread finds it, although no call takes long."""

    class Computes(Plugin[Any]):
        async def on_request(self, request: Any) -> None:
            ends_s = time.thread_time() + LONG_BLOCK_S / 2
            while time.thread_time() < ends_s:
                pass

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        watch = BlockingDetector()
        watch.watch(loop, lambda now_s: None)
        connection = Engine(loop, [Computes], blocking_detector=watch).connect()
        try:
            async with asyncio.timeout(WITHIN_S):
                while not caplog.records:
                    connection.replies.clear()
                    loop.call_soon(connection.call, 1)
                    await until(lambda: connection.replies)
        finally:
            watch.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())
    assert "plugin computes " in caplog.text
    assert "in on_request" in caplog.text
    assert "blocks all calls of its worker" in caplog.text or "has been blocking all calls" in caplog.text
