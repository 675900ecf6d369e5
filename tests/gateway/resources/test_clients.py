# SPDX-License-Identifier: Apache-2.0
"""The requests of the official clients of the admin API, in their order, through the socket."""

import asyncio
import json
from pathlib import Path
from typing import Any

from apisix.gateway.resources.admin import DEFAULT_KEY
from tests.gateway.bed import Response, TestBed

TIMEOUT_S = 10


async def call(bed: TestBed, method: str, target: str, value: Any = None, *headers: str) -> Response:
    """Send a request to the admin API."""
    body = b"" if value is None else json.dumps(value).encode()
    lines = [f"X-API-KEY: {DEFAULT_KEY}", "Content-Type: application/json", *headers]
    return await bed.request(method, f"/apisix/admin{target}", lines, body)


async def status_of(bed: TestBed, method: str, target: str, value: Any = None) -> int:
    """Return the status of a request to the admin API."""
    return (await call(bed, method, target, value)).status


# Source: api7/adc, libs/backend-apisix/src/fetcher.ts.
ADC_LISTS = ["services", "routes", "upstreams", "ssls", "consumers", "plugin_configs", "global_rules", "plugin_metadata", "stream_routes"]


async def adc_dump(bed: TestBed) -> dict[str, Any]:
    """Send what `adc dump` sends, and return the values by kind. It needs a version in the header `Server`."""
    first = await call(bed, "GET", "/routes")
    assert first.values("server") == ["APISIX/3.18.0"]
    found: dict[str, Any] = {}
    for kind in ADC_LISTS:
        response = await call(bed, "GET", f"/{kind}")
        assert response.status == (400 if kind == "stream_routes" else 200)
        found[kind] = [entry["value"] for entry in response.json().get("list", [])]
    for consumer in found["consumers"]:
        credentials = await call(bed, "GET", f"/consumers/{consumer['username']}/credentials")
        consumer["credentials"] = [] if credentials.status == 404 else [entry["value"] for entry in credentials.json()["list"]]
    return found


async def test_adc_sync(tmp_path: Path) -> None:
    """
    `adc sync` creates an upstream, its service and routes, consumers, credentials and global rules, and `adc dump` finds them again.

    Source: api7/adc, libs/backend-apisix/src/operator.ts and transformer.ts.
    """
    does = json.dumps({"rewrite": {"headers": [["x-runner", "yes"]]}})
    async with TestBed(tmp_path) as bed:
        assert all(not values for values in (await adc_dump(bed)).values())
        upstream = {
            "id": "s1",
            "name": "svc",
            "type": "roundrobin",
            "nodes": [{"host": "127.0.0.1", "port": bed.upstream.port, "weight": 1}],
        }
        service = {"id": "s1", "name": "svc", "labels": {"team": "a"}, "upstream_id": "s1", "plugins": {"key-auth": {}}}
        route = {"id": "r1", "name": "r", "uris": ["/api/*"], "methods": ["GET"], "service_id": "s1", "status": 1}
        route["plugins"] = {"ext-plugin-pre-req": {"conf": [{"name": "scripted", "value": does}]}}
        credential = {"id": "c1", "name": "main", "plugins": {"key-auth": {"key": "made-up"}}}
        steps = [
            ("PUT", "/global_rules/prometheus", {"plugins": {"prometheus": {}}}),
            ("PUT", "/plugin_metadata/http-logger", {"log_format": {"host": "$host"}}),
            ("PUT", "/ssls/t1", {"id": "t1", "snis": ["x.org"], "cert": "c", "key": "k", "status": 1}),
            ("PUT", "/consumers/jack", {"username": "jack", "plugins": {}}),
            ("PUT", "/consumers/jack/credentials/c1", credential),
            ("PUT", "/upstreams/s1", upstream),
            ("PUT", "/services/s1", service),
            ("PUT", "/routes/r1", route),
        ]
        assert [await status_of(bed, *step) for step in steps] == [201] * len(steps)
        refused, passed = await bed.request("GET", "/api/x"), await bed.request("GET", "/api/x", ["apikey: made-up"])
        found = await adc_dump(bed)
        deletes = ["/routes/r1", "/services/s1", "/upstreams/s1", "/consumers/jack/credentials/c1", "/consumers/jack", "/ssls/t1"]
        deletes += ["/plugin_metadata/http-logger", "/global_rules/prometheus"]
        assert [await status_of(bed, "DELETE", target) for target in deletes] == [200] * len(deletes)
        assert all(not values for values in (await adc_dump(bed)).values())

    assert (refused.status, passed.status) == (401, 200)
    sent = {name.lower(): value for name, value in bed.upstream.seen[0]["headers"]}
    assert (sent["x-runner"], sent["x-consumer-username"], sent["x-credential-identifier"]) == ("yes", "jack", "c1")
    assert (found["routes"][0]["service_id"], found["services"][0]["upstream_id"]) == ("s1", "s1")
    assert found["consumers"][0]["credentials"][0]["plugins"] == {"key-auth": {"key": "made-up"}}
    assert found["plugin_metadata"][0]["log_format"] == {"host": "$host"}


