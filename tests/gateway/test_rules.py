# SPDX-License-Identifier: Apache-2.0
"""
Rules that a gateway engineer would try: forms of requests, matching and APISIX's plugins. Source: nginx 1.27 and APISIX 3.18, as noted.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.bed import TestBed

CLOSE = b"Connection: close\r\n\r\n"
KEYS = 32
"""How many keys are hashed. The ports of the nodes are random, and with few keys one of two nodes may get none."""


def get(target: str, *headers: str, host: str = "gw.example.com", method: str = "GET") -> bytes:
    """Return a request as bytes."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "Connection: close", "", ""]).encode("latin-1")


def scripted(does: dict[str, Any], phase: str = "ext-plugin-pre-req") -> dict[str, Any]:
    """Return plugins that include a scripted one."""
    return {phase: {"conf": [{"name": "scripted", "value": json.dumps(does)}]}}


def rewrite(**conf: Any) -> dict[str, Any]:
    """Return plugins with proxy-rewrite."""
    return {"proxy-rewrite": conf}


# Source: ngx_http_parse.c; ngx_http_proxy_module.c passes on the target as it came while nothing has changed it.
TARGETS: list[tuple[str, str]] = [
    ("/a/../b//c/./d", "/a/../b//c/./d"),
    ("/a%2Fb%20c?x=%20+", "/a%2Fb%20c?x=%20+"),
    ("/a?", "/a?"),
    ("/a#part?x=1", "/a#part?x=1"),
    ("http://other.org/abs?x=1", "/abs?x=1"),
    ("http://other.org", "/"),
    ("http://other.org?x=1", "/?x=1"),
    ("//a///b", "//a///b"),
    ("/a;b=c,d!$'()*", "/a;b=c,d!$'()*"),
    ("/%7Eu/%c3%bc", "/%7Eu/%c3%bc"),
]


@pytest.mark.parametrize(("target", "sent"), TARGETS)
async def test_unchanged_targets(tmp_path: Path, target: str, sent: str) -> None:
    """Without a change, the upstream gets the target as the client sent it, without the authority."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        await bed.send(get(target))

    assert [seen["target"] for seen in bed.upstream.seen] == [sent]


CHANGED: list[tuple[str, str]] = [
    ("/a/../b//c/./d?x=1", "/b/c/d?x=1&y=2"),
    ("/a%2Fb%20c", "/a/b%20c?y=2"),
    ("/a#part", "/a?y=2"),
    ("/a?x=%41+b", "/a?x=A%20b&y=2"),
    ("/a?=x&&d&e=", "/a?d&e=&y=2"),
    ("/a?c=%zz", "/a?c=%25zz&y=2"),
    ("/a?f=a=b;g", "/a?f=a%3Db%3Bg&y=2"),
    ("/a?x=1&x=2", "/a?x=1&x=2&y=2"),
    ("http://other.org?x=1", "/?x=1&y=2"),
]


@pytest.mark.parametrize(("target", "sent"), CHANGED)
async def test_changed_targets(tmp_path: Path, target: str, sent: str) -> None:
    """If an argument changes, path and query are encoded again."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"rewrite": {"args": [["y", "2"]]}}))
        await bed.send(get(target))

    assert [seen["target"] for seen in bed.upstream.seen] == [sent]


BAD: list[tuple[bytes, int]] = [
    (get("/../x"), 400),
    (get("/a%00b"), 400),
    (get("/a%zz"), 400),
    (get("*", method="OPTIONS"), 400),
    (get("/a b"), 400),
    (get("/a", method="get"), 400),
    (get("/a", method="TRACE"), 405),
    (get("/a", "X-A : v"), 400),
    (get("/a", "X-A: 1", " 2"), 400),
    (get("/a", "Host: b"), 400),
    (get("/a", "Content-Length: +5"), 400),
    (get("/a", "Content-Length: 1", "Content-Length: 1"), 400),
    (get("/a", "Transfer-Encoding: gzip"), 501),
    (get("/a", "Transfer-Encoding: chunked", "Content-Length: 1"), 400),
    (b"GET /a HTTP/1.1\r\n" + CLOSE, 400),
    (b"GET /a HTTP/2.0\r\nHost: x\r\n" + CLOSE, 505),
    (get("/" + "a" * 8192), 414),
]


