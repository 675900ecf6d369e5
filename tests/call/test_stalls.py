# SPDX-License-Identifier: Apache-2.0
"""Which plugins block is judged by how long they hold the loop."""

import asyncio
import logging
import threading

import pytest

from apisix.runner.call.stalls import LONG_STALL_S, STALL_S, STALLS, STALLS_WITHIN_S, StallWatch
from apisix.runner.call.starvation import Starvation
from apisix.runner.plugin.configuration import TextReader
from apisix.runner.plugin.plugin_type import PluginType, Source


@pytest.fixture
def plugin_type() -> PluginType:
    """A plugin whose author says nothing about blocking."""
    return PluginType("slow", object, "Plugin", Source("directory", "slow.py", 1, "slow"), ("on_request",), "", TextReader())


def test_one_long_stall_marks(plugin_type: PluginType, caplog: pytest.LogCaptureFixture) -> None:
    """One call of 100 ms is enough, the mark is told once, and one warning names the plugin."""
    marked: list[str] = []
    watch = StallWatch(marked.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            watch.record(plugin_type, LONG_STALL_S, 1.0)
    assert plugin_type.blocking is True
    assert ["slow"] == marked
    assert 1 == len(caplog.records)
    assert "slow" in caplog.text


def test_stalls_within_a_minute_mark(plugin_type: PluginType) -> None:
    """Several short stalls within a minute mark, and not one fewer."""
    watch = StallWatch()
    for n in range(STALLS - 1):
        watch.record(plugin_type, STALL_S, float(n))
    assert plugin_type.blocking is None
    watch.record(plugin_type, STALL_S, STALLS_WITHIN_S)
    assert plugin_type.blocking is True


def test_rare_stalls_do_not_mark(plugin_type: PluginType) -> None:
    """A stall now and then is a garbage collection or a busy machine, not the plugin."""
    watch = StallWatch()
    for n in range(10):
        watch.record(plugin_type, STALL_S, n * STALLS_WITHIN_S)
    assert plugin_type.blocking is None


class _Starved(Starvation):
    """A thread that was kept from running for 90 ms."""

    def since_s(self, then_s: float) -> float:
        """Return that."""
        return 0.09


def test_a_busy_machine_is_not_the_plugins_fault(plugin_type: PluginType) -> None:
    """Time in which others had the processor does not count, in a stall that is over and in one that lasts."""
    marked: list[str] = []
    watch = StallWatch(marked.append)
    watch.starvation = _Starved()
    for _ in range(STALLS):
        watch.record(plugin_type, 0.09 + STALL_S / 2, 1.0)
    watch.running, watch.since_s = plugin_type, 1.0
    watch.look(1.0 + LONG_STALL_S)
    assert [] == marked
    watch.look(1.0 + LONG_STALL_S + 0.09)
    assert ["slow"] == marked


def test_the_author_has_the_last_word(plugin_type: PluginType) -> None:
    """`blocking = False` on the class opts out."""
    plugin_type.blocking = False
    StallWatch().record(plugin_type, 10.0, 1.0)
    assert plugin_type.blocking is False


def test_a_stall_is_found_while_it_lasts(plugin_type: PluginType) -> None:
    """A hook that has held the loop for long is marked before it ends, and one that has not is left alone."""
    marked: list[str] = []
    watch = StallWatch(marked.append)
    watch.running, watch.since_s = plugin_type, 1.0
    watch.look(1.0 + LONG_STALL_S / 2)
    assert [] == marked
    watch.look(1.0 + LONG_STALL_S)
    watch.look(1.0 + 2 * LONG_STALL_S)
    assert ["slow"] == marked


def test_the_thread_looks_by_itself(plugin_type: PluginType) -> None:
    """The thread finds a stall of its own accord."""
    found = threading.Event()
    watch = StallWatch(lambda name: found.set())
    loop = asyncio.new_event_loop()
    watch.watch(loop, lambda now_s: None)
    watch.running, watch.since_s = plugin_type, 0.0
    assert found.wait(10)
    watch.close()
    loop.close()
