# SPDX-License-Identifier: Apache-2.0
"""The metadata of a request in the test kit, whose engine is that of the workers."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from apisix import Plugin, Reply, Request, Response
from apisix.runner.errors import BodyError, CallCancelled, MetadataError, WrongContext
from apisix.testing import Client


class Timing(Plugin[dict[str, Any]]):
    """Hands values over from the request phases to the response phase."""

    def on_request(self, request: Request) -> None:
        metadata = request.metadata()
        metadata["steps"] = [*metadata.get("steps", ()), request.phase]

    def on_response(self, response: Response) -> None:
        response.headers["x-steps"] = " ".join(response.metadata().get("steps", ["none"]))


class AsyncTiming(Plugin[dict[str, Any]]):
    """Does the same in coroutines."""

    async def on_request(self, request: Request) -> None:
        metadata = await request.ametadata()
        metadata["steps"] = [*metadata.get("steps", ()), request.phase]

    async def on_response(self, response: Response) -> None:
        response.headers["x-steps"] = " ".join((await response.ametadata()).get("steps", ["none"]))


class ThreadTiming(Timing):
    """Does the same in threads."""

    blocking = True


TIMINGS = pytest.mark.parametrize("plugin", [Timing, AsyncTiming, ThreadTiming])


@TIMINGS
def test_all_phases(client: Client, plugin: type) -> None:
    """Each phase sees what the earlier ones have written, with one info request in each."""
    first = client.get("/", plugins=[plugin])
    second = client.get("/", plugins=[plugin, plugin], phase="ext-plugin-post-req", of=first)
    third = client.respond(200, plugins=[plugin], of=second)

    assert third.response.headers["x-steps"] == "ext-plugin-pre-req ext-plugin-post-req ext-plugin-post-req"
    assert (first.asked, second.asked, third.asked) == (("request_id",), ("request_id",), ("request_id",))


@TIMINGS
def test_other_requests(client: Client, plugin: type) -> None:
    """Requests do not see the metadata of others, and it is gone after the response phase."""
    results = [client.get("/", plugins=[plugin]) for _ in range(3)]
    client.respond(200, plugins=[plugin], of=results[0])
    again = client.respond(200, plugins=[plugin], of=results[0])
    unrelated = client.respond(200, plugins=[plugin])
    other = client.respond(200, plugins=[plugin], of=results[1])

    assert [result.response.headers["x-steps"] for result in (again, unrelated, other)] == ["none", "none", "ext-plugin-pre-req"]


def test_same_id(client: Client) -> None:
    """A test can name the request by its id."""
    client.get("/", plugins=[Timing], vars={"request_id": "r1"})
    result = client.respond(200, plugins=[Timing], vars={"request_id": "r1"})

    assert result.response.headers["x-steps"] == "ext-plugin-pre-req"


async def test_async_tests(client: Client) -> None:
    """The metadata is that of the client, in async tests too."""
    first = await client.aget("/", plugins=[AsyncTiming])
    last = await client.arespond(200, plugins=[Timing], of=first)

    assert last.response.headers["x-steps"] == "ext-plugin-pre-req"


def test_response_of_a_result(client: Client) -> None:
    """The response belongs to the request as the upstream got it."""

    class Edits(Plugin[Any]):
        def on_request(self, request: Request) -> None:
            request.headers["x-tenant"] = "acme"

    class Shows(Plugin[Any]):
        needs = ("http_x_tenant", "request_method", "arg_a", "consumer_name", "remote_addr")

        def on_response(self, response: Response) -> None:
            response.headers["x-shown"] = " ".join(response.var(name) or "none" for name in self.needs)

    first = client.post("/x?a=5", plugins=[Edits], vars={"consumer_name": "jack"}, remote_addr="10.0.0.1")
    result = client.respond(200, plugins=[Shows], of=first)
    other = client.respond(200, plugins=[Shows], of=first, vars={"consumer_name": "jill"})

    assert result.response.headers["x-shown"] == "acme POST 5 jack 10.0.0.1"
    assert other.response.headers["x-shown"] == "acme POST 5 jill 10.0.0.1"


def test_results_that_have_no_response(client: Client) -> None:
    """A test can't respond to a stopped request or to a response, or describe the request twice."""

    class Stops(Plugin[Any]):
        def on_request(self, request: Request) -> Reply:
            return Reply(403)

    stopped = client.get("/", plugins=[Stops])
    response = client.respond(200, plugins=[Timing])
    passed = client.get("/", plugins=[Timing])
    with pytest.raises(AssertionError, match="the request was stopped"):
        client.respond(200, plugins=[Timing], of=stopped)
    with pytest.raises(TypeError, match="the result of a request"):
        client.respond(200, plugins=[Timing], of=response)
    with pytest.raises(TypeError, match="not from both"):
        client.respond(200, plugins=[Timing], of=passed, url="/other")


def test_reply_ends_the_request(client: Client) -> None:
    """If a plugin replies to the client, no phase follows, so that nothing is kept."""

    class Stops(Plugin[Any]):
        def on_request(self, request: Request) -> Reply:
            request.metadata()["more"] = 1
            return Reply(403)

    first = client.get("/", plugins=[Timing])
    kept = len(client._metadata)
    client.get("/", plugins=[Stops], phase="ext-plugin-post-req", of=first)

    assert (kept, len(client._metadata)) == (1, 0)


