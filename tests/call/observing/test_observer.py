# SPDX-License-Identifier: Apache-2.0
"""The observer asks each listener whether it wants a call, unless the listener skips it."""

import asyncio
from typing import Any

from apisix import Plugin, Request
from apisix.runner.call.observing.trace import CallListener, CallObserver, CallTrace
from tests.call.fake_gateway import Engine, until


class Hook(Plugin[Any]):
    """Does nothing."""

    name = "hook"

    def on_request(self, request: Request) -> None:
        pass


class Sampler(CallListener):
    """Wants one of some calls, and skips the others."""

    def __init__(self, gap: int) -> None:
        super().__init__()
        self.gap = gap
        self.asked: list[int] = []
        self.seen: list[int] = []

    def call_begins(self, message: Any, chain: Any) -> bool:
        self.asked.append(message.id)
        self.skip = self.gap
        return True

    def ended(self, trace: CallTrace) -> None:
        self.seen.append(trace.call_id)


def test_each_listener_skips_its_own_calls() -> None:
    second, third = Sampler(1), Sampler(2)

    async def calls() -> None:
        engine = Engine(asyncio.get_running_loop(), [Hook])
        engine.runtime.observer = CallObserver([second, third])
        connection = engine.connect()
        for number in range(8):
            engine.call_soon(connection.call, 1, number)
            await until(lambda number=number: len(connection.replies) > number)  # type: ignore[misc]

    asyncio.run(calls())

    assert second.asked == second.seen == [0, 2, 4, 6]
    assert third.asked == third.seen == [0, 3, 6]
