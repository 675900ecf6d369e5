# SPDX-License-Identifier: Apache-2.0
"""ChainCache are built off the loop, once for all calls that wait, and only those calls wait."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.logging.call_fields import current_call
from apisix.runner.plugin.core import PluginBase
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp
from tests.call.engine import WITHIN_S, Engine, until

Scenario = Callable[[asyncio.AbstractEventLoop], Awaitable[None]]


def run(scenario: Scenario) -> None:
    """Run a scenario on a loop of its own."""

    async def on_loop() -> None:
        await scenario(asyncio.get_running_loop())

    asyncio.run(on_loop())


class Counted:
    """How often instances were made, and what holds them up."""

    def __init__(self) -> None:
        self.made = 0
        self.go = threading.Event()

    def make(self) -> None:
        """Take note of an instance, and wait until the test lets it go."""
        self.made += 1
        assert self.go.wait(WITHIN_S)


def slow_init(counted: Counted) -> type[Plugin[Any]]:
    """Return a plugin whose `__init__` is slow."""

    class Slow(Plugin[Any]):
        def __init__(self) -> None:
            counted.make()

        def on_request(self, request: Any) -> None: ...

    return Slow


def slow_config(counted: Counted) -> type[PluginBase]:
    """Return a plugin of release 0.2 whose `config`, which runs in each call, is slow and known to be."""

    class Slow(PluginBase):
        blocking = True

        def name(self) -> str:
            return "slow"

        def config(self, conf: Any) -> Any:
            counted.make()
            return conf

        def filter(self, conf: Any, request: Any, response: Any) -> None: ...

    return Slow


class Instant(Plugin[Any]):
    """A plugin that does nothing."""

    def on_request(self, request: Any) -> None:
        """Do nothing."""


@pytest.mark.parametrize("slow", [slow_init, slow_config])
def test_only_the_calls_of_a_slow_configuration_wait(slow: Callable[[Counted], Any]) -> None:
    """While a plugin of one route is being made, calls of another route are answered."""
    counted = Counted()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [slow(counted)], [Instant])
        waits, other = engine.line(), engine.line()
        engine.at_loop(waits.call, 1, 1)
        await until(lambda: counted.made)
        engine.at_loop(other.call, 2, 2)
        await until(lambda: other.replies)

        assert other.replies == [HTTPReqCallResp(2)]
        assert waits.replies == []
        counted.go.set()
        await until(lambda: waits.replies)
        assert waits.replies == [HTTPReqCallResp(1)]

    run(scenario)


def test_calls_share_one_build() -> None:
    """However many calls wait for a chain, its plugins are made once."""
    counted = Counted()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [slow_init(counted)])
        lines = [engine.line() for _ in range(5)]
        for line in lines:
            engine.at_loop(line.call, 1, 1)
        await until(lambda: engine.runtime.in_flight == 5)
        counted.go.set()
        await until(lambda: all(line.replies for line in lines))

        assert [line.replies for line in lines] == 5 * [[HTTPReqCallResp(1)]]
        assert counted.made == 1

    run(scenario)


def test_a_call_that_gives_up_does_not_end_the_build(caplog: pytest.LogCaptureFixture) -> None:
    """A call waits for its plugins no longer than plugin_timeout. The plugins are made all the same, for later calls."""
    counted = Counted()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [slow_init(counted)], plugin_timeout_s=0.01)
        line = engine.line()
        engine.at_loop(line.call, 1)
        await until(lambda: line.replies)
        assert line.replies == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]
        counted.go.set()
        await until(lambda: len(engine.chains))
        engine.at_loop(line.call, 1, 2)
        await until(lambda: len(line.replies) == 2)
        assert line.replies[1] == HTTPReqCallResp(2)
        assert counted.made == 1

    run(scenario)
    assert "the call is refused while its plugins are made" in caplog.text


def test_more_configurations_at_once_than_are_kept() -> None:
    """Each call gets its chain, also if as many are built at once as are thrown away again."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, *(5 * [[Instant]]), capacity=1)
        lines = [engine.line() for _ in range(5)]
        for token, line in enumerate(lines, 1):
            engine.at_loop(line.call, token, token)
        await until(lambda: all(line.replies for line in lines))

        assert [line.replies for line in lines] == [[HTTPReqCallResp(token)] for token in range(1, 6)]
        assert len(engine.chains) == 1

    run(scenario)


class Closing(Plugin[Any]):
    """Note which instances were made, ran and were closed; the call waits until the test lets it go."""

    made: ClassVar[list[object]]
    ran: ClassVar[list[object]]
    closed: ClassVar[list[object]]
    go: ClassVar[asyncio.Event]

    def __init__(self) -> None:
        self.made.append(self)

    async def on_request(self, request: Any) -> None:
        self.ran.append(self)
        await self.go.wait()

    async def close(self) -> None:
        self.closed.append(self)


class Plain(Plugin[Any]):
    """A plugin without `close`."""

    def on_request(self, request: Any) -> None: ...