def test_failed_plugin(client: Client) -> None:
    """If a request is refused, its metadata stays as it was. What a plugin with on_error "pass" wrote is kept, as in the context."""

    class Fails(Plugin[Any]):
        def on_request(self, request: Request) -> None:
            request.metadata()["steps"] = ["failed"]
            raise ValueError("oops")

    class Passes(Fails):
        on_error = "pass"

    first = client.get("/", plugins=[Timing])
    client.get("/", plugins=[Fails], of=first, raise_errors=False)
    refused = client.respond(200, plugins=[Timing], of=first)
    passed = client.respond(200, plugins=[Timing], of=client.get("/", plugins=[Passes]))

    assert [result.response.headers["x-steps"] for result in (refused, passed)] == ["ext-plugin-pre-req", "failed"]


def test_value_that_is_not_json(client: Client) -> None:
    """The error has the line of the plugin."""

    class Assigns(Plugin[Any]):
        def on_request(self, request: Request) -> None:
            request.metadata()["x"] = b"bytes"

    with pytest.raises(TypeError, match="metadata\\['x'\\] must be JSON") as raised:
        client.get("/", plugins=[Assigns])

    assert any(entry.path == Path(__file__) and "bytes" in str(entry.statement) for entry in raised.traceback)


def test_list_that_is_no_longer_json(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be written refuses the call, because a later phase would miss it."""

    class Changes(Plugin[Any]):
        def on_request(self, request: Request) -> None:
            request.metadata()["x"] = []
            request.metadata()["x"].append(object())

    with caplog.at_level(logging.ERROR):
        result = client.get("/", plugins=[Changes], raise_errors=False)

    assert (result.reply.status, type(result.error)) == (503, MetadataError)


def test_plain_method_in_a_coroutine(client: Client) -> None:
    """The error names the async variant, and `needs` makes it unnecessary."""

    class Mistaken(Plugin[Any]):
        async def on_request(self, request: Request) -> None:
            request.metadata()["x"] = 1

    class Needs(Mistaken):
        needs = ("request_id",)

    with pytest.raises(WrongContext, match=r"await request\.ametadata\(\)"):
        client.get("/", plugins=[Mistaken])
    client.get("/", plugins=[Needs])

    assert len(client._metadata) == 1


def test_several_tasks(client: Client) -> None:
    """Tasks of one call share one object and one info request."""

    class Gathers(Plugin[Any]):
        async def on_request(self, request: Request) -> None:
            first, second = await asyncio.gather(request.ametadata(), request.ametadata())
            first["a"] = 1
            second["b"] = 2

        def on_response(self, response: Response) -> None:
            response.headers["x-names"] = " ".join(response.metadata())

    first = client.get("/", plugins=[Gathers])

    assert first.asked == ("request_id",)
    assert client.respond(200, plugins=[Gathers], of=first).response.headers["x-names"] == "a b"


def test_task_that_outlives_its_call(client: Client) -> None:
    """A change after the chain has ended raises an error, whether the metadata was opened before or not."""
    kept: list[Request] = []

    class Keeps(Plugin[Any]):
        def on_request(self, request: Request) -> None:
            kept.append(request)
            if self.config["opens"]:
                request.metadata()["x"] = 1
            else:
                request.var("request_id")

    for opens in (True, False):
        client.get("/", plugins=[(Keeps, {"opens": opens})])
    for request in kept:
        with pytest.raises(CallCancelled):
            request.metadata()["x"] = 2

    assert len(client._metadata) == 1


def test_gateway_without_request_id(client: Client) -> None:
    """An empty variable is not an id, because requests would share it."""
    from apisix.runner.errors import InfoUnavailable

    for value in (None, ""):
        with pytest.raises(InfoUnavailable, match="request_id"):
            client.get("/", plugins=[Timing], vars={"request_id": value})


def test_edits_after_metadata(client: Client) -> None:
    """A failure to read something else does not lose the metadata."""

    class Reads(Plugin[Any]):
        def on_response(self, response: Response) -> None:
            metadata = response.metadata()
            with pytest.raises(BodyError):
                response.json()
            response.headers["x-steps"] = metadata["steps"][0]

    first = client.get("/", plugins=[Timing])

    assert client.respond(200, body="{", plugins=[Reads], of=first).response.headers["x-steps"] == "ext-plugin-pre-req"


@TIMINGS
def test_given_metadata(client: Client, plugin: type) -> None:
    """A test of one phase can give the metadata that the phase finds, in addition to that of an earlier phase."""
    alone = client.respond(200, plugins=[plugin], metadata={"steps": ["a", "b"]})
    first = client.get("/", plugins=[plugin], metadata={"steps": ["a"]}, vars={"request_id": "r1"})
    last = client.respond(200, plugins=[plugin], of=first, metadata={"other": 1})

    assert [result.response.headers["x-steps"] for result in (alone, last)] == ["a b", "a ext-plugin-pre-req"]


def test_given_metadata_that_is_not_json(client: Client) -> None:
    with pytest.raises(TypeError, match=r"metadata\['a'\] must be JSON"):
        client.respond(200, plugins=[Timing], metadata={"a": object()})
