# SPDX-License-Identifier: Apache-2.0
"""Chains are built in threads, once for all calls that wait for them, and other calls do not wait."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.logging.call_fields import current_call
from apisix.runner.plugin.chain.background import BackgroundTasks
from apisix.runner.plugin.core import PluginBase
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp
from tests.call.fake_gateway import WITHIN_S, Engine, until

Scenario = Callable[[asyncio.AbstractEventLoop], Awaitable[None]]


def run(scenario: Scenario) -> None:
    """Run a scenario on a new event loop."""

    async def on_loop() -> None:
        await scenario(asyncio.get_running_loop())

    asyncio.run(on_loop())


class Counted:
    """Counts the instances of a plugin, and delays their creation."""

    def __init__(self) -> None:
        self.made = 0
        self.go = threading.Event()

    def make(self) -> None:
        """Count an instance, and wait until the test sets `go`."""
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
    """Return a plugin of release 0.2 that is marked as blocking and whose `config`, which runs in each call, is slow."""

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
    """While a plugin of one route is being created, calls of another route get their replies."""
    counted = Counted()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [slow(counted)], [Instant])
        waits, other = engine.connect(), engine.connect()
        engine.call_soon(waits.call, 1, 1)
        await until(lambda: counted.made)
        engine.call_soon(other.call, 2, 2)
        await until(lambda: other.replies)

        assert other.replies == [HTTPReqCallResp(2)]
        assert waits.replies == []
        counted.go.set()
        await until(lambda: waits.replies)
        assert waits.replies == [HTTPReqCallResp(1)]

    run(scenario)


def test_calls_share_one_build() -> None:
    """If many calls wait for a chain, its plugins are created once."""
    counted = Counted()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [slow_init(counted)])
        connections = [engine.connect() for _ in range(5)]
        for connection in connections:
            engine.call_soon(connection.call, 1, 1)
        await until(lambda: engine.runtime.in_flight == 5)
        counted.go.set()
        await until(lambda: all(connection.replies for connection in connections))

        assert [connection.replies for connection in connections] == 5 * [[HTTPReqCallResp(1)]]
        assert counted.made == 1

    run(scenario)


def test_a_call_whose_deadline_passes_does_not_cancel_the_build(caplog: pytest.LogCaptureFixture) -> None:
    """A call waits for its chain for up to plugin_timeout. The chain is still built, for later calls."""
    counted = Counted()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [slow_init(counted)], plugin_timeout_s=0.01)
        connection = engine.connect()
        engine.call_soon(connection.call, 1)
        await until(lambda: connection.replies)
        assert connection.replies == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]
        counted.go.set()
        await until(lambda: len(engine.chains))
        engine.call_soon(connection.call, 1, 2)
        await until(lambda: len(connection.replies) == 2)
        assert connection.replies[1] == HTTPReqCallResp(2)
        assert counted.made == 1

    run(scenario)
    assert "the call is refused while its plugins are created" in caplog.text


def test_more_builds_at_once_than_the_capacity() -> None:
    """Each call gets its chain, even if the chain is evicted as soon as it is built."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, *(5 * [[Instant]]), capacity=1)
        connections = [engine.connect() for _ in range(5)]
        for token, connection in enumerate(connections, 1):
            engine.call_soon(connection.call, token, token)
        await until(lambda: all(connection.replies for connection in connections))

        assert [connection.replies for connection in connections] == [[HTTPReqCallResp(token)] for token in range(1, 6)]
        assert len(engine.chains) == 1

    run(scenario)


class Closing(Plugin[Any]):
    """Record which instances were created, called and closed. The hook waits until the test sets `go`."""

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
        connections = [engine.connect(), engine.connect()]
        engine.call_soon(connections[0].call, 1, 1)
        await until(lambda: Closing.ran)
        engine.call_soon(connections[1].call, 2, 2)
        await until(lambda: connections[1].replies)
        await asyncio.sleep(0)
        assert Closing.closed == []

        Closing.go.set()
        await until(lambda: connections[0].replies)
        await until(lambda: Closing.closed)
        assert Closing.closed == Closing.made

    run(scenario)
    assert caplog.text == ""


def test_a_chain_without_a_call_is_closed_when_it_is_evicted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        Closing.made, Closing.ran, Closing.closed, Closing.go = [], [], [], asyncio.Event()
        Closing.go.set()
        engine = Engine(loop, [Closing, Plain], [Plain], capacity=1)
        connections = [engine.connect(), engine.connect()]
        engine.call_soon(connections[0].call, 1, 1)
        await until(lambda: connections[0].replies)
        engine.call_soon(connections[1].call, 2, 2)
        await until(lambda: connections[1].replies)
        await until(lambda: Closing.closed)
        assert Closing.closed == Closing.made

    run(scenario)
    assert caplog.text == ""


