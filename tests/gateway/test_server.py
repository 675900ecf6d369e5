# SPDX-License-Identifier: Apache-2.0
"""How a request passes through the gateway, except what the recordings cover."""

import asyncio
import json
import shutil
import ssl
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apisix.gateway.phases.phases import ExtPlugins
from apisix.gateway.report import PhaseReport, RequestReport
from apisix.gateway.resources.admin import DEFAULT_KEY
from apisix.gateway.resources.definitions import build_upstream
from apisix.gateway.resources.store import Store
from apisix.gateway.runner.connection_pool import RunnerPool
from apisix.gateway.server import Gateway, set_upstream_host
from tests.gateway.bed import TestBed
from tests.ports import reserved_port


async def test_no_route(tmp_path: Path) -> None:
    """If no route matches, the client gets APISIX's 404."""
    async with TestBed(tmp_path) as bed:
        response = await bed.request("GET", "/nope")

    assert (response.status, response.body) == (404, b'{"error_msg":"404 Route Not Found"}\n')
    assert response.values("content-type") == ["text/plain; charset=utf-8"]


async def test_admin_api_over_http(tmp_path: Path) -> None:
    """The admin API is served on the gateway's port, and definitions take effect at once."""
    async with TestBed(tmp_path) as bed:
        route = {"uri": "/get", "upstream": {"nodes": {f"127.0.0.1:{bed.upstream.port}": 1}}}
        created = await bed.request("PUT", "/apisix/admin/routes/1", [f"X-API-KEY: {DEFAULT_KEY}"], json.dumps(route).encode())
        response = await bed.request("GET", "/get")

    assert (created.status, response.status) == (201, 200)


async def test_bytes_pass(tmp_path: Path) -> None:
    """Header values, paths and bodies that are not UTF-8 pass unchanged, in both directions."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        response = await bed.request("POST", "/%ff/a%2Fb//c?x=%fe", ["X-Raw: a\udcffb"], b"\x00\xff")

    (seen,) = bed.upstream.seen
    assert (seen["target"], seen["headers"][-1], seen["body"]) == ("/%ff/a%2Fb//c?x=%fe", ["X-Raw", "a\xffb"], "\x00\xff")
    assert response.status == 200


async def test_changed_args_normalise_the_path(tmp_path: Path) -> None:
    """As soon as an argument changes, nginx encodes the path again."""
    does = {"rewrite": {"args": [["x", "1"]]}}
    async with TestBed(tmp_path) as bed:
        bed.route(plugins={"ext-plugin-pre-req": {"conf": [{"name": "scripted", "value": json.dumps(does)}]}})
        await bed.request("GET", "/a%2Fb//c%20d")

    assert bed.upstream.seen[0]["target"] == "/a/b/c%20d?x=1"


async def test_upstream_down(tmp_path: Path) -> None:
    """If an upstream refuses the connection, the client gets nginx's 502 page."""
    async with TestBed(tmp_path) as bed:
        with reserved_port() as port:
            bed.route(upstream={"nodes": {f"127.0.0.1:{port}": 1}})
            response = await bed.request("GET", "/a")

    assert response.status == 502
    assert b"<h1>502 Bad Gateway</h1>" in response.body
    assert "Connect call failed" in str(bed.reports[0].error)


@pytest.mark.parametrize("plugins", [{"jwt-auth": {}}, {"ext-plugin-pre-req": {"_meta": {"pre_function": "return nil"}}}])
async def test_guard_that_is_not_emulated(tmp_path: Path, plugins: dict[str, Any]) -> None:
    """A route whose protecting plugin is missing is not served, and the report says why."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=plugins)
        response = await bed.request("GET", "/a")

    assert (response.status, bed.upstream.seen) == (503, [])
    assert "requests must not pass without it" in str(bed.reports[0].error)


async def test_guards_of_services_and_global_rules(tmp_path: Path) -> None:
    """This also applies to such plugins of a service and of a global rule."""
    async with TestBed(tmp_path) as bed:
        bed.store.put("services", "s", {"plugins": {"openid-connect": {}}})
        bed.route(service_id="s")
        of_service = await bed.request("GET", "/a")
        bed.route()
        bed.store.put("global_rules", "g", {"plugins": {"uri-blocker": {}}})
        of_rule = await bed.request("GET", "/a")

    assert (of_service.status, of_rule.status, bed.upstream.seen) == (503, 503, [])


async def test_next_node(tmp_path: Path) -> None:
    """A node that can't be reached is replaced by the next."""
    async with TestBed(tmp_path) as bed:
        with reserved_port() as port:
            bed.route(upstream={"nodes": {f"127.0.0.1:{port}": 9, f"127.0.0.1:{bed.upstream.port}": 1}})
            responses = [await bed.request("GET", "/a") for _ in range(4)]

    assert [response.status for response in responses] == [200] * 4


