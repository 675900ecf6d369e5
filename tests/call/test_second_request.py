# SPDX-License-Identifier: Apache-2.0
"""The gateway requests a response without a body twice, and the runner warns of that once for each route."""

import asyncio

import pytest

from apisix import Plugin, Response
from apisix.runner.wire.messages import HTTPRespCallReq
from tests.call.engine import Engine, until


class Untouched(Plugin):
    """Leave the response as it is."""

    def on_response(self, response: Response) -> None:
        """Do nothing."""


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "second time" in record.getMessage()]


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_is_warned_of_once(status: int, caplog: pytest.LogCaptureFixture) -> None:
    line = Engine(asyncio.get_running_loop(), [Untouched]).line()

    for number in (1, 2):
        line.call_runner.start(HTTPRespCallReq(number, status, [], 1))
        await until(lambda number=number: len(line.replies) == number)  # type: ignore[misc]

    assert len(_warnings(caplog)) == 1
    assert f"route#1#ext-plugin-pre-req#1: the upstream answered {status}" in _warnings(caplog)[0]


@pytest.mark.parametrize("status", [200, 205, 303, 305, 404])
async def test_other_responses_are_not_warned_of(status: int, caplog: pytest.LogCaptureFixture) -> None:
    line = Engine(asyncio.get_running_loop(), [Untouched]).line()

    line.call_runner.start(HTTPRespCallReq(1, status, [], 1))
    await until(lambda: line.replies)

    assert _warnings(caplog) == []