def test_the_error_of_an_init_that_needs_the_event_loop_mentions_setup(caplog: pytest.LogCaptureFixture) -> None:
    """`__init__` runs in a thread. If it needs an event loop, the error says to use `setup`."""

    class Needy(Plugin[Any]):
        def __init__(self) -> None:
            asyncio.get_running_loop()

        def on_request(self, request: Any) -> None: ...

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        connection = Engine(loop, [Needy]).connect()
        loop.call_soon(connection.call, 1)
        await until(lambda: connection.replies)
        assert connection.replies == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]

    run(scenario)
    assert "create objects that need one in `async def setup(self)`" in caplog.text


def test_log_lines_of_init_name_the_call() -> None:
    """Log lines of `__init__` have the fields of the call that waits for the chain."""
    seen: list[Any] = []

    class Logs(Plugin[Any]):
        def __init__(self) -> None:
            seen.append(current_call.get())

        def on_request(self, request: Any) -> None: ...

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        connection = Engine(loop, [Logs]).connect()
        loop.call_soon(connection.call, 1, 7)
        await until(lambda: connection.replies)

    run(scenario)
    assert [call.id for call in seen] == [7]


class Eager(Plugin[Any]):
    """A plugin that is set up when its configuration arrives."""

    eager = True
    done: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.done.append("__init__")

    async def setup(self) -> None:
        """Record it."""
        self.done.append("setup")

    def on_request(self, request: Any) -> None:
        """Record it."""
        self.done.append("on_request")


def test_an_eager_plugin_is_set_up_when_its_configuration_arrives() -> None:
    """With `eager = True`, `__init__` and `setup` run before the first call, and only once if the configuration arrives repeatedly."""
    Eager.done.clear()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Eager])
        configuration = engine.configurations[0]
        for _ in range(3):
            engine.chains.received(1, configuration)
        await until(lambda: "setup" in Eager.done)
        connection = engine.connect()
        engine.call_soon(connection.call, 1)
        await until(lambda: connection.replies)

    run(scenario)
    assert Eager.done == ["__init__", "setup", "on_request"]


def test_a_background_task_starts_when_its_configuration_arrives() -> None:
    """It does not wait for a call, and starts once if the configuration arrives repeatedly."""
    started: list[str] = []

    class Refreshes(Plugin[Any]):
        async def setup(self) -> None:
            started.append("setup")

        async def background(self) -> None:
            started.append("background")

        def on_request(self, request: Any) -> None: ...

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Refreshes], background=BackgroundTasks())
        configuration = engine.configurations[0]
        for _ in range(3):
            engine.chains.received(1, configuration)
        await until(lambda: "background" in started)

    run(scenario)
    assert started == ["setup", "background"]


def test_other_plugins_wait_for_their_first_call() -> None:
    """A chain without eager plugins is not built before it is used."""

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Instant])
        configuration = engine.configurations[0]
        engine.chains.received(1, configuration)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    run(scenario)


def test_an_eager_setup_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The configuration is not refused, because the first call can run `setup` again."""

    class Fails(Plugin[Any]):
        eager = True

        async def setup(self) -> None:
            raise SystemExit("no")

        def on_request(self, request: Any) -> None: ...

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Fails])
        configuration = engine.configurations[0]
        engine.chains.received(1, configuration)
        await until(lambda: "could not be set up when its configuration arrived" in caplog.text)

    run(scenario)


def test_the_calls_of_one_plugin_may_use_half_of_the_limit() -> None:
    """At most half of max_in_flight calls wait for the threads of one plugin. Further calls are refused immediately."""
    counted = Counted()

    class Blocks(Plugin[Any]):
        blocking = True

        def on_request(self, request: Any) -> None:
            counted.make()

    async def scenario(loop: asyncio.AbstractEventLoop) -> None:
        engine = Engine(loop, [Blocks], blocking_threads=1, max_in_flight=10)
        connections = [engine.connect() for _ in range(9)]
        for connection in connections[:1]:  # it starts before the others arrive
            engine.call_soon(connection.call, 1)
        await until(lambda: counted.made)
        for connection in connections[1:]:
            engine.call_soon(connection.call, 1)
        await until(lambda: engine.runtime.in_flight == 7 and sum(len(connection.replies) for connection in connections) == 2)
        assert [connection.replies for connection in connections if connection.replies] == 2 * [[ErrResp(ErrCode.SERVICE_UNAVAILABLE)]]
        counted.go.set()
        await until(lambda: all(connection.replies for connection in connections))

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
