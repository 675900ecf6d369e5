# SPDX-License-Identifier: Apache-2.0
"""If a response has no body, the gateway sends the request twice. The runner logs a warning once for each route."""

import asyncio

import pytest

from apisix import Plugin, Response
from apisix.runner.wire.messages import HTTPRespCallReq
from tests.call.fake_gateway import Engine, until


class Untouched(Plugin):
    """Leave the response as it is."""

    def on_response(self, response: Response) -> None:
        """Do nothing."""


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "second time" in record.getMessage()]


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_causes_one_warning(status: int, caplog: pytest.LogCaptureFixture) -> None:
    connection = Engine(asyncio.get_running_loop(), [Untouched]).connect()

    for number in (1, 2):
        connection.call_runner.start(HTTPRespCallReq(number, status, [], 1))
        await until(lambda number=number: len(connection.replies) == number)  # type: ignore[misc]

    assert len(_warnings(caplog)) == 1
    assert f"route#1#ext-plugin-pre-req#1: the upstream replied with status {status}" in _warnings(caplog)[0]


@pytest.mark.parametrize("status", [200, 205, 303, 305, 404])
async def test_other_responses_cause_no_warning(status: int, caplog: pytest.LogCaptureFixture) -> None:
    connection = Engine(asyncio.get_running_loop(), [Untouched]).connect()

    connection.call_runner.start(HTTPRespCallReq(1, status, [], 1))
    await until(lambda: connection.replies)

    assert _warnings(caplog) == []