async def test_no_node(tmp_path: Path) -> None:
    """If an upstream has no nodes, the status is 503."""
    async with TestBed(tmp_path) as bed:
        bed.route(upstream={"nodes": {}})
        assert (await bed.request("GET", "/a")).status == 503


@pytest.mark.parametrize(
    ("pass_host", "host"),
    [({}, "gw.example.com"), ({"pass_host": "rewrite", "upstream_host": "other.org"}, "other.org"), ({"pass_host": "node"}, None)],
)
async def test_pass_host(tmp_path: Path, pass_host: dict[str, str], host: str | None) -> None:
    """The Host that the upstream gets is the client's, a fixed one, or that of the node."""
    async with TestBed(tmp_path) as bed:
        node = f"127.0.0.1:{bed.upstream.port}"
        bed.route(upstream={"nodes": {node: 1}, **pass_host})
        await bed.request("GET", "/a")

    assert bed.upstream.seen[0]["headers"][0] == ["Host", host or node]


@pytest.mark.parametrize(
    ("scheme", "address", "host"),
    [
        ("http", "127.0.0.9", "127.0.0.9"),
        ("http", "127.0.0.9:443", "127.0.0.9:443"),
        ("https", "127.0.0.9", "127.0.0.9"),
        ("https", "127.0.0.9:443", "127.0.0.9"),
        ("https", "127.0.0.9:80", "127.0.0.9:80"),
    ],
)
def test_standard_ports(scheme: str, address: str, host: str) -> None:
    """A node without a port has that of the scheme, which is left out of Host. Source: apisix/upstream.lua and apisix/balancer.lua."""
    forms: list[Any] = [{address: 1}, [{"host": address.partition(":")[0], "weight": 1}]]
    for nodes in forms[: 1 if ":" in address else 2]:
        upstream = build_upstream({"nodes": nodes, "scheme": scheme, "pass_host": "node"}, "route 1", [])
        context = SimpleNamespace(upstream_host="")
        set_upstream_host(context, upstream, upstream.nodes[0])  # type: ignore[arg-type]  # it uses only this attribute
        port = int(address.partition(":")[2] or {"http": 80, "https": 443}[scheme])
        assert (context.upstream_host, upstream.nodes[0].port) == (host, port)


def with_certificate(directory: Path) -> ssl.SSLContext:
    """Return the context of a server with a certificate that it has signed itself."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a.example"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate")
async def test_https_to_the_upstream(tmp_path: Path) -> None:
    """An upstream with `scheme: https` gets the request over TLS. Its certificate is not verified, as in APISIX by default."""
    context = with_certificate(tmp_path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server, TestBed(tmp_path) as bed:
        port = server.sockets[0].getsockname()[1]
        bed.route(upstream={"scheme": "https", "pass_host": "node", "nodes": {f"127.0.0.1:{port}": 1}})
        response = await bed.request("GET", "/a?b=1")

    assert (response.status, response.body.split(b"\r\n")[:2]) == (200, [b"GET /a?b=1 HTTP/1.1", f"Host: 127.0.0.1:{port}".encode()])


async def test_forwarded_headers(tmp_path: Path) -> None:
    """The upstream gets the address, host and scheme of the client's request. Headers of the client with host and scheme are ignored."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        await bed.request("GET", "/a", ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"])

    headers = dict(bed.upstream.seen[0]["headers"])
    assert (headers["X-Forwarded-For"], headers["X-Forwarded-Proto"], headers["X-Real-IP"]) == ("1.2.3.4, 127.0.0.1", "http", "127.0.0.1")


async def test_proxy_rewrite(tmp_path: Path) -> None:
    """proxy-rewrite sets path, host and headers, with variables."""
    conf = {
        "uri": "/p/$arg_x",
        "host": "h.org",
        "headers": {"set": {"X-Set": "${remote_addr}"}, "add": {"X-A": "2"}, "remove": ["X-Gone"]},
    }
    async with TestBed(tmp_path) as bed:
        bed.route(uri="/u/*", plugins={"proxy-rewrite": conf})
        await bed.request("GET", "/u/7?x=1", ["X-A: 1", "X-Gone: 1"])

    (seen,) = bed.upstream.seen
    assert seen["target"] == "/p/1?x=1"
    assert [header for header in seen["headers"] if header[0] in ("Host", "X-A", "X-Set", "X-Gone")] == [
        ["Host", "h.org"],
        ["X-A", "1"],
        ["X-A", "2"],
        ["X-Set", "127.0.0.1"],
    ]


