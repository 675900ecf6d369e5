# SPDX-License-Identifier: Apache-2.0
"""A plugin is blocking if its hooks block the event loop for too long, or too often."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import uvloop

from apisix.runner.call.blocking.detector import (
    LONG_BLOCK_S,
    OWN_LOOP,
    SHORT_BLOCK_S,
    SHORT_BLOCKS,
    SHORT_BLOCKS_WITHIN_S,
    BlockingDetector,
)
from apisix.runner.call.blocking.starvation import Starvation
from apisix.runner.plugin.configuration.readers import TextReader
from apisix.runner.plugin.loading.check import PLUGIN
from apisix.runner.plugin.plugin_type import PluginType, Source


@pytest.fixture
def plugin_type() -> PluginType:
    """A plugin whose author does not state whether it blocks."""
    return PluginType("slow", object, PLUGIN, Source("directory", "slow.py", 1, "slow"), ("on_request",), "", TextReader())


def test_one_long_block_marks_the_plugin(plugin_type: PluginType, caplog: pytest.LogCaptureFixture) -> None:
    """One call of 100 ms is sufficient. `on_mark` is called once, and there is one warning."""
    marked: list[str] = []
    watch = BlockingDetector(marked.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            watch.record(plugin_type, LONG_BLOCK_S, 1.0)
    assert plugin_type.blocking is True
    assert marked == ["slow"]
    assert len(caplog.records) == 1
    assert "slow" in caplog.text


def test_short_blocks_within_a_minute_mark_the_plugin(plugin_type: PluginType) -> None:
    """A plugin is marked after the third short block within a minute, not before."""
    watch = BlockingDetector()
    for n in range(SHORT_BLOCKS - 1):
        watch.record(plugin_type, SHORT_BLOCK_S, float(n))
    assert plugin_type.blocking is None
    watch.record(plugin_type, SHORT_BLOCK_S, SHORT_BLOCKS_WITHIN_S)
    assert plugin_type.blocking is True


def test_rare_short_blocks_do_not_mark_the_plugin(plugin_type: PluginType) -> None:
    """They may be caused by garbage collection or by a busy machine."""
    watch = BlockingDetector()
    for n in range(10):
        watch.record(plugin_type, SHORT_BLOCK_S, n * SHORT_BLOCKS_WITHIN_S)
    assert plugin_type.blocking is None


class _Starved(Starvation):
    """A thread that has waited for a processor for 90 ms."""

    def since_s(self, then_s: float) -> float:
        """Return 90 ms."""
        return 0.09


def test_waiting_for_a_processor_does_not_count(plugin_type: PluginType) -> None:
    """This applies to hooks that have returned, and to a hook that still runs."""
    marked: list[str] = []
    watch = BlockingDetector(marked.append)
    watch.starvation = _Starved()
    for _ in range(SHORT_BLOCKS):
        watch.record(plugin_type, 0.09 + SHORT_BLOCK_S / 2, 1.0)
    watch.running, watch.since_s = plugin_type, 1.0
    watch.look(1.0 + LONG_BLOCK_S)
    assert marked == []
    watch.look(1.0 + LONG_BLOCK_S + 0.09)
    assert marked == ["slow"]


class _Ran(Starvation):
    """A thread that has run for a part of the time."""

    def __init__(self, least_s: float, greatest_s: float, starved_s: float = 0.0) -> None:
        super().__init__()
        self._bounds_s = least_s, greatest_s
        self._starved_s = starved_s

    def since_s(self, then_s: float) -> float:
        """Return how long it has waited for a processor."""
        return self._starved_s

    def bounds_of_run_s(self, then_s: float, now_s: float) -> tuple[float, float]:
        """Return the bounds."""
        return self._bounds_s


@pytest.mark.parametrize(
    ("least_s", "greatest_s", "expected"),
    [(0.15, 0.2, "It computes most of this time"), (0.0, 0.05, "to never do so\n"), (0.05, 0.2, "If it computes, a thread still")],
)
def test_a_plugin_that_computes(
    plugin_type: PluginType, caplog: pytest.LogCaptureFixture, least_s: float, greatest_s: float, expected: str
) -> None:
    """If the plugin computes, the warning names other processes. If it waits, threads are sufficient."""
    watch = BlockingDetector()
    watch.starvation = _Ran(least_s, greatest_s)
    watch.record(plugin_type, 0.2, 1.2)

    assert expected in caplog.text
    assert ("runs_in" in caplog.text) is (greatest_s > 0.1)


@pytest.mark.parametrize("is_over", [True, False])
def test_a_plugin_that_computes_on_a_busy_machine(plugin_type: PluginType, caplog: pytest.LogCaptureFixture, is_over: bool) -> None:
    """Time in which other processes used the processor is not a reason to believe that the plugin waits."""
    watch = BlockingDetector()
    watch.starvation = _Ran(0.15, 0.16, starved_s=0.3)
    if is_over:
        watch.record(plugin_type, 0.5, 1.5)
    else:
        watch.running, watch.since_s = plugin_type, 1.0
        watch.look(1.5)

    assert "blocked all calls of its worker for 200 ms" in caplog.text
    assert "It computes most of this time" in caplog.text


def test_the_author_can_forbid_threads(plugin_type: PluginType) -> None:
    """`blocking = False` on the class opts out."""
    plugin_type.blocking = False
    BlockingDetector().record(plugin_type, 10.0, 1.0)
    assert plugin_type.blocking is False


def test_a_blocking_hook_is_found_while_it_runs(plugin_type: PluginType) -> None:
    """A plugin is marked before its hook returns, but not before the hook has blocked the event loop for long enough."""
    marked: list[str] = []
    watch = BlockingDetector(marked.append)
    watch.running, watch.since_s = plugin_type, 1.0
    watch.look(1.0 + LONG_BLOCK_S / 2)
    assert marked == []
    watch.look(1.0 + LONG_BLOCK_S)
    watch.look(1.0 + 2 * LONG_BLOCK_S)
    assert marked == ["slow"]


def test_the_watching_thread(plugin_type: PluginType) -> None:
    """The thread finds a blocking hook."""
    found = threading.Event()
    watch = BlockingDetector(lambda name: found.set())
    loop = asyncio.new_event_loop()
    watch.watch(loop, lambda now_s: None)
    watch.running, watch.since_s = plugin_type, 0.0
    assert found.wait(10)
    watch.close()
    loop.close()


def run() -> None:
    with closing(asyncio.sleep(0)) as coroutine:
        asyncio.run(coroutine)


def run_in_this_loop() -> None:
    loop = asyncio.get_event_loop()
    loop.run_until_complete(loop.create_future())


def run_in_new_loop() -> None:
    with closing(asyncio.new_event_loop()) as loop, closing(asyncio.sleep(0)) as coroutine:
        loop.run_until_complete(coroutine)


def wrapped() -> None:
    try:
        run()
    except RuntimeError as error:
        raise ValueError("it could not be run") from error


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("hook", [run, run_in_this_loop, run_in_new_loop, wrapped])
def test_a_hook_that_runs_its_own_event_loop_marks_the_plugin(
    plugin_type: PluginType, hook: Callable[[], None], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """This applies even if the plugin raises another error because of it. Source: the errors of asyncio and uvloop."""

    async def call() -> None:
        with pytest.raises((RuntimeError, ValueError)) as raised:
            hook()
        BlockingDetector().failed(plugin_type, raised.value)

    with closing(new_loop()) as loop:
        loop.run_until_complete(call())
    assert plugin_type.blocking is True


@pytest.mark.parametrize("error", [RuntimeError("no running event loop"), RuntimeError("wrong"), ValueError(OWN_LOOP[0])])
def test_other_errors_do_not_mark(plugin_type: PluginType, error: Exception) -> None:
    BlockingDetector().failed(plugin_type, error)
    assert plugin_type.blocking is None


def test_a_hook_that_runs_its_own_event_loop_does_not_mark_if_the_author_forbids_threads(plugin_type: PluginType) -> None:
    plugin_type.blocking = False
    BlockingDetector().failed(plugin_type, RuntimeError(OWN_LOOP[1]))
    assert plugin_type.blocking is False
