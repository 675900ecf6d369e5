# SPDX-License-Identifier: Apache-2.0
"""HTTP with the client, as nginx uses it."""

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from apisix.gateway.routing.balancing import Node
from tests.gateway.bed import TestBed, read_response
from tests.gateway.phases.test_phases import scripted


async def test_keeps_alive(tmp_path: Path) -> None:
    """Two requests are sent over one connection. One answer has a length, the other has none."""
    async with TestBed(tmp_path) as bed:
        bed.route("1", "/plain")
        bed.route("2", "/stop", scripted({"stop": {"body": "stopped"}}))
        reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        async with asyncio.timeout(5):
            for path, end in (
                ("/plain", b"upstream says hello"),
                ("/stop", b"7\r\nstopped\r\n0\r\n\r\n"),
                ("/plain", b"upstream says hello"),
            ):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                response = read_response(await reader.readuntil(end))
                assert (response.status, response.values("connection")) == (200, ["keep-alive"])
        writer.close()


async def test_http_1_0(tmp_path: Path) -> None:
    """A client of HTTP/1.0 gets no chunks. The end of the connection is the end of the body."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"stop": {"body": "stopped"}}))
        response = await bed.send(b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n")

    assert (response.body, response.values("transfer-encoding"), response.values("connection")) == (b"stopped", [], ["close"])


async def test_expect_continue(tmp_path: Path) -> None:
    """A client that waits for permission to send its body (`Expect: 100-continue`) gets it."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        writer.write(b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            assert read_response(await reader.read()).status == 200
        writer.close()

    assert bed.upstream.seen[0]["body"] == "body"


async def test_chunked_request(tmp_path: Path) -> None:
    """A chunked body reaches the upstream with its length."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        await bed.send(
            b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        )

    (seen,) = bed.upstream.seen
    assert (seen["body"], dict(seen["headers"])["Content-Length"]) == ("abc", "3")


async def test_compressed_request_stays_compressed(tmp_path: Path) -> None:
    """A body with a Content-Encoding is passed on unchanged."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        await bed.request("POST", "/a", ["Content-Encoding: gzip"], b"\x1f\x8bnot really")

    assert bed.upstream.seen[0]["body"] == "\x1f\x8bnot really"


async def test_bad_target(tmp_path: Path) -> None:
    """A path that leads above the root gets nginx's 400."""
    async with TestBed(tmp_path) as bed:
        response = await bed.request("GET", "/../x")

    assert response.status == 400
    assert b"<h1>400 Bad Request</h1>" in response.body


async def test_headers_can_not_be_split(tmp_path: Path) -> None:
    """A line end in a header's value is escaped, as ngx.header does."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"stop": {"headers": [["X-A", "1\r\nX-B: 2"]], "body": "b"}}))
        response = await bed.request("GET", "/a")

    assert (response.values("x-a"), response.values("x-b")) == (["1%0D%0AX-B: 2"], [])


async def test_client_that_leaves_is_reported(tmp_path: Path) -> None:
    """A request is reported even if its client has closed the connection, and nothing is left behind."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        _, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nX-Up: up_times=100000\r\n\r\n")
        await writer.drain()
        async with asyncio.timeout(5):
            while not bed.upstream.seen:  # noqa: ASYNC110  # until the upstream has it; the recording sets no event
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    assert [report.target for report in bed.reports] == ["/a"]