@pytest.mark.parametrize(("request_", "status"), BAD, ids=range(len(BAD)))
async def test_bad_requests(tmp_path: Path, request_: bytes, status: int) -> None:
    """Invalid requests get nginx's page and reach no upstream."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        response = await bed.send(request_)

    assert (response.status, bed.upstream.seen) == (status, [])


GOOD: list[bytes] = [
    b"GET /a HTTP/1.1\nHost: x\nConnection: close\n\n",
    b"\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n" + CLOSE,
    b"GET /a HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost:\r\n" + CLOSE,
    get("/a", method="FOO-BAR"),
    get("/a", "Expect: 200-ok"),
]


@pytest.mark.parametrize("request_", GOOD, ids=range(len(GOOD)))
async def test_unusual_requests(tmp_path: Path, request_: bytes) -> None:
    """nginx accepts lines that end with LF, empty lines before a request, an empty Host, and methods that it does not know."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        response = await bed.send(request_)

    assert (response.status, len(bed.upstream.seen)) == (200, 1)


async def test_pipelined_requests_with_the_three_phases(tmp_path: Path) -> None:
    """Requests that arrive together are answered in their order, chunked ones too."""
    plugins = {
        **scripted({}),
        **scripted({}, "ext-plugin-post-req"),
        **scripted({"resp": {"headers": [["x-p", "1"]]}}, "ext-plugin-post-resp"),
    }
    chunked = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2;x=y\r\nhi\r\n0\r\nT: v\r\n\r\n"
    async with TestBed(tmp_path) as bed:
        bed.route(uri="/a", id="1", plugins=plugins)
        bed.route(uri="/b", id="2", plugins={**scripted({}), **scripted({}, "ext-plugin-post-req")})
        await bed.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + chunked)

    assert [(seen["method"], seen["target"], seen["body"]) for seen in bed.upstream.seen] == [("GET", "/a", ""), ("POST", "/b", "hi")]


HOSTS: list[tuple[str, str, bool]] = [
    ("gw.example.com", "gw.example.com", True),
    ("GW.Example.COM:9080", "gw.example.com", True),
    ("gw.example.com.", "gw.example.com", True),
    ("gw.example.com.:9080", "gw.example.com", True),
    ("x.example.com", "*.example.com", True),
    ("example.com", "*.example.com", False),
    ("a.b.example.com", "*.example.com", True),
    ("[::1]:80", "[::1]", True),
]


@pytest.mark.parametrize(("given", "host", "matches"), HOSTS)
async def test_hosts(tmp_path: Path, given: str, host: str, matches: bool) -> None:
    """Case, port and a dot at the end do not matter. Source: ngx_http_validate_host."""
    async with TestBed(tmp_path) as bed:
        bed.route(host=host)
        response = await bed.send(get("/a", host=given))

    assert response.status == (200 if matches else 404)


async def test_an_absolute_target_decides_the_host(tmp_path: Path) -> None:
    """The authority of an absolute target is `$host`; the upstream gets the header. Source: nginx, `$host`."""
    async with TestBed(tmp_path) as bed:
        bed.route(host="other.org")
        response = await bed.send(get("http://Other.org:81/a"))

    assert (response.status, bed.upstream.seen[0]["headers"][0]) == (200, ["Host", "gw.example.com"])


