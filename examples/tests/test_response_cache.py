# SPDX-License-Identifier: Apache-2.0
"""plugins/response_cache.py."""

from collections.abc import Iterator
from typing import Any

import pytest

from apisix.testing import Client, Result

GOOD = {"Cache-Control": "public, max-age=60", "Content-Type": "text/html", "Transfer-Encoding": "chunked"}
VARS = {"route_id": "1", "upstream_uri": ""}


@pytest.fixture
def module(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names of the plugin's module, with an empty store, and a clock that the test turns: `module["now_s"]`."""
    module = vars(client.plugin("response-cache"))["on_request"].__globals__
    monkeypatch.setitem(module, "now_s", 1000.0)
    monkeypatch.setitem(module, "monotonic", lambda: module["now_s"])
    yield module
    module["_store"].clear()


def look_up(client: Client, url: str = "/page?a=1", **request: Any) -> Result:
    """Send a request as it comes after the gateway's own plugins. It is stopped if the answer is in the store."""
    method = request.pop("method", "GET")
    variables = VARS | request.pop("vars", {})
    return client.request(method, url, plugins=["response-cache"], phase="ext-plugin-post-req", vars=variables, **request)


def store(client: Client, url: str = "/page?a=1", status: int = 200, headers: Any = GOOD, body: bytes = b"<p>", **request: Any) -> None:
    """Send the upstream's response."""
    variables = VARS | request.pop("vars", {})
    client.respond(status, headers, body, url=url, plugins=["response-cache"], vars=variables, **request)


@pytest.mark.usefixtures("module")
def test_second_request_is_answered(client: Client) -> None:
    """What the upstream has answered once, the runner answers the second time, with the upstream's headers."""
    first = look_up(client)
    store(client)
    second = look_up(client)

    assert not first.stopped
    assert (200, b"<p>") == (second.reply.status, second.reply.body)
    assert {"cache-control": "public, max-age=60", "content-type": "text/html", "age": "0"} == dict(second.reply.headers)


def test_max_age(client: Client, module: dict[str, Any]) -> None:
    """An answer is as old as it says, and when it is too old, the upstream is asked again."""
    store(client)
    module["now_s"] += 59.5
    old = look_up(client)
    module["now_s"] += 0.5

    assert "59" == old.reply.headers["age"]
    assert not look_up(client).stopped


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cache-Control": "public"},
        {"Cache-Control": "max-age=0"},
        {"Cache-Control": "max-age=60, s-maxage=0"},
        {"Cache-Control": "max-age=60, no-store"},
        {"Cache-Control": "Private, max-age=60"},
        [("Cache-Control", "max-age=60"), ("Cache-Control", "no-cache")],
        {"Cache-Control": "max-age=60", "Set-Cookie": "session=1"},
        {"Cache-Control": "max-age=60", "Vary": "Accept-Language"},
    ],
)
def test_what_upstreams_forbid(client: Client, headers: Any) -> None:
    """What the upstream does not allow, or what may be meant for one client only, is not stored."""
    store(client, headers=headers)

    assert not look_up(client).stopped


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("change", [{"status": 404}, {"method": "POST"}, {"body": b""}, {"body": b"x" * 65537}])
def test_other_responses(client: Client, change: dict[str, Any]) -> None:
    """Errors, answers to anything but GET, and what is too long are not stored."""
    store(client, **change)

    assert not look_up(client).stopped


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("header", ["authorization", "cookie", "range"])
def test_personal_requests(client: Client, header: str) -> None:
    """Requests that ask for something of their own are neither answered from the store, nor are their answers stored."""
    store(client, request_headers={header: "x"})
    before = look_up(client)
    store(client)

    assert not before.stopped
    assert not look_up(client, headers={header: "x"}).stopped
    assert look_up(client).stopped


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    "change",
    [
        {"url": "/page?a=2"},
        {"method": "POST"},
        {"method": "HEAD"},
        {"headers": {"host": "other.example.com"}},
        {"vars": {"consumer_name": "ali"}},
        {"vars": {"upstream_uri": "/rewritten"}},
        {"vars": {"route_id": "2"}},
    ],
)
def test_other_requests(client: Client, change: dict[str, Any]) -> None:
    """An answer is for the same request only."""
    store(client)

    assert not look_up(client, **change).stopped


def test_memory_is_bounded(client: Client, module: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many answers, the one that nobody asked for longest goes first."""
    monkeypatch.setitem(module, "MAX_ENTRIES", 2)
    store(client, "/1")
    store(client, "/2")
    look_up(client, "/1")
    store(client, "/3")

    assert [True, False, True] == [look_up(client, url).stopped for url in ("/1", "/2", "/3")]