def test_a_chain_that_was_evicted_is_closed_after_its_last_call(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        Closing.made, Closing.ran, Closing.closed, Closing.go = [], [], [], asyncio.Event()
        engine = Engine(loop, [Closing, Plain], [Plain], capacity=1)
        lines = [engine.line(), engine.line()]
        engine.at_loop(lines[0].call, 1, 1)
        await until(lambda: Closing.ran)
        engine.at_loop(lines[1].call, 2, 2)
        await until(lambda: lines[1].replies)
        await asyncio.sleep(0)
        assert Closing.closed == []

        Closing.go.set()
        await until(lambda: lines[0].replies)
        await until(lambda: Closing.closed)
        assert Closing.closed == Closing.made

    run(scenario)
    assert caplog.text == ""


def test_a_chain_without_a_call_is_closed_when_it_is_evicted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        Closing.made, Closing.ran, Closing.closed, Closing.go = [], [], [], asyncio.Event()
        Closing.go.set()
        engine = Engine(loop, [Closing, Plain], [Plain], capacity=1)
        lines = [engine.line(), engine.line()]
        engine.at_loop(lines[0].call, 1, 1)
        await until(lambda: lines[0].replies)
        engine.at_loop(lines[1].call, 2, 2)
        await until(lambda: lines[1].replies)
        await until(lambda: Closing.closed)
        assert Closing.closed == Closing.made

    run(scenario)
    assert caplog.text == ""


def test_init_that_needs_the_loop_is_told_of_setup(caplog: pytest.LogCaptureFixture) -> None:
    """`__init__` runs in a thread. What needs an event loop is refused with the place where it belongs."""

    class Needy(Plugin[Any]):
        def __init__(self) -> None:
            asyncio.get_running_loop()

        def on_request(self, request: Any) -> None: ...

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        line = Engine(loop, [Needy]).line()
        loop.call_soon(line.call, 1)
        await until(lambda: line.replies)
        assert line.replies == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]

    run(scenario)
    assert "create objects that need one in `async def setup(self)`" in caplog.text


def test_log_lines_of_init_name_the_call() -> None:
    """What `__init__` logs bears the fields of the call that waits for it."""
    seen: list[Any] = []

    class Logs(Plugin[Any]):
        def __init__(self) -> None:
            seen.append(current_call.get())

        def on_request(self, request: Any) -> None: ...

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        line = Engine(loop, [Logs]).line()
        loop.call_soon(line.call, 1, 7)
        await until(lambda: line.replies)

    run(scenario)
    assert [call.id for call in seen] == [7]


class Eager(Plugin[Any]):
    """A plugin that is set up when its configuration comes."""

    eager = True
    done: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.done.append("__init__")

    async def setup(self) -> None:
        """Take note."""
        self.done.append("setup")

    def on_request(self, request: Any) -> None:
        """Take note."""
        self.done.append("on_request")


def test_an_eager_plugin_is_set_up_when_its_configuration_comes() -> None:
    """`eager = True`: `__init__` and `setup` run before any call, once, however often the configuration comes."""
    Eager.done.clear()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Eager])
        configuration = engine.configurations[0]
        for _ in range(3):
            engine.chains.received(1, configuration)
        await until(lambda: "setup" in Eager.done)
        line = engine.line()
        engine.at_loop(line.call, 1)
        await until(lambda: line.replies)

    run(scenario)
    assert Eager.done == ["__init__", "setup", "on_request"]


def test_other_plugins_wait_for_their_first_call() -> None:
    """A configuration without eager plugins is not built before it is used."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Instant])
        configuration = engine.configurations[0]
        engine.chains.received(1, configuration)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    run(scenario)


def test_an_eager_setup_that_fails_is_tried_again_by_a_call(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and refuses no configuration: the first call runs `setup` again, or waits for its back-off."""

    class Fails(Plugin[Any]):
        eager = True

        async def setup(self) -> None:
            raise SystemExit("no")

        def on_request(self, request: Any) -> None: ...

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Fails])
        configuration = engine.configurations[0]
        engine.chains.received(1, configuration)
        await until(lambda: "could not be set up when its configuration came" in caplog.text)

    run(scenario)


def test_the_queue_of_one_plugin_leaves_room_for_others() -> None:
    """No more than half of the calls that may wait do so for the threads of one plugin; more are refused at once."""
    counted = Counted()

    class Blocks(Plugin[Any]):
        blocking = True

        def on_request(self, request: Any) -> None:
            counted.make()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Blocks], blocking_threads=1, max_in_flight=10)
        lines = [engine.line() for _ in range(9)]
        for line in lines[:1]:  # which begins before the others come
            engine.at_loop(line.call, 1)
        await until(lambda: counted.made)
        for line in lines[1:]:
            engine.at_loop(line.call, 1)
        await until(lambda: engine.runtime.in_flight == 7 and sum(len(line.replies) for line in lines) == 2)
        assert [line.replies for line in lines if line.replies] == 2 * [[ErrResp(ErrCode.SERVICE_UNAVAILABLE)]]
        counted.go.set()
        await until(lambda: all(line.replies for line in lines))

    run(scenario)


def test_a_configuration_in_use_is_renewed_from_time_to_time() -> None:
    """The store forgets configurations that nobody looks up. Between two renewals, calls do not use the store."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        looked_up: list[int] = []

        class Store(Engine):
            def get(self, token: int) -> Any:
                looked_up.append(token)
                return super().get(token)

        engine = Store(loop, [Instant], renew_s=100.0)
        await engine.chains.build(1, response=False)
        looked_up.clear()

        def call(now_s: float) -> int:
            """Return how often calls have looked the configuration up since the last call of this function."""
            cached = engine.chains.acquire(1, False, now_s)
            assert cached is not None
            engine.chains.release(cached)
            number = len(looked_up)
            looked_up.clear()
            return number

        first_s = 1e6
        call(first_s)
        assert [call(first_s + passed_s) for passed_s in (0.0, 50.0, 99.0, 100.0, 101.0, 199.0, 200.0)] == [0, 0, 0, 1, 0, 0, 1]

    run(scenario)
