# SPDX-License-Identifier: Apache-2.0
"""What a call has used is freed with its reply, also if it failed: it may be large, and the garbage collector may not run for long."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from typing import ClassVar

import pytest

from apisix import Plugin, Request
from tests.call.engine import Engine, until


class Body:
    """A local variable of a hook."""


class Failing(Plugin):
    """The base of hooks that fail, each of them with a body in its variables."""

    bodies: ClassVar[list["weakref.ref[Body]"]] = []

    def fail(self) -> None:
        """Raise, in a frame that refers to a body."""
        body = Body()
        self.bodies.append(weakref.ref(body))
        raise ValueError("failed")


class Inline(Failing):
    blocking = False

    def on_request(self, request: Request) -> None:
        self.fail()


class Requests(Failing):
    blocking = False

    def on_request(self, request: Request) -> None:
        request.var("remote_addr")
        self.fail()


class InThread(Failing):
    blocking = True

    def on_request(self, request: Request) -> None:
        self.fail()


class Coroutine(Failing):
    async def on_request(self, request: Request) -> None:
        self.fail()


class CoroutineThatWaits(Failing):
    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(0)
        self.fail()


class InSetup(Failing):
    async def setup(self) -> None:
        self.fail()

    async def on_request(self, request: Request) -> None:
        """Never runs."""


class TooLate(Failing):
    blocking = False

    def on_request(self, request: Request) -> None:
        body = Body()
        self.bodies.append(weakref.ref(body))
        request.var("never_answered")


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Log nothing, since pytest keeps all records, and collect no garbage."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("plugin", [Inline, Requests, InThread, Coroutine, CoroutineThatWaits, InSetup, TooLate])
def test_a_failed_call_keeps_none_of_its_variables(plugin: type[Failing]) -> None:
    """Without the garbage collector, all that a failed hook had in its variables is freed once the call is answered."""
    Failing.bodies.clear()

    async def call() -> None:
        engine = Engine(asyncio.get_running_loop(), [plugin], info_timeout_s=0.05)
        line = engine.line()
        for _ in range(2):
            engine.at_loop(line.call, 1)
            if plugin is Requests:
                await until(lambda: line.info_requests)
                line.info_requests.clear()
                engine.at_loop(line.call_runner.receive_info, b"127.0.0.1")
            await until(lambda: line.replies)
            line.replies.clear()
        # Threads and tasks drop what they had a little after the call is answered.
        await until(lambda: not any(reference() for reference in Failing.bodies))
        assert len(Failing.bodies) > 0

    asyncio.run(call())
