# SPDX-License-Identifier: Apache-2.0
"""The admin API answers with APISIX's status codes and bodies."""

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from apisix.gateway.http.answer import Answer
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.quirks import LATEST, Version
from apisix.gateway.resources.admin import DEFAULT_KEY, PREFIX, AdminApi
from apisix.gateway.resources.store import Store

ROUTE = {"uri": "/get", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}}


class Client:
    """Calls the admin API without a server."""

    def __init__(self, version: Version = LATEST) -> None:
        self.store = Store()
        self._api = AdminApi(self.store, DEFAULT_KEY, version)

    def __call__(self, method: str, path: str, value: Any = None, *, key: str | None = DEFAULT_KEY, body: bytes = b"") -> tuple[int, Any]:
        """Return status and decoded body."""
        answer = self.raw(method, path, value, key=key, body=body)
        assert isinstance(answer.body, bytes)
        assert answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(answer.body)

    def raw(self, method: str, path: str, value: Any = None, *, key: str | None = DEFAULT_KEY, body: bytes = b"") -> Answer:
        """Return the answer."""
        headers = CIMultiDict({"X-API-KEY": key} if key is not None else {})
        body = body or (b"" if value is None else json.dumps(value).encode())
        return self._api.answer(RequestContext(method, PREFIX + path, headers, body, "127.0.0.1", 1, 9080))


@pytest.fixture
def client() -> Client:
    """Return a client of an empty gateway."""
    return Client()


def test_put_creates_and_updates(client: Client) -> None:
    """The first PUT is answered with 201, the next one with 200, both with key and value. The version changes."""
    status, body = client("PUT", "/routes/1", ROUTE)
    times = {"create_time": body["value"]["create_time"], "update_time": body["value"]["update_time"]}
    assert (status, body) == (201, {"key": "/apisix/routes/1", "value": {**ROUTE, "id": "1", **times}})
    first = client.store.records("routes")["1"].version
    assert client("PUT", "/routes/1", ROUTE)[0] == 200
    assert client.store.records("routes")["1"].version != first


def test_get(client: Client) -> None:
    """GET returns one definition with its indexes, or all of them. A missing definition is a 404."""
    client("PUT", "/routes/1", ROUTE)
    status, body = client("GET", "/routes/1")
    assert (status, body["createdIndex"], body["modifiedIndex"], body["value"]["uri"]) == (200, 1, 1, "/get")
    status, body = client("GET", "/routes")
    assert (status, body["total"], body["list"][0]["key"]) == (200, 1, "/apisix/routes/1")
    assert client("GET", "/routes/2") == (404, {"message": "Key not found"})


def test_delete(client: Client) -> None:
    """DELETE removes a definition. A second DELETE is a 404."""
    client("PUT", "/routes/1", ROUTE)
    assert client("DELETE", "/routes/1") == (200, {"deleted": "1", "key": "/apisix/routes/1"})
    assert client("DELETE", "/routes/1") == (404, {"message": "Key not found"})


def test_post_numbers(client: Client) -> None:
    """POST creates a definition with a generated id."""
    status, body = client("POST", "/routes", ROUTE)
    assert (status, body["key"]) == (201, "/apisix/routes/00000000000000000001")


def test_patch_merges(client: Client) -> None:
    """PATCH merges the body into the definition. A path after the id selects a part."""
    client("PUT", "/routes/1", ROUTE)
    status, body = client("PATCH", "/routes/1", {"priority": 5, "upstream": {"nodes": {"127.0.0.1:1980": None, "127.0.0.1:81": 1}}})
    assert (status, body["value"]["priority"], body["value"]["upstream"]["nodes"]) == (200, 5, {"127.0.0.1:81": 1})
    assert client("PATCH", "/routes/1/uri", "/other")[1]["value"]["uri"] == "/other"
    assert client("PATCH", "/routes/2", {"priority": 5})[0] == 404


