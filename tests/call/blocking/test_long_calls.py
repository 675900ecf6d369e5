# SPDX-License-Identifier: Apache-2.0
"""Calls that take long are reported while they run. Time in which an info request has no reply does not count for plugin_timeout."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from apisix.runner import primitives
from apisix.runner.call.blocking.long_calls import LongCalls, passed
from apisix.runner.errors import ErrCode
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp
from tests.call.fake_gateway import WITHIN_S, Engine, until


@pytest.mark.parametrize(
    ("before_s", "now_s", "expected"),
    [(0, 4.9, None), (4.9, 5, 5), (-100, 5.1, 5), (5, 9, None), (9.5, 10, 10), (3, 21, 20), (20, 39, None), (39, 41, 40)],
)
def test_times_of_reports(before_s: float, now_s: float, expected: float | None) -> None:
    """A call is reported after 5 s, and each time twice as much time has passed."""
    assert passed(before_s, now_s) == expected


class Coroutine(Plugin[Any]):
    """Wait in a coroutine below the hook."""

    async def on_request(self, request: Any) -> None:
        """Do that."""
        await self.fetch()

    async def fetch(self) -> None:
        """Wait for long."""
        await asyncio.sleep(WITHIN_S)  # here


class Thread(Plugin[Any]):
    """Wait in a thread."""

    blocking = True
    go = threading.Event()

    def on_request(self, request: Any) -> None:
        """Do that."""
        self.go.wait(WITHIN_S)  # here


class Requests(Plugin[Any]):
    """Wait for the gateway."""

    def on_request(self, request: Any) -> None:
        """Do that."""
        request.read()  # here


class RequestsInCoroutine(Plugin[Any]):
    """Wait for the gateway in a coroutine, and then for the object that the test has set."""

    after: Callable[[], Awaitable[None]] | None = None

    async def on_request(self, request: Any) -> None:
        """Do that."""
        await request.aread()  # here
        after = type(self).after
        if after is not None:
            await after()


@pytest.mark.parametrize(
    ("plugin", "name", "function", "suffix"),
    [
        (Coroutine, "coroutine", "fetch: await asyncio.sleep(WITHIN_S)", ""),
        (Thread, "thread", "on_request: self.go.wait(WITHIN_S)", ""),
        (Requests, "requests", "on_request: request.read()", ", waiting for the gateway"),
        (RequestsInCoroutine, "requests-in-coroutine", "on_request: await request.aread()", ", waiting for the gateway"),
    ],
)
def test_calls_are_reported_while_they_run(caplog: pytest.LogCaptureFixture, plugin: Any, name: str, function: str, suffix: str) -> None:
    """All calls that are in the same place share a log line."""

    async def scenario() -> None:
        engine = Engine(asyncio.get_running_loop(), [plugin], blocking_threads=3)
        connections = [engine.connect() for _ in range(3)]
        began_s = primitives.now_s()
        for connection in connections:
            engine.call_soon(connection.call, 1)
        await until(lambda: engine.runtime.in_flight == 3 and len(engine.chains))
        await until(lambda: sum("here" in call.place() for call in engine.runtime.deadlines.waiting()) == 3)
        calls = LongCalls(engine.runtime.deadlines)
        for passed_s in (1.0, 5.0 + WITHIN_S, 6.0 + WITHIN_S):
            calls.look(began_s + passed_s)
        Thread.go.set()
        for connection in connections:
            engine.call_soon(connection.call_runner.close, "the test is over")
        await until(lambda: engine.runtime.in_flight == 0)

    asyncio.run(scenario())
    Thread.go.clear()
    reports = [record.getMessage() for record in caplog.records if "calls are still in" in record.getMessage()]
    assert len(reports) == 1
    start, _, end = reports[0].partition(" are still in ")
    assert start == f"plugin {name}: 3 calls"
    assert end.startswith("test_long_calls.py:")
    assert f"in {function}  # here after 20 s{suffix}" in end


def waits_for_gateway(plugin: Any, **limits: Any) -> Any:
    """Let a call wait for an info reply for longer than plugin_timeout, send the info reply, and return the reply to the call."""

    async def scenario() -> Any:
        engine = Engine(asyncio.get_running_loop(), [plugin], **limits)
        await engine.chains.build(1, response=False)
        connection = engine.connect()
        engine.call_soon(connection.call, 1)
        await until(lambda: connection.info_requests or connection.replies)
        (call,) = engine.runtime.deadlines.waiting() or [None]
        if call is not None:
            await asyncio.sleep(3 * limits["plugin_timeout_s"])
            if not connection.replies:
                engine.call_soon(connection.call_runner.receive_info, b"body")
        await until(lambda: connection.replies)
        return connection.replies[0]

    return asyncio.run(scenario())


@pytest.mark.parametrize("plugin", [Requests, RequestsInCoroutine])
def test_a_slow_upload_does_not_count_for_plugin_timeout(plugin: Any) -> None:
    """The call continues when the info reply arrives."""
    assert waits_for_gateway(plugin, plugin_timeout_s=0.3) == HTTPReqCallResp(1)


@pytest.mark.parametrize("plugin", [Requests, RequestsInCoroutine])
def test_a_gateway_that_sends_no_info_reply(caplog: pytest.LogCaptureFixture, plugin: Any) -> None:
    """The call fails after info_timeout. The error names this setting and the line of the plugin."""
    assert waits_for_gateway(plugin, plugin_timeout_s=0.3, info_timeout_s=0.4) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    assert "the gateway did not answer an info request within info_timeout, 0.4 s" in caplog.text
    assert "the plugin waits in test_long_calls.py:" in caplog.text


def test_plugin_timeout_counts_again_after_the_info_reply(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the line of the plugin."""
    monkeypatch.setattr(RequestsInCoroutine, "after", staticmethod(lambda: asyncio.sleep(WITHIN_S)))
    assert waits_for_gateway(RequestsInCoroutine, plugin_timeout_s=0.3) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    assert "longer than plugin_timeout, 0.3 s; it was in test_long_calls.py:" in caplog.text


class SlowToMake(Plugin[Any]):
    """Take long in the constructor."""

    go = threading.Event()

    def __init__(self) -> None:
        self.go.wait(WITHIN_S)  # here

    def on_request(self, request: Any) -> None:
        """Do nothing."""


def test_a_slow_constructor_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """If a call waits for the creation of its plugin, the report names the plugin and the line."""

    async def scenario() -> None:
        engine = Engine(asyncio.get_running_loop(), [SlowToMake])
        connection = engine.connect()
        began_s = primitives.now_s()
        engine.call_soon(connection.call, 1)
        await until(lambda: any("here" in call.place() for call in engine.runtime.deadlines.waiting()))
        LongCalls(engine.runtime.deadlines).look(began_s + 6.0)
        SlowToMake.go.set()
        await until(lambda: connection.replies)

    asyncio.run(scenario())
    (report,) = [record.getMessage() for record in caplog.records if " still in " in record.getMessage()]
    start, _, end = report.partition(", test_long_calls.py:")
    assert start == "no plugin yet: 1 call is still in the constructor or validation of plugin slow-to-make"
    assert "in __init__: self.go.wait(WITHIN_S)  # here after 5 s" in end