async def test_adc_sync_to_a_stand_alone_gateway(tmp_path: Path) -> None:
    """
    The backend for the API-driven stand-alone mode sends one document with a digest. The ingress controller 2 uses it too.

    Source: api7/adc, libs/backend-apisix-standalone/src.
    """
    async with TestBed(tmp_path) as bed:
        assert (await call(bed, "HEAD", "/configs")).status == 200
        empty = (await call(bed, "GET", "/configs")).json()
        assert empty["routes_conf_version"] == 0
        document = {
            "routes": [{"id": "r", "uri": "/api", "service_id": "s", "modifiedIndex": 5, "plugins": {"key-auth": {}}}],
            "routes_conf_version": 5,
            "services": [{"id": "s", "upstream": {"nodes": {f"127.0.0.1:{bed.upstream.port}": 1}}, "modifiedIndex": 5}],
            "consumers": [{"username": "jack"}, {"id": "jack/credentials/c", "plugins": {"key-auth": {"key": "made-up"}}}],
        }
        assert (await call(bed, "PUT", "/configs", document)).json() == {"error_msg": "missing digest header"}
        written = await call(bed, "PUT", "/configs", document, "X-Digest: d1")
        again = await call(bed, "PUT", "/configs", document, "X-Digest: d1")
        passed = await bed.request("GET", "/api", ["apikey: made-up"])
        older = await call(bed, "PUT", "/configs", {"routes_conf_version": 4}, "X-Digest: d2")
        shown = await call(bed, "GET", "/configs")
        emptied = await call(bed, "PUT", "/configs", {}, "X-Digest: d3")
        gone = await bed.request("GET", "/api", ["apikey: made-up"])

    assert (written.status, written.values("x-digest"), again.status, passed.status) == (202, ["d1"], 204, 200)
    assert older.json() == {"error_msg": "routes_conf_version must be greater than or equal to (5)"}
    assert (shown.json()["routes"], shown.json()["X-Digest"], shown.json()["services_conf_version"]) == (document["routes"], "d1", 1)
    assert (emptied.status, gone.status) == (202, 404)


