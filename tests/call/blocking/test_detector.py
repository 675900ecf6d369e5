# SPDX-License-Identifier: Apache-2.0
"""Which plugins block is judged by how long they hold the loop."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import uvloop

from apisix.runner.call.blocking.detector import HOLD_S, HOLDS, HOLDS_WITHIN_S, LONG_HOLD_S, OWN_LOOP, BlockingDetector
from apisix.runner.call.blocking.starvation import Starvation
from apisix.runner.plugin.configuration.readers import TextReader
from apisix.runner.plugin.loading.check import PLUGIN
from apisix.runner.plugin.plugin_type import PluginType, Source


@pytest.fixture
def plugin_type() -> PluginType:
    """A plugin whose author says nothing about blocking."""
    return PluginType("slow", object, PLUGIN, Source("directory", "slow.py", 1, "slow"), ("on_request",), "", TextReader())


def test_one_long_hold_marks(plugin_type: PluginType, caplog: pytest.LogCaptureFixture) -> None:
    """One call of 100 ms is enough, the mark is told once, and one warning names the plugin."""
    marked: list[str] = []
    watch = BlockingDetector(marked.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            watch.record(plugin_type, LONG_HOLD_S, 1.0)
    assert plugin_type.blocking is True
    assert ["slow"] == marked
    assert 1 == len(caplog.records)
    assert "slow" in caplog.text


def test_holds_within_a_minute_mark(plugin_type: PluginType) -> None:
    """A plugin is marked after several short holds within a minute, and not one fewer."""
    watch = BlockingDetector()
    for n in range(HOLDS - 1):
        watch.record(plugin_type, HOLD_S, float(n))
    assert plugin_type.blocking is None
    watch.record(plugin_type, HOLD_S, HOLDS_WITHIN_S)
    assert plugin_type.blocking is True


def test_rare_holds_do_not_mark(plugin_type: PluginType) -> None:
    """A hold now and then is a garbage collection or a busy machine, not the plugin."""
    watch = BlockingDetector()
    for n in range(10):
        watch.record(plugin_type, HOLD_S, n * HOLDS_WITHIN_S)
    assert plugin_type.blocking is None


class _Starved(Starvation):
    """A thread that was kept from running for 90 ms."""

    def since_s(self, then_s: float) -> float:
        """Return that."""
        return 0.09


def test_a_busy_machine_is_not_the_plugins_fault(plugin_type: PluginType) -> None:
    """Time in which other processes had the processor does not count, whether the hold is over or lasts."""
    marked: list[str] = []
    watch = BlockingDetector(marked.append)
    watch.starvation = _Starved()
    for _ in range(HOLDS):
        watch.record(plugin_type, 0.09 + HOLD_S / 2, 1.0)
    watch.running, watch.since_s = plugin_type, 1.0
    watch.look(1.0 + LONG_HOLD_S)
    assert [] == marked
    watch.look(1.0 + LONG_HOLD_S + 0.09)
    assert ["slow"] == marked


def test_the_author_has_the_last_word(plugin_type: PluginType) -> None:
    """`blocking = False` on the class opts out."""
    plugin_type.blocking = False
    BlockingDetector().record(plugin_type, 10.0, 1.0)
    assert plugin_type.blocking is False


def test_a_hold_is_found_while_it_lasts(plugin_type: PluginType) -> None:
    """A hook that has held the loop for long is marked before it ends, and one that has not is left alone."""
    marked: list[str] = []
    watch = BlockingDetector(marked.append)
    watch.running, watch.since_s = plugin_type, 1.0
    watch.look(1.0 + LONG_HOLD_S / 2)
    assert [] == marked
    watch.look(1.0 + LONG_HOLD_S)
    watch.look(1.0 + 2 * LONG_HOLD_S)
    assert ["slow"] == marked


def test_the_thread_looks_by_itself(plugin_type: PluginType) -> None:
    """The thread finds a hold by itself."""
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
def test_an_event_loop_of_its_own_marks(
    plugin_type: PluginType, hook: Callable[[], None], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Also if the plugin raises another error for it. Source: the errors of asyncio and uvloop."""

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


def test_an_event_loop_of_its_own_does_not_mark_if_the_author_forbids_it(plugin_type: PluginType) -> None:
    plugin_type.blocking = False
    BlockingDetector().failed(plugin_type, RuntimeError(OWN_LOOP[1]))
    assert plugin_type.blocking is False