def test_upstream_in_use(client: Client) -> None:
    """An upstream that a route uses can't be deleted, unless the request has `force=true`."""
    client("PUT", "/upstreams/u", {"nodes": {"127.0.0.1:1980": 1}})
    client("PUT", "/routes/1", {"uri": "/a", "upstream_id": "u"})
    assert client("DELETE", "/upstreams/u") == (400, {"error_msg": "can not delete this upstream, route [1] is still using it now"})
    assert client("DELETE", "/upstreams/u?force=true")[0] == 200


def test_service_and_group_in_use(client: Client) -> None:
    """Services and consumer groups are protected like upstreams, with the messages of APISIX."""
    client("PUT", "/services/s", {})
    client("PUT", "/routes/1", {"uri": "/a", "service_id": "s"})
    client("PUT", "/consumer_groups/g", {"plugins": {}})
    client("PUT", "/consumers", {"username": "jack", "group_id": "g"})
    in_use = {"error_msg": "can not delete this service directly, route [1] is still using it now"}
    assert client("DELETE", "/services/s") == (400, in_use)
    in_use = {"error_msg": "can not delete this consumer group, consumer [jack] is still using it now"}
    assert client("DELETE", "/consumer_groups/g") == (400, in_use)


def test_patch_of_a_part_replaces_it(client: Client) -> None:
    """With a path after the id, the part is replaced and not merged, even by an empty object."""
    client("PUT", "/routes/1", {**ROUTE, "plugins": {"cors": {}}})
    _, body = client("PATCH", "/routes/1/upstream/nodes", {"127.0.0.1:81": 1})
    assert body["value"]["upstream"]["nodes"] == {"127.0.0.1:81": 1}
    _, body = client("PATCH", "/routes/1", {"plugins": {}})
    assert body["value"]["plugins"] == {}
    assert client("PATCH", "/routes/1/uri/x", 1) == (400, {"error_msg": "invalid sub-path: /uri"})
    assert client("PATCH", "/routes/1", {"id": "2"}) == (400, {"error_msg": "wrong route id"})


def test_pages(client: Client) -> None:
    """A page contains the definitions in the order of their creation. `total` is the number of all that match the filters."""
    for number in range(12):
        client("PUT", f"/routes/{number}", {**ROUTE, "name": f"route-{number % 2}", "labels": {f"l{number}": "x"}})
    _, body = client("GET", "/routes?page=2&page_size=10")
    assert (body["total"], [entry["value"]["id"] for entry in body["list"]]) == (12, ["10", "11"])
    assert client("GET", "/routes?name=e-1")[1]["total"] == 6
    assert client("GET", "/routes?label=l7")[1]["list"][0]["value"]["id"] == "7"
    assert client("GET", "/routes?uri=%2Fnope")[1] == {"total": 0, "list": []}
    assert client("GET", "/routes?filter=service_id%3Ds")[1]["total"] == 0


def test_page_out_of_range(client: Client) -> None:
    """A page has 10 to 500 definitions."""
    answer = client.raw("GET", "/routes?page=1&page_size=9")
    assert (answer.status, answer.body) == (400, b"page_size must be between 10 and 500")


@pytest.mark.parametrize("kind", ["ssls", "plugin_metadata", "protos", "secrets", "consumer_groups", "upstreams", "plugin_configs"])
def test_empty_lists(client: Client, kind: str) -> None:
    """Clients that dump the whole configuration list all kinds."""
    assert client("GET", f"/{kind}") == (200, {"total": 0, "list": []})


def test_certificates_are_returned_without_keys(client: Client) -> None:
    """Definitions that have no effect in the development gateway are stored and returned. Private keys are not returned."""
    client("PUT", "/ssls/1", {"snis": ["x.org"], "cert": "c", "key": "k"})
    _, body = client("GET", "/ssls/1")
    assert (body["value"]["cert"], "key" in body["value"]) == ("c", False)


