# SPDX-License-Identifier: Apache-2.0
"""An edit of arguments needs an info request. If the call can't wait for the reply any more, it is refused."""

import asyncio
import logging

import pytest

from apisix import Plugin, Request
from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp
from tests.call.fake_gateway import Clock, Engine, until


class Edits(Plugin):
    """Set an argument."""

    def on_request(self, request: Request) -> None:
        request.args["n"] = "1"


class WaitsTooLong(Plugin):
    """Wait for longer than the timeout."""

    on_error = "pass"

    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(60)


async def test_after_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """The edits of other plugins are not sent. The log contains the reason, without a traceback of the runner."""
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    engine = Engine(loop, [Edits, WaitsTooLong], plugin_timeout_s=0.0, deadlines=clock)
    connection = engine.connect()
    await engine.chains.build(1, response=False)
    engine.call_soon(connection.call, 1)
    await until(lambda: engine.runtime.in_flight == 1)

    with caplog.at_level(logging.ERROR):
        engine.call_soon(clock.expire_all)
        await until(lambda: connection.replies)

    assert connection.replies == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)]
    last = caplog.records[-1]
    assert last.getMessage().startswith("the edits of path or arguments could not be sent, so the call is refused: the call took longer")
    assert last.exc_info is None
