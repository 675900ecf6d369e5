# SPDX-License-Identifier: Apache-2.0
"""Secrets of a call that plugins log, print or raise are not in the log."""

import json
import re
from pathlib import Path

import pytest

from tests.peer import POST_RESP
from tests.runner_process import running

pytestmark = pytest.mark.process

PLUGIN = """
import asyncio
import logging
from typing import Annotated

import msgspec

from apisix import Plugin, Request, Response

logger = logging.getLogger("careless")


class Config(msgspec.Struct):
    key: Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]


class Careless(Plugin[Config]):
    async def on_request(self, request: Request) -> None:
        logger.warning("headers %s", dict(request.headers), extra={"arguments": dict(request.args), "config": self.config})
        del request.headers["authorization"]
        print("printed", request.headers["cookie"])
        logger.debug("at the level debug: %s", request.headers["x-api-key"])
        raise ValueError(f"bad key {self.config.key} and {request.headers['x-api-key']}")

    async def on_response(self, response: Response) -> None:
        raise ValueError(response.headers["set-cookie"])
"""
SECRETS = {
    "authorization": "Bearer planted-authorization",
    "cookie": "session=planted-cookie",
    "x-api-key": "planted-api-key",
}


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_of_a_call(tmp_path: Path, form: str) -> None:
    """In lines, their fields, prints and tracebacks there are digests. At the level debug, the values are there."""
    (tmp_path / "careless.py").write_text(PLUGIN)
    configuration = ("careless", json.dumps({"key": "planted-configuration"}))
    environ = {"APISIX_RUNNER_LOGGING_FORMAT": form, "APISIX_RUNNER_LOGGING_LEVEL": "debug"}
    with running(plugins=[tmp_path], environ=environ) as runner, runner.peer() as peer:
        headers = [("host", "a"), ("accept", "public-value"), *SECRETS.items()]
        peer.request(peer.prepare(configuration), headers=headers, args=[("token", "planted-argument")])
        peer.respond(peer.prepare(configuration, key=POST_RESP), headers=[("Set-Cookie", "id=planted-set-cookie; Path=/")])
        runner.wait_for_log("on_response")
        log = runner.log()

    found = {planted for line in log.splitlines() if "at the level debug" not in line for planted in re.findall("planted-[a-z-]+", line)}
    assert found == set()
    assert "at the level debug: planted-api-key" in log
    assert "public-value" in log
    assert len(set(re.findall("redacted-[0-9a-f]{16}", log))) == len(SECRETS) + 3


def test_further_names(tmp_path: Path) -> None:
    """The names in the setting `record.redact` are secret in the log too."""
    (tmp_path / "careless.py").write_text(PLUGIN)
    with running(plugins=[tmp_path], environ={"APISIX_RUNNER_RECORD_REDACT": "x-tenant"}) as runner, runner.peer() as peer:
        headers = [("host", "a"), ("x-tenant", "planted-tenant"), *SECRETS.items()]
        peer.request(peer.prepare(("careless", '{"key": "planted-configuration"}')), headers=headers)
        runner.wait_for_log("bad key")
        log = runner.log()

    assert re.findall("planted-[a-z-]+", log) == []
