# SPDX-License-Identifier: Apache-2.0
"""HTTP towards the client, as nginx speaks it."""

import asyncio
from pathlib import Path

from tests.gateway.house import House, read_response
from tests.gateway.test_phases import scripted


async def test_keeps_alive(tmp_path: Path) -> None:
    """Two requests go over one connection, answers with and without a length."""
    async with House(tmp_path) as house:
        house.route("1", "/plain")
        house.route("2", "/stop", scripted({"stop": {"body": "stopped"}}))
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        async with asyncio.timeout(5):
            for path, end in (
                ("/plain", b"upstream says hello"),
                ("/stop", b"7\r\nstopped\r\n0\r\n\r\n"),
                ("/plain", b"upstream says hello"),
            ):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                response = read_response(await reader.readuntil(end))
                assert (200, ["keep-alive"]) == (response.status, response.values("connection"))
        writer.close()


async def test_http_1_0(tmp_path: Path) -> None:
    """A client of HTTP/1.0 gets no chunks; the end of the connection is the end of the body."""
    async with House(tmp_path) as house:
        house.route(plugins=scripted({"stop": {"body": "stopped"}}))
        response = await house.send(b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n")

    assert (b"stopped", [], ["close"]) == (response.body, response.values("transfer-encoding"), response.values("connection"))


async def test_expect_continue(tmp_path: Path) -> None:
    """A client that waits for leave to send its body gets it."""
    async with House(tmp_path) as house:
        house.route()
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        async with asyncio.timeout(5):
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
            writer.write(b"body")
            assert 200 == read_response(await reader.read()).status
        writer.close()

    assert "body" == house.upstream.seen[0]["body"]


async def test_chunked_request(tmp_path: Path) -> None:
    """A chunked body reaches the upstream with its length."""
    async with House(tmp_path) as house:
        house.route()
        await house.send(
            b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        )

    (seen,) = house.upstream.seen
    assert ("abc", "3") == (seen["body"], dict(seen["headers"])["Content-Length"])


async def test_compressed_request_stays_compressed(tmp_path: Path) -> None:
    """A body with a Content-Encoding is passed on as it came."""
    async with House(tmp_path) as house:
        house.route()
        await house.request("POST", "/a", ["Content-Encoding: gzip"], b"\x1f\x8bnot really")

    assert "\x1f\x8bnot really" == house.upstream.seen[0]["body"]


async def test_bad_target(tmp_path: Path) -> None:
    """A path that climbs above the root gets nginx's 400."""
    async with House(tmp_path) as house:
        response = await house.request("GET", "/../x")

    assert 400 == response.status
    assert b"<h1>400 Bad Request</h1>" in response.body


async def test_headers_can_not_be_split(tmp_path: Path) -> None:
    """A line end in a header's value is escaped, as ngx.header does."""
    async with House(tmp_path) as house:
        house.route(plugins=scripted({"stop": {"headers": [["X-A", "1\r\nX-B: 2"]], "body": "b"}}))
        response = await house.request("GET", "/a")

    assert (["1%0D%0AX-B: 2"], []) == (response.values("x-a"), response.values("x-b"))


async def test_client_that_leaves_is_reported(tmp_path: Path) -> None:
    """A request whose client has gone is reported all the same, and nothing is left behind."""
    async with House(tmp_path) as house:
        house.route()
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nX-Up: up_times=100000\r\n\r\n")
        await writer.drain()
        async with asyncio.timeout(5):
            while not house.upstream.seen:  # noqa: ASYNC110  # until the upstream has it; the recording sets no event
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    assert ["/a"] == [report.target for report in house.reports]
