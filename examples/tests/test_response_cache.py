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
    """Return the plugin's module with an empty cache. The test sets the clock with `module["now_s"]`."""
    module = vars(client.plugin("response-cache"))["on_request"].__globals__
    monkeypatch.setitem(module, "now_s", 1000.0)
    monkeypatch.setitem(module, "monotonic", lambda: module["now_s"])
    yield module
    module["_store"].clear()


def look_up(client: Client, url: str = "/page?a=1", **request: Any) -> Result:
    """Send a request in the phase after the gateway's own plugins. It is stopped if the response is in the cache."""
    method = request.pop("method", "GET")
    variables = VARS | request.pop("vars", {})
    return client.request(method, url, plugins=["response-cache"], phase="ext-plugin-post-req", vars=variables, **request)


def store(client: Client, url: str = "/page?a=1", status: int = 200, headers: Any = GOOD, body: bytes = b"<p>", **request: Any) -> None:
    """Send a response of the upstream."""
    variables = VARS | request.pop("vars", {})
    client.respond(status, headers, body, url=url, plugins=["response-cache"], vars=variables, **request)


@pytest.mark.usefixtures("module")
def test_second_request_is_answered(client: Client) -> None:
    """The second request gets the stored response with the headers of the upstream."""
    first = look_up(client)
    store(client)
    second = look_up(client)

    assert not first.stopped
    assert (second.reply.status, second.reply.body) == (200, b"<p>")
    assert dict(second.reply.headers) == {"cache-control": "public, max-age=60", "content-type": "text/html", "age": "0"}


def test_max_age(client: Client, module: dict[str, Any]) -> None:
    """A stored response has an age. When it has expired, the request goes to the upstream."""
    store(client)
    module["now_s"] += 59.5
    old = look_up(client)
    module["now_s"] += 0.5

    assert old.reply.headers["age"] == "59"
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
        {"Cache-Control": "max-age=60", "Set-Cookie": "login=1"},
        {"Cache-Control": "max-age=60", "Vary": "Accept-Language"},
    ],
)
def test_what_upstreams_forbid(client: Client, headers: Any) -> None:
    """A response is not stored if the upstream forbids it, or if it can be personal."""
    store(client, headers=headers)

    assert not look_up(client).stopped


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("change", [{"status": 404}, {"method": "POST"}, {"body": b""}, {"body": b"x" * 65537}])
def test_other_responses(client: Client, change: dict[str, Any]) -> None:
    """Errors, responses to methods other than GET, and long responses are not stored."""
    store(client, **change)

    assert not look_up(client).stopped


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("header", ["authorization", "cookie", "range"])
def test_personal_requests(client: Client, header: str) -> None:
    """Requests with credentials, cookies or ranges do not use the cache, and their responses are not stored."""
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
    """A stored response is used for the same request only."""
    store(client)

    assert not look_up(client, **change).stopped


def test_memory_is_bounded(client: Client, module: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many responses, the least recently used one is removed."""
    monkeypatch.setitem(module, "MAX_ENTRIES", 2)
    store(client, "/1")
    store(client, "/2")
    look_up(client, "/1")
    store(client, "/3")

    assert [look_up(client, url).stopped for url in ("/1", "/2", "/3")] == [True, False, True]
