# SPDX-License-Identifier: Apache-2.0
"""An edit of arguments needs an info request; a call that can't wait for it any more is refused."""

import asyncio
import logging

import pytest

from apisix import Plugin, Request
from apisix.runner.errors import DeadlineExceeded
from apisix.testing import Client


class Edits(Plugin):
    """Set an argument."""

    def on_request(self, request: Request) -> None:
        request.args["n"] = "1"


class Lingers(Plugin):
    """Wait for longer than any deadline."""

    on_error = "pass"

    async def on_request(self, request: Request) -> None:
        await asyncio.sleep(60)


def test_after_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """The edits of other plugins are not sent blindly: the log names the reason, and no traceback of the runner's own."""
    with Client(plugin_timeout_s=0.05) as client, caplog.at_level(logging.ERROR):
        result = client.get("/", plugins=[Edits, Lingers], raise_errors=False)

    assert 503 == result.reply.status
    assert isinstance(result.error, DeadlineExceeded)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[-1].startswith("the edits of path or arguments could not be sent, the call is refused: the call took longer")
    assert [None] == [record.exc_info for record in caplog.records][-1:]