MATCHING: list[tuple[dict[str, Any], bytes, bool]] = [
    ({"uri": "/a/b"}, get("//a///b"), True),
    ({"uri": "/a/b"}, get("/a%2Fb"), True),
    ({"uri": "/a/b"}, get("/a/x/../b"), True),
    ({"uri": "/a"}, get("/a/"), False),
    ({"uri": "/a*"}, get("/a"), True),
    ({"uri": "/a/*"}, get("/a"), False),
    ({"methods": ["POST"]}, get("/a"), False),
    ({"methods": ["GET"]}, get("/a", method="HEAD"), False),
    ({"remote_addrs": ["127.0.0.0/8"]}, get("/a"), True),
    ({"remote_addr": "10.0.0.1"}, get("/a", "X-Real-IP: 10.0.0.1"), True),
    ({"vars": [["arg_u", "==", "x"]]}, get("/a?u=x&u=y"), True),
    ({"vars": [["arg_u", "~=", "x"]]}, get("/a"), True),
    ({"vars": [["http_x_name", "~~", "^J"]]}, get("/a", "X-Name: Jack"), True),
    ({"vars": [["cookie_u", "in", ["x", "y"]]]}, get("/a", "Cookie: a=1; u=y"), True),
    ({"vars": [["remote_addr", "ipmatch", ["10.0.0.0/8"]]]}, get("/a"), False),
    ({"vars": [["request_method", "==", "GET"], ["uri", "~*", "^/A"]]}, get("/a"), True),
    (
        {"vars": [["post_arg_n", "==", "v"]]},
        get("/a", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 3") + b"n=v",
        True,
    ),
    ({"vars": [["post_arg_n", "==", "v"]]}, get("/a", "Content-Type: text/plain", "Content-Length: 3") + b"n=v", False),
    ({"filter_func": "function(vars) return vars.arg_a == 'x' end"}, get("/a?a=x"), True),
    ({"filter_func": "function(vars) return vars['arg_a'] ~= nil end"}, get("/a"), False),
    ({"status": 0}, get("/a"), False),
]


@pytest.mark.parametrize(("route", "request_", "matches"), MATCHING, ids=range(len(MATCHING)))
async def test_matching(tmp_path: Path, route: dict[str, Any], request_: bytes, matches: bool) -> None:
    """Paths are compared after they were decoded and merged; conditions see the variables of the request."""
    async with TestBed(tmp_path) as bed:
        bed.route(**{"uri": "/*", **route})
        response = await bed.send(request_)

    assert response.status == (200 if matches else 404)


async def test_a_filter_function_that_can_not_be_evaluated(tmp_path: Path) -> None:
    """Such a function protects its route, so the route answers 503, and the report says why."""
    async with TestBed(tmp_path) as bed:
        bed.route(filter_func="function(vars) return tonumber(vars.arg_a) > 1 end")
        response = await bed.send(get("/a?a=2"))

    assert (response.status, bed.upstream.seen) == (503, [])
    assert "filter_func is not supported by the development gateway" in str(bed.reports[0].error)


# Source: apisix/plugins/proxy-rewrite.lua.
REWRITES: list[tuple[dict[str, Any], str, str]] = [
    ({"uri": "/v/$arg_x/${arg_y}-$nope-$uri"}, "/a/b?x=1&y=2", "/v/1/2--/a/b?x=1&y=2"),
    ({"uri": "/n?fixed=1"}, "/a?x=1", "/n?fixed=1&x=1"),
    ({"uri": "/n$arg_x"}, "/a?x=%3F", "/n%253F?x=%3F"),
    ({"uri": "/a b"}, "/a", "/a%20b"),
    ({"regex_uri": ["^/old/(\\d+)/(.*)$", "/new/$2/${1}-$3"]}, "/old/12/abc?x=1", "/new/abc/12-?x=1"),
    ({"regex_uri": ["^/old/(.*)", "/new/$1"]}, "/zzz", "/zzz"),
    ({"regex_uri": ["^/a/(.*)", "/A/$1", "^/b/(.*)", "/B/$1"]}, "/b/1", "/B/1"),
    ({"regex_uri": ["^/a/(.*)", "/b?v=$1"]}, "/a/1?x=2", "/b?v=1&x=2"),
    ({"regex_uri": ["^/a/(.*)", "/b/$1"]}, "/a/%3Fx", "/b/%3Fx"),
    ({"regex_uri": ["^/(.*)", "/$$/$0"]}, "/x", "/$//x"),
    ({"use_real_request_uri_unsafe": True}, "/a%2Fb//c?x=1", "/a%2Fb//c?x=1"),
    ({"use_real_request_uri_unsafe": True, "uri": "/n?y=2"}, "/a?x=1", "/n?y=2&x=1"),
]


@pytest.mark.parametrize(("conf", "target", "sent"), REWRITES, ids=range(len(REWRITES)))
async def test_rewritten_paths(tmp_path: Path, conf: dict[str, Any], target: str, sent: str) -> None:
    """Variables and groups are replaced, the path is escaped, and the client's query is appended."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=rewrite(**conf))
        await bed.send(get(target))

    assert [seen["target"] for seen in bed.upstream.seen] == [sent]


HEADERS: list[tuple[dict[str, Any], list[list[str]]]] = [
    ({"set": {"X-Id": "id-$1"}}, [["X-A", "1"], ["X-Id", "id-12"]]),
    ({"set": {"X-Id": "${1}-$2-$remote_addr"}}, [["X-A", "1"], ["X-Id", "12--127.0.0.1"]]),
    ({"add": {"X-A": "2"}}, [["X-A", "1"], ["X-A", "2"]]),
    ({"add": {"X-N": ["2", "3"]}}, [["X-A", "1"], ["X-N", "2"], ["X-N", "3"]]),
    ({"set": {"X-A": ["2", "3"]}}, [["X-A", "2"], ["X-A", "3"]]),
    ({"remove": ["x-a"]}, []),
    ({"X-A": "", "X-N": "n"}, [["X-N", "n"]]),
    ({"set": {"X-A": "$nope"}}, []),
    ({"set": {"X-Q": "$arg_q"}}, [["X-A", "1"], ["X-Q", "a%0D%0Ab"]]),
]


@pytest.mark.parametrize(("headers", "sent"), HEADERS, ids=range(len(HEADERS)))
async def test_rewritten_headers(tmp_path: Path, headers: dict[str, Any], sent: list[list[str]]) -> None:
    """Values may contain variables and groups of `regex_uri`. They can't add a line."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=rewrite(regex_uri=["^/old/(.*)", "/new/$1"], headers=headers))
        await bed.send(get("/old/12?q=a%0D%0Ab", "X-A: 1"))

    own = {"host", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"}
    assert [[name, value] for name, value in bed.upstream.seen[0]["headers"] if name.lower() not in own] == sent


# Source: apisix/plugins/redirect.lua.
REDIRECTS: list[tuple[dict[str, Any], str, int, str]] = [
    ({"uri": "/new$uri", "ret_code": 301}, "/a?x=1", 301, "/new/a"),
    ({"uri": "/new?y=2", "append_query_string": True}, "/a?x=1", 302, "/new?y=2&x=1"),
    ({"uri": "/n$uri", "encode_uri": True}, "/a%20b", 302, "/n/a%20b"),
    ({"uri": "/n$arg_x"}, "/a?x=%0d%0aY:%20z", 302, "/n%0D%0AY: z"),
    ({"regex_uri": ["^/a/(.*)", "/b/$1"]}, "/a/1?x=1", 302, "/b/1"),
    ({"http_to_https": True}, "/a?x=1", 301, "https://gw.example.com:9443/a?x=1"),
]


@pytest.mark.parametrize(("conf", "target", "status", "location"), REDIRECTS, ids=range(len(REDIRECTS)))
async def test_redirects(tmp_path: Path, conf: dict[str, Any], target: str, status: int, location: str) -> None:
    """The redirect can contain variables of the request. The default port of TLS is 9443."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins={"redirect": conf})
        response = await bed.send(get(target))

    assert (response.status, response.values("location"), bed.upstream.seen) == (status, [location], [])


# Source: apisix/plugins/response-rewrite.lua.
RESPONSES: list[tuple[dict[str, Any], int, bytes, list[str]]] = [
    ({"status_code": 201, "body": "new"}, 201, b"new", []),
    ({"body": "aGk=", "body_base64": True}, 200, b"hi", []),
    ({"body": "x", "vars": [["status", "==", 500]]}, 200, b"upstream says hello", []),
    ({"body": "x", "vars": [["status", "==", 200]]}, 200, b"x", []),
    ({"headers": {"set": {"X-S": "$status-$request_method"}}}, 200, b"upstream says hello", ["200-GET"]),
    ({"headers": {"add": ["X-S: 1", "X-S: 2"]}}, 200, b"upstream says hello", ["1", "2"]),
]


@pytest.mark.parametrize(("conf", "status", "body", "headers"), RESPONSES, ids=range(len(RESPONSES)))
async def test_rewritten_responses(tmp_path: Path, conf: dict[str, Any], status: int, body: bytes, headers: list[str]) -> None:
    """The status of the response is a variable. A new body removes the headers that described the old one."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins={"response-rewrite": conf})
        response = await bed.send(get("/a", "X-Up: up_h=ETag:%20x"))

    assert (response.status, response.body, response.values("x-s")) == (status, body, headers)
    assert response.values("etag") == ([] if body != b"upstream says hello" else ["x"])


async def test_headers_that_are_not_trusted(tmp_path: Path) -> None:
    """Forwarded and X-Forwarded-* of a client do not reach the upstream; X-Forwarded-For is extended. Source: ngx_tpl.lua of 3.18."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        await bed.send(get("/a", "Forwarded: for=1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-For: 9.9.9.9"))

    sent = {name.lower(): value for name, value in bed.upstream.seen[0]["headers"]}
    assert ("forwarded" in sent, sent["x-forwarded-host"], sent["x-forwarded-for"]) == (False, "gw.example.com", "9.9.9.9, 127.0.0.1")


# Source: apisix/plugins/key-auth.lua and basic-auth.lua.
AUTHENTICATION: list[tuple[dict[str, Any], str, list[str], int, str]] = [
    ({"key-auth": {}}, "/a?apikey=k1&x=1", [], 200, "/a?apikey=k1&x=1"),
    ({"key-auth": {"hide_credentials": True}}, "/a?apikey=k1&x=1", [], 200, "/a?x=1"),
    ({"key-auth": {"query": "token"}}, "/a?token=k1", [], 200, "/a?token=k1"),
    ({"key-auth": {}}, "/a?apikey=k1&apikey=k1", [], 401, ""),
    ({"key-auth": {}}, "/a?apikey=k1", ["apikey: wrong"], 401, ""),
    ({"key-auth": {}}, "/a", ["apikey: $secret://vault/1/k"], 401, ""),
    ({"key-auth": {"anonymous_consumer": "guest"}}, "/a", ["apikey: wrong"], 200, "/a"),
    ({"key-auth": {"anonymous_consumer": "nobody"}}, "/a", [], 401, ""),
    ({"basic-auth": {}}, "/a", ["Authorization: basic dTpw"], 200, "/a"),
    ({"basic-auth": {}}, "/a", ["Authorization: Basic dTp3cm9uZw=="], 401, ""),
    ({"basic-auth": {}}, "/a", ["Authorization: Bearer dTpw"], 401, ""),
    ({"basic-auth": {}}, "/a", ["Authorization: Basic !!"], 401, ""),
]


@pytest.mark.parametrize(("plugins", "target", "headers", "status", "sent"), AUTHENTICATION, ids=range(len(AUTHENTICATION)))
async def test_authentication(tmp_path: Path, plugins: dict[str, Any], target: str, headers: list[str], status: int, sent: str) -> None:
    """A consumer is found by key or password; a reference to a secret is not a key."""
    async with TestBed(tmp_path) as bed:
        bed.store.put("consumers", "jack", {"username": "jack", "plugins": {"key-auth": {"key": "k1"}}})
        bed.store.put("consumers", "jill", {"username": "jill", "plugins": {"basic-auth": {"username": "u", "password": "p"}}})
        bed.store.put("consumers", "joe", {"username": "joe", "plugins": {"key-auth": {"key": "$secret://vault/1/k"}}})
        bed.store.put("consumers", "guest", {"username": "guest"})
        bed.route(plugins=plugins)
        response = await bed.send(get(target, *headers))

    assert (response.status, "".join(seen["target"] for seen in bed.upstream.seen)) == (status, sent)


async def test_plugins_of_service_route_and_consumer(tmp_path: Path) -> None:
    """A plugin of the route takes precedence over that of its service, and one of the consumer over both. Source: apisix/plugin.lua."""

    def stops(status: int) -> dict[str, Any]:
        return scripted({"stop": {"status": status}}, "ext-plugin-post-req")

    async with TestBed(tmp_path) as bed:
        bed.store.put("services", "s", {"plugins": {"key-auth": {}, **stops(410)}})
        bed.store.put("consumers", "jack", {"username": "jack", "plugins": {"key-auth": {"key": "k1"}, **stops(412)}})
        bed.store.put("consumers", "jill", {"username": "jill", "plugins": {"key-auth": {"key": "k2"}}})
        bed.route(id="1", uri="/1", service_id="s")
        bed.route(id="2", uri="/2", service_id="s", plugins=stops(411))
        statuses = [(await bed.send(get(target, f"apikey: {key}"))).status for target, key in (("/1", "k2"), ("/2", "k2"), ("/2", "k1"))]

    assert statuses == [410, 411, 412]
    assert [view["key"].rpartition("#")[0] for view in bed.runner.seen if "key" in view] == [
        "route&service&consumer#1&s&jill#ext-plugin-post-req",
        "route&service&consumer#2&s&jill#ext-plugin-post-req",
        "route&service&consumer#2&s&jack#ext-plugin-post-req",
    ]


async def test_http_1_0_is_not_chunked(tmp_path: Path) -> None:
    """A client of HTTP/1.0 gets a body of unknown length until the connection closes."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        response = await bed.send(b"GET /a HTTP/1.0\r\nX-Up: chunked=1\r\n\r\n")

    assert (response.values("transfer-encoding"), response.body) == ([], b"upstream says hello")


# Source: nginx, proxy_next_upstream `error timeout`, without `non_idempotent`.
RETRIES: list[tuple[str, dict[str, Any], str, int, int]] = [
    ("GET", {}, "up_close=1", 502, 2),
    ("PUT", {}, "up_close=1", 502, 2),
    ("POST", {}, "up_close=1", 502, 1),
    ("GET", {"retries": 0}, "up_close=1", 502, 1),
    ("GET", {"timeout": {"connect": 5, "send": 5, "read": 0.05}}, "up_delay=5", 504, 2),
    ("GET", {}, "up_status=503", 503, 1),
]


@pytest.mark.parametrize(("method", "more", "does", "status", "tries"), RETRIES, ids=range(len(RETRIES)))
async def test_retries(tmp_path: Path, method: str, more: dict[str, Any], does: str, status: int, tries: int) -> None:
    """A node that sends no response is replaced by the next one, unless that could run a request twice. A response is final."""
    async with TestBed(tmp_path) as bed:
        nodes = {f"127.0.0.1:{port}": 1 for port in list(bed.upstream.ports.values())[:2]}
        bed.route(upstream={"nodes": nodes, **more})
        response = await bed.send(get("/a", f"X-Up: {does}", method=method))

    assert (response.status, len(bed.upstream.seen)) == (status, tries)


async def test_the_host_of_the_next_node(tmp_path: Path) -> None:
    """With `pass_host: node` each node gets its own name. Source: apisix/balancer.lua."""
    async with TestBed(tmp_path) as bed:
        nodes = [f"127.0.0.1:{port}" for port in list(bed.upstream.ports.values())[:2]]
        bed.route(upstream={"nodes": dict.fromkeys(nodes, 1), "pass_host": "node"})
        await bed.send(get("/a", "X-Up: up_close=1"))

    assert sorted(seen["headers"][0][1] for seen in bed.upstream.seen) == sorted(nodes)


HASHES: list[dict[str, Any]] = [
    {"hash_on": "header", "key": "x-user"},
    {"hash_on": "cookie", "key": "u"},
    {"hash_on": "vars", "key": "arg_u"},
    {"hash_on": "vars_combinations", "key": "$request_method-$arg_u"},
    {"hash_on": "consumer"},
]


MISSING: list[dict[str, Any]] = [
    {"hash_on": "header", "key": "X-Missing"},
    {"hash_on": "cookie", "key": "missing"},
    {"hash_on": "vars", "key": "arg_missing"},
    {"hash_on": "vars_combinations", "key": "$arg_missing-$http_missing"},
    {"hash_on": "consumer"},
]


@pytest.mark.parametrize("conf", MISSING, ids=[conf["hash_on"] for conf in MISSING])
async def test_hash_of_a_value_that_is_missing(tmp_path: Path, conf: dict[str, Any]) -> None:
    """The address of the client is used. With these nodes, that is another one than for an empty text."""
    nodes = [{"host": "127.0.0.1", "port": port, "weight": 1} for port in (1980, 1981)]
    async with TestBed(tmp_path) as bed:
        bed.route(upstream={"type": "chash", "nodes": nodes, "retries": 0, **conf})
        match = bed.store.router.match("GET", "a", "/a", "127.0.0.1")
        assert match is not None
        assert match.route.upstream is not None
        balancer = match.route.upstream.balancer
        expected, of_nothing = balancer.pick(hashed="127.0.0.1"), balancer.pick(hashed="-")
        await bed.request("GET", "/a")

    assert (bed.reports[0].upstream, str(of_nothing)) == (str(expected), "127.0.0.1:1981")


@pytest.mark.parametrize("conf", HASHES, ids=[conf["hash_on"] for conf in HASHES])
async def test_hashes(tmp_path: Path, conf: dict[str, Any]) -> None:
    """Requests with the same key go to one node; requests with many keys go to both. Source: apisix/balancer/chash.lua."""
    async with TestBed(tmp_path) as bed:
        for number in range(KEYS):
            bed.store.put("consumers", f"c{number}", {"username": f"c{number}", "plugins": {"key-auth": {"key": f"k{number}"}}})
        nodes = {f"127.0.0.1:{port}": 1 for port in list(bed.upstream.ports.values())[:2]}
        plugins: dict[str, Any] = {"key-auth": {}} if conf["hash_on"] == "consumer" else {}
        bed.route(plugins=plugins, upstream={"type": "chash", "nodes": nodes, **conf})
        for number in [*range(KEYS), 0, 0, 0]:
            await bed.send(get(f"/a?u={number}", f"x-user: {number}", f"Cookie: u={number}", f"apikey: k{number}"))

    ports = [seen["port"] for seen in bed.upstream.seen]
    assert (set(ports[KEYS:]), len(set(ports[:KEYS]))) == ({ports[0]}, 2)


@pytest.mark.parametrize(
    ("kind", "weights", "expected"),
    [("least_conn", (1, 1), [0, 1, 1, 1, 1, 0]), ("least_conn", (5, 1), [0, 0, 0, 0, 0, 0]), ("roundrobin", (1, 1), [0, 1, 0, 1, 0, 1])],
)
@pytest.mark.parametrize("head_first", [False, True])
async def test_least_connections(tmp_path: Path, kind: str, weights: tuple[int, int], expected: list[int], head_first: bool) -> None:
    """While a node is busy with a request, the others get the next ones. Source: apisix/balancer/least_conn.lua."""
    actual: list[int] = []
    started, released = asyncio.Event(), asyncio.Event()

    async def answer(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_first = not actual
        actual.append(number)
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        if head_first:
            writer.write(head)
        if is_first:
            started.set()
            await released.wait()
        writer.write(b"ok" if head_first else head + b"ok")
        writer.close()

    async with AsyncExitStack() as stack:
        nodes = []
        for number, weight in enumerate(weights):
            server = await stack.enter_async_context(await asyncio.start_server(partial(answer, number), "127.0.0.1", 0))
            nodes.append({"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "weight": weight})
        bed = await stack.enter_async_context(TestBed(tmp_path))
        bed.route(upstream={"type": kind, "nodes": nodes})
        async with asyncio.timeout(20):
            busy = asyncio.create_task(bed.send(get("/a")))
            await started.wait()
            for _ in range(3):
                await bed.send(get("/a"))
            released.set()
            await busy
            await bed.send(get("/a"))
            await bed.send(get("/a"))

    assert actual == expected