async def test_ingress_controller_1(tmp_path: Path) -> None:
    """
    The ingress controller 1 lists everything, reads plugins and schemas, and writes upstreams, plugin configs and routes.

    Source: apache/apisix-ingress-controller v1.8.4, pkg/apisix.
    """
    does = json.dumps({"stop": {"status": 418, "body": "stopped"}})
    async with TestBed(tmp_path) as bed:
        lists = ["routes", "upstreams", "ssls", "stream_routes", "global_rules", "consumers", "plugin_configs"]
        listed = [await call(bed, "GET", f"/{kind}") for kind in lists]
        assert b"is disabled" in listed[3].body
        assert [response.json().get("list") for response in listed if response.status == 200] == [[]] * 6
        plugins = (await call(bed, "GET", "/plugins?all=true")).json()
        schemas = [await status_of(bed, "GET", f"/schema/{name}") for name in ("plugins/ext-plugin-post-req", "route", "ssl")]
        upstream: dict[str, Any] = {"id": "u", "name": "default_svc_80", "type": "roundrobin", "labels": {"managed-by": "ingress"}}
        upstream["nodes"] = [{"host": "127.0.0.1", "port": bed.upstream.port, "weight": 100}]
        config = {"id": "p", "name": "conf", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "scripted", "value": does}]}}}
        route = {"id": "r", "name": "default_route", "host": "gw.example.com", "uris": ["/*"], "upstream_id": "u", "plugin_config_id": "p"}
        for kind, value in (("upstreams", upstream), ("plugin_configs", config), ("routes", route)):
            assert await status_of(bed, "GET", f"/{kind}/{value['id']}") == 404
            created = await call(bed, "PUT", f"/{kind}/{value['id']}", value)
            assert (created.status, created.json()["key"]) == (201, f"/apisix/{kind}/{value['id']}")
            assert await status_of(bed, "PUT", f"/{kind}/{value['id']}", value) == 200
        stopped = await bed.request("GET", "/x")
        deletes = [
            await status_of(bed, "DELETE", f"/{kind}?force=true") for kind in ("upstreams/u", "plugin_configs/p", "routes/r", "routes/r")
        ]

    assert ("ext-plugin-pre-req" in plugins, schemas) == (True, [200, 200, 200])
    assert (stopped.status, stopped.body) == (418, b"stopped")
    assert deletes == [200, 200, 200, 404]


async def test_time_to_live(tmp_path: Path) -> None:
    """A definition with `ttl` is deleted when the time is over."""
    async with TestBed(tmp_path) as bed:
        assert await status_of(bed, "PUT", "/routes/1?ttl=0.2", {"uri": "/a"}) == 201
        async with asyncio.timeout(TIMEOUT_S):
            while await status_of(bed, "GET", "/routes/1") != 404:  # noqa: ASYNC110  # the gateway has no event for this
                await asyncio.sleep(0.02)


async def test_consumer_group(tmp_path: Path) -> None:
    """
    The plugins of a consumer group run for its consumers. Those of the consumer take precedence over them, and they over those of the
    route.
    """

    def adds(name: str, value: str) -> dict[str, Any]:
        return {"proxy-rewrite": {"headers": {"set": {name: value}}}}

    async with TestBed(tmp_path) as bed:
        bed.route(plugins={"key-auth": {}, "ext-plugin-pre-req": {"conf": [{"name": "scripted", "value": "{}"}]}})
        await call(bed, "PUT", "/consumer_groups/g", {"plugins": adds("x-group", "g")})
        await call(bed, "PUT", "/consumers/jack", {"username": "jack", "group_id": "g", "plugins": {"key-auth": {"key": "k1"}}})
        await call(
            bed,
            "PUT",
            "/consumers/jill",
            {"username": "jill", "group_id": "g", "plugins": {"key-auth": {"key": "k2"}, **adds("x-own", "j")}},
        )
        await call(bed, "PUT", "/consumers/joe", {"username": "joe", "plugins": {"key-auth": {"key": "k3"}, "opa": {"host": "x"}}})
        statuses = [(await bed.request("GET", "/", [f"apikey: {key}"])).status for key in ("k1", "k2", "k3")]

    names = [{name for name, _ in seen["headers"]} & {"x-group", "x-own"} for seen in bed.upstream.seen]
    assert (statuses, names) == ([200, 200, 503], [{"x-group"}, {"x-own"}])
    assert "plugin opa is not supported" in str(bed.reports[-1].error)