async def answered_late(bed: TestBed, *, half_closed: bool) -> bytes:
    """Send a request, close the connection or the client's side of it, let the upstream answer, and return what the client gets."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await may_answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        writer.close()

    async with asyncio.timeout(5), await asyncio.start_server(answer, "127.0.0.1", 0) as upstream:
        port = upstream.sockets[0].getsockname()[1]
        bed.store.put("routes", "1", {"uri": "/*", "upstream": {"type": "roundrobin", "nodes": {f"127.0.0.1:{port}": 1}}})
        reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        await asked.wait()
        if half_closed:
            writer.write_eof()
        else:
            writer.close()
            await writer.wait_closed()
        may_answer.set()
        while not bed.reports:  # noqa: ASYNC110  # the gateway sets no event
            await asyncio.sleep(0)
        received = b"" if half_closed is False else await reader.readuntil(b"late")
        writer.close()
    return received


async def test_client_that_gives_up_waiting(tmp_path: Path) -> None:
    """The request is completed, as with APISIX, and its line says that the client did not get the answer."""
    async with TestBed(tmp_path) as bed:
        await answered_late(bed, half_closed=False)

    (report,) = bed.reports
    assert (report.status, report.error) == (499, "the client closed the connection before it received the response, which had status 200")
    assert report.upstream is not None


async def test_client_that_closes_its_side_only(tmp_path: Path) -> None:
    """A client that only closes its side of the connection, as `nc -N` does, gets its answer."""
    async with TestBed(tmp_path) as bed:
        received = await answered_late(bed, half_closed=True)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [(report.status, report.error) for report in bed.reports] == [(200, None)]


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize(
    ("sent", "request_line"),
    [
        (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", ("POST", "/a")),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nha", ("POST", "/a")),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9", ("POST", "/a")),
        (b"GET /b HTTP/1.1\r\nHo", ("GET", "/b")),
    ],
)
async def test_client_that_leaves_while_it_sends(tmp_path: Path, sent: bytes, request_line: tuple[str, str], resets: bool) -> None:
    """A request that was not received completely is also shown in a line, however the connection ended."""
    async with TestBed(tmp_path) as bed, asyncio.timeout(5):
        bed.route()
        _, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        writer.write(sent)
        for _ in range(10):  # until the gateway has read that and waits for more
            await asyncio.sleep(0)
        if resets:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        while not bed.reports:  # noqa: ASYNC110  # the gateway sets no event
            await asyncio.sleep(0)

    (report,) = bed.reports
    assert (report.method, report.target, report.status) == (*request_line, 499)
    assert report.error == "the client closed the connection while it was sending the request"
    assert bed.upstream.seen == []


async def test_client_that_has_no_further_request(tmp_path: Path) -> None:
    """A client that closes or resets the connection between requests has not aborted a request."""
    async with TestBed(tmp_path) as bed, asyncio.timeout(5):
        bed.route()
        for linger in (0, 1):
            reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
            writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"upstream says hello")
            if linger:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
            writer.close()
            await writer.wait_closed()

    assert [(report.target, report.status) for report in bed.reports] == [("/a", 200)] * 2


@pytest.mark.parametrize("status", [444, 499])
async def test_the_upstream_sends_a_status_that_closes_the_connection(tmp_path: Path, status: int) -> None:
    """nginx closes the connection for these statuses only if a plugin ends the request with them. An upstream's response is passed on."""
    async with TestBed(tmp_path) as bed:
        bed.route("1", "/plain")
        bed.route("2", "/kept", scripted({}, "ext-plugin-post-resp"))
        bed.route("3", "/replaced", scripted({"resp": {"body": "new"}}, "ext-plugin-post-resp"))
        bed.route("4", "/stop", scripted({"stop": {"status": status, "body": "new"}}))
        answers = [await bed.request("GET", path, [f"X-Up: up_status={status}"]) for path in ("/plain", "/kept")]
        for path in ("/replaced", "/stop"):
            reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Up: up_status={status}\r\n\r\n".encode())
            assert (path, await asyncio.wait_for(reader.read(), 5)) == (path, b"")
            writer.close()

    assert [(answer.status, answer.body) for answer in answers] == [(status, b"upstream says hello")] * 2
    assert [report.status for report in bed.reports] == [status] * 4


async def test_no_answer_leaves_a_connection_to_the_upstream_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the status of an answer is, the connection to the upstream is closed with it."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        upstream = bed.store.router.match("GET", "a", "/a", "127.0.0.1")
        assert upstream is not None
        assert upstream.route.upstream is not None
        opened: list[asyncio.StreamWriter] = []

        def receiving(node: Node, connection: asyncio.StreamWriter) -> None:
            opened.append(connection)

        monkeypatch.setattr(upstream.route.upstream.balancer, "receiving", receiving)
        for status in (200, 204, 304, 404, 444, 499, 503):
            await bed.request("GET", "/a", [f"X-Up: up_status={status}"])
            await bed.request("HEAD", "/a", [f"X-Up: up_status={status}"])

    assert [connection.is_closing() for connection in opened] == [True] * 14
