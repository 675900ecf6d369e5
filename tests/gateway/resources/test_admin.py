# SPDX-License-Identifier: Apache-2.0
"""The admin API answers with APISIX's status codes and bodies."""

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from apisix.gateway.http.answer import Answer
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.resources.admin import DEFAULT_KEY, PREFIX, AdminApi
from apisix.gateway.resources.store import Store

ROUTE = {"uri": "/get", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}}


class Client:
    """Calls the admin API without a server."""

    def __init__(self) -> None:
        self.store = Store()
        self._api = AdminApi(self.store, DEFAULT_KEY)

    def __call__(self, method: str, path: str, value: Any = None, *, key: str | None = DEFAULT_KEY, body: bytes = b"") -> tuple[int, Any]:
        """Return status and decoded body."""
        headers = CIMultiDict({"X-API-KEY": key} if key is not None else {})
        body = body or (b"" if value is None else json.dumps(value).encode())
        answer = self._api.answer(RequestContext(method, PREFIX + path, headers, body, "127.0.0.1", 1, 9080))
        assert isinstance(answer.body, bytes)
        assert answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(answer.body)


@pytest.fixture
def client() -> Client:
    """Return a client of an empty gateway."""
    return Client()


def test_put_creates_and_updates(client: Client) -> None:
    """The first PUT answers 201, the next 200, both with key and value; the version changes."""
    status, body = client("PUT", "/routes/1", ROUTE)
    assert (
        status,
        body["key"],
        body["value"]["uri"],
        body["value"]["id"],
        body["value"]["status"],
        body["value"]["priority"],
    ) == (201, "/apisix/routes/1", "/get", "1", 1, 0)
    first = client.store.records("routes")["1"].version
    assert client("PUT", "/routes/1", ROUTE)[0] == 200
    assert client.store.records("routes")["1"].version != first


def test_get(client: Client) -> None:
    """GET shows one with its indexes, or all; what is not there is a 404."""
    client("PUT", "/routes/1", ROUTE)
    status, body = client("GET", "/routes/1")
    assert (status, body["createdIndex"], body["modifiedIndex"], body["value"]["uri"]) == (200, 1, 1, "/get")
    status, body = client("GET", "/routes")
    assert (status, body["total"], body["list"][0]["key"]) == (200, 1, "/apisix/routes/1")
    assert client("GET", "/routes/2") == (404, {"message": "Key not found"})


def test_delete(client: Client) -> None:
    """DELETE removes, once."""
    client("PUT", "/routes/1", ROUTE)
    assert client("DELETE", "/routes/1") == (200, {"deleted": "1", "key": "/apisix/routes/1"})
    assert client("DELETE", "/routes/1") == (404, {"message": "Key not found"})


def test_post_numbers(client: Client) -> None:
    """POST creates under an id of its own."""
    status, body = client("POST", "/routes", ROUTE)
    assert (status, body["key"]) == (201, "/apisix/routes/00000000000000000001")


def test_patch_merges(client: Client) -> None:
    """PATCH lays the body over what is there; a path below the id names a part."""
    client("PUT", "/routes/1", ROUTE)
    status, body = client("PATCH", "/routes/1", {"priority": 5, "upstream": {"nodes": {"127.0.0.1:1980": None, "127.0.0.1:81": 1}}})
    assert (status, body["value"]["priority"], body["value"]["upstream"]["nodes"]) == (200, 5, {"127.0.0.1:81": 1})
    assert client("PATCH", "/routes/1/uri", "/other")[1]["value"]["uri"] == "/other"
    assert client("PATCH", "/routes/2", {"priority": 5})[0] == 404


def test_upstream_in_use(client: Client) -> None:
    """An upstream that a route uses can't be deleted."""
    client("PUT", "/upstreams/u", {"nodes": {"127.0.0.1:1980": 1}})
    client("PUT", "/routes/1", {"uri": "/a", "upstream_id": "u"})
    assert client("DELETE", "/upstreams/u") == (400, {"error_msg": "can not delete this upstream, route [1] is still using it now"})


@pytest.mark.parametrize(("key", "description"), [(None, "missing apikey"), ("nope", "wrong apikey"), ("\udcff", "wrong apikey")])
def test_key(client: Client, key: str | None, description: str) -> None:
    """Without the key nothing is shown."""
    assert client("GET", "/routes", key=key) == (401, {"description": description, "error_msg": "failed to check token"})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("PUT", "/routes/1", b"{", 400, "invalid request body: "),
        ("PUT", "/routes/1", b"", 400, "missing configurations"),
        ("PUT", "/routes/1", b"[]", 400, "invalid configuration: wrong type: expected object"),
        ("PUT", "/routes/1", b'{"uri":"/a","id":2}', 400, "wrong route id"),
        ("PUT", "/routes", b'{"uri":"/a"}', 400, "missing route id"),
        ("PUT", "/routes/1", b'{"uri":"/a","x":1}', 400, "invalid configuration: additional properties forbidden, found x"),
        ("POST", "/routes/1", b'{"uri":"/a"}', 400, "wrong route id, do not need it"),
        ("DELETE", "/routes", b"", 400, "missing route id"),
        ("GET", "/nope", b"", 404, "Unsupported resource type: nope"),
        ("GET", "/ssls", b"", 501, "ssls are not supported by the development gateway"),
        ("OPTIONS", "/routes", b"", 404, "not found"),
    ],
)
def test_errors(client: Client, method: str, path: str, body: bytes, status: int, error: str) -> None:
    """Mistakes are answered in APISIX's words."""
    got, answer = client(method, path, body=body)
    assert got == status
    assert answer["error_msg"].startswith(error)


def test_refused_put_changes_nothing(client: Client) -> None:
    """A PUT that is refused leaves what was there."""
    client("PUT", "/routes/1", ROUTE)
    client("PUT", "/routes/1", {"uri": 5})
    assert client("GET", "/routes/1")[1]["value"]["uri"] == "/get"


@pytest.mark.parametrize("host", ["127.0.0.1:9080", "localhost", "[::1]:9080", "dev.localhost"])
def test_the_documented_key_works_for_a_loopback_name(host: str) -> None:
    """The commands of APISIX's documentation work."""
    assert answered(AdminApi(Store()), host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", ""])
def test_the_documented_key_does_not_work_for_another_name(host: str) -> None:
    """A page that uses DNS rebinding sends its own name as Host, and does not have the random key."""
    assert answered(AdminApi(Store()), host).status == 401


def test_a_given_key_works_for_any_name() -> None:
    """Whoever sets the key decides who has it."""
    assert answered(AdminApi(Store(), "made-up"), "gw.example.com", key="made-up").status == 200
    assert answered(AdminApi(Store(), "made-up"), "127.0.0.1").status == 401


@pytest.mark.parametrize(
    ("origin", "status"), [("http://127.0.0.1:9081", 200), ("http://localhost", 200), ("https://evil.example", 403), ("null", 403)]
)
def test_pages_of_other_sites_are_refused(origin: str, status: int) -> None:
    """A browser sends the Origin of the page that makes a request."""
    assert answered(AdminApi(Store()), "127.0.0.1", origin=origin).status == status


def answered(api: AdminApi, host: str, *, key: str = DEFAULT_KEY, origin: str | None = None) -> Answer:
    """Return the answer to a request for all routes."""
    headers = CIMultiDict({"Host": host, "X-API-KEY": key, **({} if origin is None else {"Origin": origin})})
    context = RequestContext("GET", "/apisix/admin/routes", headers, b"", "127.0.0.1", 1, 9080)
    return api.answer(context)
