# SPDX-License-Identifier: Apache-2.0
"""plugins/etag_cache.py."""

import hashlib
from typing import Any

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result

GOOD = {"cache-control": "public, max-age=60", "content-type": "text/html", "transfer-encoding": "chunked"}
VARS = {"route_id": "1", "upstream_uri": ""}
BODY = b"<p>"
ETAG = f'"{hashlib.sha256(BODY).hexdigest()[:32]}"'


def look_up(client: Client, url: str = "/page?a=1", **request: Any) -> Result:
    """Send a request in the phase after the gateway's own plugins. It is stopped if the response is in the cache."""
    variables = VARS | request.pop("vars", {})
    method = request.pop("method", "GET")
    return client.request(method, url, plugins=["etag-cache"], phase="ext-plugin-post-req", vars=variables, **request)


def store(client: Client, status: int = 200, headers: Any = GOOD, body: bytes = BODY, **request: Any) -> Result:
    """Send a response of the upstream."""
    plugins = [("etag-cache", request.pop("config", {}))]
    return client.respond(status, headers, body, url="/page?a=1", plugins=plugins, vars=VARS, **request)


def test_second_request(client: Client, apisix_registry: Registry) -> None:
    """The first response gets an ETag. The second request gets it from the cache, in each worker."""
    with Client(registry=apisix_registry, share_store=client) as other:
        first = look_up(client)
        stored = store(client)
        second = look_up(other)

    assert (first.stopped, stored.response.body, stored.response.headers["etag"]) == (False, BODY, ETAG)
    assert (second.reply.status, second.reply.body) == (200, BODY)
    assert dict(second.reply.headers) == {"cache-control": "public, max-age=60", "content-type": "text/html", "etag": ETAG, "age": "0"}


@pytest.mark.parametrize("known", [ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*"])
def test_not_modified(client: Client, known: str) -> None:
    """A client that has the current version gets a 304 without a body."""
    store(client)
    result = look_up(client, headers={"if-none-match": known})

    assert (result.reply.status, result.reply.body) == (304, b"")
    assert dict(result.reply.headers) == {"cache-control": "public, max-age=60", "etag": ETAG, "age": "0"}


@pytest.mark.parametrize("known", ['"other"', ETAG.strip('"'), "", "\udcff"])
def test_modified(client: Client, known: str) -> None:
    """A client that has another version gets the response."""
    store(client)

    assert look_up(client, headers={"if-none-match": known}).reply.status == 200


def test_etag_of_the_upstream(client: Client) -> None:
    """An ETag of the upstream is kept."""
    stored = store(client, headers={**GOOD, "etag": 'W/"7"'})

    assert stored.response.headers.getall("etag") == ['W/"7"']
    assert look_up(client, headers={"if-none-match": '"7"'}).reply.status == 304


def test_expiry(client: Client) -> None:
    """A response expires after its max-age, or after the limit of the configuration."""
    store(client)
    client.advance(59)
    before = look_up(client).stopped
    client.advance(2)
    after = look_up(client).stopped
    store(client, config={"max_age_s": 5})
    client.advance(6)

    assert (before, after, look_up(client).stopped) == (True, False, False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cache-control": "public"},
        {"cache-control": "max-age=0"},
        {"cache-control": "max-age=60, s-maxage=0"},
        {"cache-control": "max-age=60, no-store"},
        {"cache-control": "Private, max-age=60"},
        [("cache-control", "max-age=60"), ("cache-control", "no-cache")],
        {"cache-control": "max-age=60", "set-cookie": "login=1"},
        {"cache-control": "max-age=60", "vary": "accept-language"},
        {"cache-control": "max-age=60", "x-name": "\udcff"},
    ],
)
def test_what_is_not_stored(client: Client, headers: Any) -> None:
    """A response is not stored if the upstream forbids it, or if it can be personal. It passes unchanged."""
    stored = store(client, headers=headers)

    assert "etag" not in stored.response.headers
    assert not look_up(client).stopped


@pytest.mark.parametrize("change", [{"status": 404}, {"method": "POST"}, {"body": b""}, {"body": b"x" * 65537}])
def test_other_responses(client: Client, change: dict[str, Any]) -> None:
    """Errors, responses to methods other than GET, and long responses are not stored."""
    store(client, **change)

    assert not look_up(client).stopped


@pytest.mark.parametrize("header", ["authorization", "cookie", "range"])
def test_personal_requests(client: Client, header: str) -> None:
    """Requests with credentials, cookies or ranges do not use the cache, and their responses are not stored."""
    store(client, request_headers={header: "x"})
    before = look_up(client)
    store(client)

    assert (before.stopped, look_up(client, headers={header: "x"}).stopped, look_up(client).stopped) == (False, False, True)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "/page?a=2"},
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
