# SPDX-License-Identifier: Apache-2.0
"""Long bodies are decompressed and converted in a thread, short bodies where the hook runs."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from typing import Any

import pytest

from apisix import Plugin, Request, Response
from apisix.runner.errors import BodyError, DeadlineExceeded, WrongContext
from apisix.runner.http import message, response
from apisix.runner.http.body import content_encoding
from apisix.runner.http.body.parsing import IN_COROUTINE_BYTES, IN_PLACE_BYTES
from apisix.testing import Client

SHORT = b'{"a": "' + b"x" * (IN_PLACE_BYTES - 9) + b'"}'
LONG = b'{"a": "' + b"x" * (IN_PLACE_BYTES - 8) + b'"}'
TOO_LONG_FOR_A_COROUTINE = b'{"a": "' + b"x" * (IN_COROUTINE_BYTES - 8) + b'"}'
CONVERTERS = {"text": "body_text", "json": "body_json", "form": "body_form"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Reads(Plugin):
    """A hook that waits in a greenlet."""

    config: str

    def on_request(self, request: Request) -> None:
        getattr(request, self.config)()

    def on_response(self, response: Response) -> None:
        response.headers["x-size"] = str(len(getattr(response, self.config)()))


class ReadsInThread(Reads):
    blocking = True


class ReadsInCoroutine(Plugin):
    config: str

    async def on_request(self, request: Request) -> None:
        await getattr(request, f"a{self.config}")()

    async def on_response(self, response: Response) -> None:
        response.headers["x-size"] = str(len(await getattr(response, f"a{self.config}")()))


class ReadsWhatWasFetched(Plugin):
    """A coroutine that uses the plain accessor, which can't wait there."""

    needs = ("body",)
    config: str

    async def on_request(self, request: Request) -> None:
        getattr(request, self.config)()

    async def on_response(self, response: Response) -> None:
        response.headers["x-size"] = str(len(getattr(response, self.config)()))


ALL = [Reads, ReadsInThread, ReadsInCoroutine, ReadsWhatWasFetched]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The idents of the threads in which a conversion or decompression was completed."""
    seen: list[int] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            result = function(*arguments)
            if not isinstance(result, BodyError):
                seen.append(threading.get_ident())
            return result

        return noted

    for name in CONVERTERS.values():
        monkeypatch.setattr(message, name, noting(getattr(message, name)))
    monkeypatch.setattr(response, "decode_body_or_error", noting(content_encoding.decode_body_or_error))
    return seen


@pytest.mark.parametrize("plugin", ALL)
@pytest.mark.parametrize("accessor", CONVERTERS)
def test_short(client: Client, plugin: type[Plugin], accessor: str, threads: list[int]) -> None:
    """A short body is converted in the thread of the hook."""
    client.post("/", headers=FORM, body=SHORT, plugins=[(plugin, accessor)])
    assert (threads == [threading.get_ident()]) is (plugin is not ReadsInThread)


@pytest.mark.parametrize("plugin", [Reads, ReadsInThread, ReadsInCoroutine])
@pytest.mark.parametrize("accessor", CONVERTERS)
def test_long(client: Client, plugin: type[Plugin], accessor: str, threads: list[int]) -> None:
    """A long body is converted in another thread, so that it does not block the event loop."""
    client.post("/", headers=FORM, body=LONG, plugins=[(plugin, accessor)])
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


def test_one_at_a_time(client: Client, threads: list[int]) -> None:
    """All hooks of a worker share one thread for long bodies, so that at most one thread competes with the event loop."""
    for plugin in (Reads, ReadsInThread, ReadsInCoroutine):
        client.post("/", headers=FORM, body=LONG, plugins=[(plugin, "form")])
    assert len(threads) == 3
    assert len(set(threads)) == 1


@pytest.mark.parametrize("plugin", ALL)
def test_decompressing(client: Client, plugin: type[Plugin], threads: list[int]) -> None:
    """The decompressed size decides, and the body is decompressed once."""
    for size, in_loop in ((IN_PLACE_BYTES, plugin is not ReadsInThread), (IN_PLACE_BYTES + 1, False)):
        del threads[:]
        body = gzip.compress(bytes(size), mtime=0)
        result = client.respond(200, {"content-encoding": "gzip"}, body, plugins=[(plugin, "read"), (Reads, "read")])
        assert result.response.headers["x-size"] == str(size)
        assert (len(threads), threads == [threading.get_ident()]) == (1, in_loop)


def test_a_coroutine_that_cannot_wait(client: Client, threads: list[int]) -> None:
    """Beyond a limit, the plain accessor raises an error that mentions the async variant."""
    client.post("/", body=LONG, plugins=[(ReadsWhatWasFetched, "json")])
    assert threads == [threading.get_ident()]
    with pytest.raises(WrongContext, match=r"request\.json\(\) of more than 524288 bytes .*`await request\.ajson\(\)`"):
        client.post("/", body=TOO_LONG_FOR_A_COROUTINE, plugins=[(ReadsWhatWasFetched, "json")])


@pytest.mark.parametrize("plugin", ALL)
def test_errors(client: Client, plugin: type[Plugin]) -> None:
    """Errors in the thread are raised in the hook."""
    with pytest.raises(BodyError, match="not JSON"):
        client.post("/", body=LONG[:-1], plugins=[(plugin, "json")])
    with pytest.raises(BodyError, match="truncated"):
        client.respond(200, {"content-encoding": "gzip"}, gzip.compress(bytes(10**6))[:-1], plugins=[(plugin, "read")])


@pytest.mark.parametrize("plugin", [Reads, ReadsInCoroutine])
def test_a_call_that_fails_meanwhile(plugin: type[Plugin], monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits for the thread no longer than its deadline."""
    released = threading.Event()
    monkeypatch.setattr(message, "body_text", lambda body, content_type: str(released.wait()))
    try:
        with Client(plugin_timeout_s=0.05) as client, pytest.raises(DeadlineExceeded):
            client.post("/", body=LONG, plugins=[(plugin, "text")])
    finally:
        released.set()


async def test_a_coroutine_that_is_cancelled(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of two tasks that wait for a body is cancelled, the other still gets it."""
    released = threading.Event()
    monkeypatch.setattr(message, "body_text", lambda body, content_type: str(released.wait()))

    class Twice(Plugin):
        async def on_request(self, request: Request) -> None:
            first, second = asyncio.ensure_future(request.atext()), asyncio.ensure_future(request.atext())
            await asyncio.wait([first], timeout=0.01)
            first.cancel()
            released.set()
            assert await second == "True"
            assert first.cancelled()

    await client.apost("/", body=LONG, plugins=[Twice])
    await client.aclose()