def test_secret(client: Client) -> None:
    """The id of a secret contains the name of its manager."""
    assert client("PUT", "/secrets/vault/1", {"uri": "http://127.0.0.1:8200"})[1]["key"] == "/apisix/secrets/vault/1"
    assert client("DELETE", "/secrets/vault/1") == (200, {"deleted": "1", "key": "/apisix/secrets/vault/1"})


def test_credentials(client: Client) -> None:
    """A consumer's credentials are below its key, and are deleted with it."""
    client("PUT", "/consumers", {"username": "jack"})
    assert client("GET", "/consumers/jack/credentials") == (404, {"message": "Key not found"})
    status, body = client("PUT", "/consumers/jack/credentials/one", {"plugins": {"key-auth": {"key": "made-up"}}})
    assert (status, body["key"], body["value"]["id"]) == (201, "/apisix/consumers/jack/credentials/one", "one")
    assert client("GET", "/consumers/jack/credentials")[1]["total"] == 1
    assert client("GET", "/consumers")[1]["total"] == 1
    client("PUT", "/consumers", {"username": "jill"})
    refused = {"error_msg": "duplicate key of plugin key-auth found with credential: one of consumer: jack"}
    assert client("PUT", "/consumers/jill/credentials/two", {"plugins": {"key-auth": {"key": "made-up"}}}) == (400, refused)
    refused = {"error_msg": "only supports auth type plugins in consumer credential"}
    assert client("PUT", "/consumers/jack/credentials/two", {"plugins": {"cors": {}}}) == (400, refused)
    client("DELETE", "/consumers/jack")
    assert client.store.records("credentials") == {}


def test_a_plugin_in_two_global_rules(client: Client) -> None:
    """A plugin can be in one global rule only."""
    client("PUT", "/global_rules/1", {"plugins": {"cors": {}}})
    refused = {"error_msg": "plugin 'cors' already exists in global rule with id '1'"}
    assert client("PUT", "/global_rules/2", {"plugins": {"cors": {}}}) == (400, refused)


@pytest.mark.parametrize("query", ["", "?api_key=wrong"])
def test_key_in_the_query_or_in_a_cookie(query: str) -> None:
    """The key may be in the query, the header or a cookie. They are read in this order."""
    api = AdminApi(Store(), "made-up")

    def status(target: str, headers: dict[str, str]) -> int:
        context = RequestContext("GET", f"/apisix/admin/routes{target}", CIMultiDict(headers), b"", "127.0.0.1", 1, 9080)
        return api.answer(context).status

    assert status("?api_key=made-up", {}) == 200
    assert status(query, {"X-API-KEY": "made-up"}) == (401 if query else 200)
    assert status("", {"Cookie": "a=b; x_api_key=made-up"}) == 200


def test_plugins_and_schemas(client: Client) -> None:
    """Clients read the list of plugins, their schemas, and those of the definitions."""
    assert client("GET", "/plugins/list")[1][:2] == ["real-ip", "exit-transformer"]
    assert client("GET", "/plugins?all=true")[1]["ext-plugin-pre-req"]["priority"] == 12000
    conf = client("GET", "/schema/plugins/ext-plugin-pre-req")[1]["properties"]["conf"]
    assert (conf["type"], conf["minItems"]) == ("array", 1)
    assert client("GET", "/plugins/nope")[0] == 404
    assert client("GET", "/schema/route")[1]["properties"]["uris"] == {"type": "array"}


def test_validation(client: Client) -> None:
    """One definition or all of them can be validated without being stored. References are not followed."""
    assert client.raw("POST", "/schema/validate/routes", {"uri": "/a", "service_id": "nope"}).status == 200
    assert client("POST", "/schema/validate/routes", {"uri": 1})[0] == 400
    document: dict[str, Any] = {"routes": [{"id": "1", "uri": "/a", "upstream_id": "nope"}, {"id": "1", "uri": 1}]}
    document["consumers"] = [{"username": "jack"}]
    status, body = client("POST", "/configs/validate", document)
    assert (status, body["error_msg"]) == (400, "Configuration validation failed")
    assert [(error["resource_type"], error["resource_id"], error["index"]) for error in body["errors"]] == [("routes", "1", 1)]
    assert client("POST", "/configs/validate", {"routes": document["routes"][:1]}) == (200, {})
    assert client("GET", "/routes")[1]["total"] == 0