async def test_response_streams(tmp_path: Path) -> None:
    """A response is passed on while it is received."""
    gate = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await gate.wait()
        writer.write(b"b")
        writer.close()

    async with TestBed(tmp_path) as bed, await asyncio.start_server(slow, "127.0.0.1", 0) as server:
        bed.route(upstream={"nodes": {f"127.0.0.1:{server.sockets[0].getsockname()[1]}": 1}})
        reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            await reader.readuntil(b"\r\n\r\na")
            gate.set()
            assert await reader.read() == b"b"
        writer.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"],
    ids=["nothing", "garbage", "no status"],
)
async def test_upstream_garbage(tmp_path: Path, answer: bytes) -> None:
    """If an upstream does not send HTTP, the status is 502."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with TestBed(tmp_path) as bed, await asyncio.start_server(garbage, "127.0.0.1", 0) as server:
        bed.route(upstream={"nodes": {f"127.0.0.1:{server.sockets[0].getsockname()[1]}": 1}})
        assert (await bed.request("GET", "/a")).status == 502


async def test_upstream_silent(tmp_path: Path) -> None:
    """If an upstream does not answer in time, the status is 504."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with TestBed(tmp_path) as bed, await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        upstream = {"nodes": {f"127.0.0.1:{server.sockets[0].getsockname()[1]}": 1}, "timeout": {"read": 0.05}}
        bed.route(upstream=upstream)
        assert (await bed.request("GET", "/a")).status == 504


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde and more",
        b"HTTP/1.0 200 OK\r\n\r\nabcde",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
    ],
    ids=["chunked", "length", "until the end", "after a provisional one"],
)
async def test_upstream_framing(tmp_path: Path, response: bytes) -> None:
    """The client gets the whole body, whichever way the upstream uses to mark its end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        writer.close()

    async with TestBed(tmp_path) as bed, await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        bed.route(upstream={"nodes": {f"127.0.0.1:{server.sockets[0].getsockname()[1]}": 1}})
        assert (await bed.request("GET", "/a")).body == b"abcde"


async def test_upstream_breaks_off(tmp_path: Path) -> None:
    """If the upstream closes the connection in the middle of its body, the client's connection is closed too."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        writer.close()

    async with TestBed(tmp_path) as bed, await asyncio.start_server(half, "127.0.0.1", 0) as server:
        bed.route(upstream={"nodes": {f"127.0.0.1:{server.sockets[0].getsockname()[1]}": 1}})
        response = await bed.request("GET", "/a")

    assert (response.status, response.body) == (200, b"half")


async def test_reports_keep_their_order() -> None:
    """A request whose report waits for a record is shown before those that were answered after it"""
    told: list[str] = []
    records = _LateRecords()
    store = Store(lambda _: None)
    gateway = Gateway(store, ExtPlugins(RunnerPool("nowhere")), None, lambda report: told.append(report.target), records)
    waiting = RequestReport("GET", "/first", phases=[PhaseReport("ext-plugin-pre-req", (), 1, key="key")])
    first = asyncio.create_task(gateway.finish(waiting))
    second = asyncio.create_task(gateway.finish(RequestReport("GET", "/second")))
    await asyncio.sleep(0.01)
    assert told == []

    records.come.set()
    await asyncio.gather(first, second)

    assert (told, waiting.phases[0].refusal) == (["/first", "/second"], "refused: key")


class _LateRecords:
    """Requests for records that do not arrive."""

    def __init__(self) -> None:
        self.come = asyncio.Event()

    async def take(self, call_id: int) -> None:
        await self.come.wait()

    def refusal(self, key: str) -> str:
        return f"refused: {key}"


@pytest.mark.parametrize(("status", "twice"), [(204, True), (200, False)])
async def test_second_request_is_reported(tmp_path: Path, status: int, twice: bool) -> None:
    """The report shows that the request was sent to the upstream again after ext-plugin-post-resp."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins={"ext-plugin-post-resp": {}})
        await bed.request("GET", "/a", [f"X-Up: up_status={status}"])

    assert (bed.reports[0].asked_twice, len(bed.upstream.seen)) == (twice, 1 + twice)
