# SPDX-License-Identifier: Apache-2.0
"""All objects of a call are freed with its reply, even if it failed, and without the garbage collector. They may be large."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from typing import ClassVar

import pytest

from apisix import Plugin, Request
from tests.call.fake_gateway import Engine, until


class Body:
    """A local variable of a hook."""


class Failing(Plugin):
    """The base class of plugins whose hooks fail while one of their local variables refers to a body."""

    bodies: ClassVar[list["weakref.ref[Body]"]] = []

    def fail(self) -> None:
        """Raise an exception in a frame that refers to a body."""
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
    """Disable the log, because pytest keeps all records, and the garbage collector."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("plugin", [Inline, Requests, InThread, Coroutine, CoroutineThatWaits, InSetup, TooLate])
def test_a_failed_call_keeps_none_of_its_variables(plugin: type[Failing]) -> None:
    """The objects to which local variables of a failed hook refer are freed when the call gets its reply."""
    Failing.bodies.clear()

    async def call() -> None:
        engine = Engine(asyncio.get_running_loop(), [plugin], info_timeout_s=0.05)
        connection = engine.connect()
        for _ in range(2):
            engine.call_soon(connection.call, 1)
            if plugin is Requests:
                await until(lambda: connection.info_requests)
                connection.info_requests.clear()
                engine.call_soon(connection.call_runner.receive_info, b"127.0.0.1")
            await until(lambda: connection.replies)
            connection.replies.clear()
        # Threads and tasks free their objects shortly after the reply.
        await until(lambda: not any(reference() for reference in Failing.bodies))
        assert len(Failing.bodies) > 0

    asyncio.run(call())
