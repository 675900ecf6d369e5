# SPDX-License-Identifier: Apache-2.0
"""The test kit runs plugins with `runs_in = "process"` in the process of the test, with the same conversion of the data."""

import os
from typing import Any

import pytest

from apisix import Plugin, Reply, Request, Response
from apisix.testing import Client


class Plain(Plugin):
    """A plain hook that waits for the body."""

    runs_in = "process"

    def on_request(self, request: Request) -> Reply | None:
        request.headers["x-found"] = f"{os.getpid()} {request.var('request_id')} {request.text()}"
        return Reply(403) if request.args else None

    def on_response(self, response: Response) -> None:
        response.body = response.read().upper()


class Async(Plugin):
    """A coroutine."""

    runs_in = "process"

    async def setup(self) -> None:
        self.ready = "ready"

    async def on_request(self, request: Request) -> None:
        request.headers["x-found"] = f"{self.ready} {await request.avar('request_id')} {await request.atext()}"


class Sets(Plugin):
    """Sets a value that is not plain data."""

    runs_in = "process"

    def on_request(self, request: Request) -> None:
        request.context["own"] = {1, 2}


class Reads(Plugin):
    """Reads a value that is not plain data."""

    runs_in = "process"

    def on_request(self, request: Request) -> None:
        request.context["lock"]


class Locks(Plugin):
    """Sets a value that stays in the worker."""

    def on_request(self, request: Request) -> None:
        request.context["lock"] = object()


@pytest.mark.parametrize(("plugin", "first"), [(Plain, str(os.getpid())), (Async, "ready")], ids=["plain", "async"])
def test_hooks_run_in_the_test(client: Client, plugin: type[Plugin[Any]], first: str) -> None:
    """A hook can wait for the gateway, and its edits are applied."""
    result = client.post("/", body=b"text", vars={"request_id": "r1"}, plugins=[plugin])

    assert result.upstream.headers["x-found"] == f"{first} r1 text"
    assert result.record.steps[0].edits != []


def test_a_reply_and_a_response(client: Client) -> None:
    """A Reply ends the chain, and a response is edited."""
    assert client.get("/?a=1", plugins=[Plain]).reply.status == 403
    assert client.respond(200, {}, b"text", plugins=[Plain]).response.body == b"TEXT"


def test_data_that_cannot_be_passed(client: Client) -> None:
    """A test fails if the plugin would fail in a process of the pool."""
    with pytest.raises(TypeError, match="has set context\\['own'\\] to a set"):
        client.get("/", plugins=[Sets])
    with pytest.raises(KeyError) as raised:
        client.get("/", plugins=[Locks, Reads])
    assert "context['lock'] is a object, which is not passed" in raised.value.__notes__[0]
