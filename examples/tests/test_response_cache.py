# SPDX-License-Identifier: Apache-2.0
"""plugins/response_cache.py."""

from typing import Any

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result

GOOD = {"Cache-Control": "public, max-age=60", "Content-Type": "text/html", "Transfer-Encoding": "chunked"}
VARS = {"route_id": "1", "upstream_uri": ""}


def look_up(client: Client, url: str = "/page?a=1", **request: Any) -> Result:
    """Send a request in the phase after the gateway's own plugins. It is stopped if the response is in the cache."""
    method = request.pop("method", "GET")
    variables = VARS | request.pop("vars", {})
    return client.request(method, url, plugins=["response-cache"], phase="ext-plugin-post-req", vars=variables, **request)


def store(client: Client, status: int = 200, headers: Any = GOOD, body: bytes = b"<p>", **request: Any) -> Result:
    """Send a request to the upstream, and its response."""
    return client.respond(status, headers, body, plugins=["response-cache"], of=look_up(client, **request))


def test_second_request(client: Client, apisix_registry: Registry) -> None:
    """The second request gets the stored response with the headers of the upstream, in another worker too."""
    with Client(registry=apisix_registry, share_store=client) as other:
        first = look_up(client)
        client.respond(200, GOOD, b"<p>", plugins=["response-cache"], of=first)
        replies = [look_up(each).reply for each in (client, other)]

    assert not first.stopped
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"<p>")] * 2
    assert dict(replies[1].headers) == {"cache-control": "public, max-age=60", "content-type": "text/html", "age": "0"}


def test_phases_are_connected_by_metadata(client: Client) -> None:
    """The response phase needs no variables of the request, but for the one that identifies it."""
    first = look_up(client)
    last = client.respond(200, {**GOOD, "Cache-Control": "private"}, b"<p>", plugins=["response-cache"], of=first)

    assert last.asked == ("request_id",)
    assert look_up(client, method="POST").asked == ()


def test_headers_that_a_plugin_has_set(client: Client) -> None:
    """Headers that an earlier plugin of the route has set are stored too."""
    rewrite = "response-rewrite", {"set_headers": {"cache-control": "max-age=60"}}
    client.respond(200, {}, b"<p>", plugins=[rewrite, "response-cache"], of=look_up(client))

    assert look_up(client).reply.headers["cache-control"] == "max-age=60"


@pytest.mark.parametrize("control", ["max-age=60", "public,max-age=60", "MAX-AGE=060 , public", "s-maxage=60, max-age=0"])
def test_lifetimes(client: Client, control: str) -> None:
    """The case of names does not matter, and s-maxage precedes max-age."""
    store(client, headers={"Cache-Control": control})

    assert look_up(client).stopped


def test_max_age(client: Client) -> None:
    """When a stored response has expired, the request goes to the upstream."""
    store(client)
    client.advance(58)
    before = look_up(client).stopped
    client.advance(3)

    assert (before, look_up(client).stopped) == (True, False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cache-Control": "public"},
        {"Cache-Control": "max-age=0"},
        {"Cache-Control": "max-age=60, s-maxage=0"},
        {"Cache-Control": "max-age=-60"},
        {"Cache-Control": "max-age=60.5"},
        {"Cache-Control": "max-age=60s"},
        {"Cache-Control": "max-age=NaN"},
        {"Cache-Control": "max-age=" + "9" * 30},
        {"Cache-Control": "x-max-age=60"},
        {"Cache-Control": "max-age=60, no-store"},
        {"Cache-Control": "Private, max-age=60"},
        [("Cache-Control", "max-age=60"), ("Cache-Control", "no-cache")],
        {"Cache-Control": "max-age=60", "Set-Cookie": "login=1"},
        {"Cache-Control": "max-age=60", "Vary": "Accept-Language"},
        {"Cache-Control": "max-age=60", "x-name": "\udcff"},
    ],
)
def test_what_upstreams_forbid(client: Client, headers: Any) -> None:
    """A response is not stored if the upstream forbids it, or if it can be personal."""
    store(client, headers=headers)

    assert not look_up(client).stopped


@pytest.mark.parametrize("change", [{"status": 404}, {"method": "POST"}, {"body": b""}, {"body": b"x" * 65537}])
def test_other_responses(client: Client, change: dict[str, Any]) -> None:
    """Errors, responses to methods other than GET, and long responses are not stored."""
    store(client, **change)

    assert not look_up(client).stopped


@pytest.mark.parametrize("header", ["authorization", "cookie", "x-api-key", "apikey", "range", "content-length", "transfer-encoding"])
def test_personal_requests(client: Client, header: str) -> None:
    """Requests with credentials, cookies, ranges or bodies do not use the cache, and their responses are not stored."""
    personal = look_up(client, headers={header: "x"})
    client.respond(200, GOOD, b"<p>", plugins=["response-cache"], of=personal)
    before = look_up(client)
    store(client)

    assert [each.stopped for each in (before, look_up(client, headers={header: "x"}), look_up(client))] == [False, False, True]


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