def test_times_are_stored(client: Client) -> None:
    """The time of creation is kept when a definition is replaced."""
    created = client("PUT", "/routes/1", ROUTE)[1]["value"]["create_time"]
    assert client("PUT", "/routes/1", ROUTE)[1]["value"]["create_time"] == created


def test_answers_before_3() -> None:
    """Before 3.0, the answers have the form of etcd 2, two kinds have other names, and later kinds do not exist."""
    client = Client((2, 15))
    status, body = client("PUT", "/routes/1", ROUTE)
    assert (status, body["action"], body["node"]["key"], body["node"]["value"]["priority"]) == (201, "set", "/apisix/routes/1", 0)
    _, body = client("GET", "/routes")
    assert (body["action"], body["count"], body["node"]["key"], body["node"]["dir"]) == ("get", 1, "/apisix/routes", True)
    assert (body["node"]["nodes"][0]["createdIndex"], body["node"]["nodes"][0]["value"]["uri"]) == (1, "/get")
    assert client("GET", "/routes/1")[1]["node"]["value"]["id"] == "1"
    assert client("DELETE", "/routes/1") == (200, {"action": "delete", "deleted": "1", "key": "/apisix/routes/1", "node": {}})
    assert client("GET", "/ssl")[1]["node"]["nodes"] == []
    assert client("GET", "/ssls") == (404, {"error_msg": "not found"})
    assert client("GET", "/consumer_groups") == (404, {"error_msg": "not found"})
    assert client("GET", "/routes", key="nope") == (401, {"error_msg": "failed to check token"})


@pytest.mark.parametrize(("key", "description"), [(None, "missing apikey"), ("nope", "wrong apikey"), ("\udcff", "wrong apikey")])
def test_key(client: Client, key: str | None, description: str) -> None:
    """Without the key, no definition is returned."""
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
        ("GET", "/stream_routes", b"", 400, "stream mode is disabled, can not add stream routes"),
        ("PUT", "/routes/1", b'{"uri":"/a","create_time":1}', 400, "the property is forbidden:  create_time"),
        ("PUT", "/consumers/jack", b'{"username":"jill"}', 400, "wrong username"),
        ("PUT", "/consumers/jack", b"{}", 400, 'invalid configuration: property "username" is required'),
        ("POST", "/consumers", b'{"username":"jack"}', 405, "not supported `POST` method for consumer"),
        ("PATCH", "/consumers/jack", b"{}", 405, "not supported `PATCH` method for consumer"),
        ("POST", "/global_rules", b"{}", 405, "not supported `POST` method for global rule"),
        ("POST", "/routes", b'{"uri":"/a","id":"1"}', 400, "wrong route id, do not need it"),
        ("PUT", "/consumers/jack/credentials/one", b"{}", 404, "consumer not found"),
        ("PUT", "/consumers/jack/credentials", b"{}", 400, "missing credential id"),
        ("PUT", "/plugin_metadata/nope", b"{}", 400, "invalid plugin name"),
        ("PUT", "/routes/1?ttl=soon", b'{"uri":"/a"}', 400, "invalid argument ttl: should be a number"),
        ("GET", "/schema/nope", b"", 400, "not found schema: nope"),
        ("OPTIONS", "/routes", b"", 404, "not found"),
    ],
)
def test_errors(client: Client, method: str, path: str, body: bytes, status: int, error: str) -> None:
    """Mistakes are answered with the messages of APISIX."""
    got, answer = client(method, path, body=body)
    assert got == status
    assert answer["error_msg"].startswith(error)


def test_refused_put_changes_nothing(client: Client) -> None:
    """If a PUT is refused, the stored definition is not changed."""
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
    """With a configured key, requests to any host are accepted, but only with that key."""
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
