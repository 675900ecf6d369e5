# SPDX-License-Identifier: Apache-2.0
"""The gateway accepts and refuses the same requests as nginx."""

import asyncio
from pathlib import Path

import pytest

from apisix.gateway.http.http1 import MAX_LINE, BadRequest, ClientGone, Request, read_body, read_head
from tests.gateway.bed import TestBed

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\n"


async def read(data: bytes, *, ends: bool = True) -> Request | None:
    """Read one request and its body from bytes."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    if ends:
        reader.feed_eof()
    request = await read_head(reader)
    if request is not None:
        request.body = await read_body(reader, request)
    return request


@pytest.mark.parametrize(
    ("data", "field", "expected"),
    [
        pytest.param(b"GET /a?b=\xff HTTP/1.1\r\nHost: h\r\n\r\n", "target", "/a?b=\udcff", id="bytes-in-the-target"),
        pytest.param("GET /é HTTP/1.1\r\nHost: h\r\n\r\n".encode(), "target", "/é", id="utf-8-in-the-target"),
        pytest.param(b"\r\n\nGET /a HTTP/1.1\nHost: h\n\n", "target", "/a", id="bare-line-ends"),
        pytest.param(b"GET /a HTTP/1.0\r\n\r\n", "version", (1, 0), id="1.0-without-host"),
        pytest.param(b"GET /a HTTP/1.7\r\nHost: h\r\n\r\n", "version", (1, 1), id="later-minor-version"),
        pytest.param(b"PURGE /a HTTP/1.1\r\nHost: h\r\n\r\n", "method", "PURGE", id="other-method"),
        pytest.param(GET + b"x: \xff \r\n\r\n", "fields", [("Host", "h"), ("x", "\udcff")], id="bytes-in-a-value"),
        pytest.param(GET + b"a.b: 1\r\nx_y: 2\r\n\r\n", "fields", [("Host", "h"), ("x_y", "2")], id="odd-name-is-left-out"),
        pytest.param(GET + b"x\r\n\r\n", "fields", [("Host", "h"), ("x", "")], id="without-colon"),
        pytest.param(GET + b"".join(b"x%d: 1\r\n" % n for n in range(300)) + b"\r\n", "head_bytes", 2618, id="many-headers"),
        pytest.param(POST + b"Content-Length: 3\r\n\r\nabc", "body", b"abc", id="length"),
        pytest.param(POST + b"Transfer-Encoding: Chunked\r\n\r\n2;x=y\r\nab\r\n1 \r\nc\r\n0\r\nX: 1\r\n\r\n", "body", b"abc", id="chunks"),
    ],
)
async def test_taken(data: bytes, field: str, expected: object) -> None:
    """A request that nginx accepts is accepted, and is not changed."""
    assert getattr(await read(data), field) == expected


# What nginx refuses, with the status.
REFUSED = [
    pytest.param(data, status, id=name)
    for name, status, data in (
        ("no-http", 400, b"HELLO\r\n\r\n"),
        ("lower-case-method", 400, b"get /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("tls", 400, b"\x16\x03\x01\x02\x00\x01\x00\n"),
        ("space-in-target", 400, b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("no-target", 400, b"GET  HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("http-2", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("long-target", 414, b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("endless-target", 414, b"GET /" + b"a" * 200_000),
        ("long-header", 400, GET + b"x: " + b"a" * MAX_LINE + b"\r\n\r\n"),
        ("many-long-headers", 400, GET + (b"x: " + b"a" * 8000 + b"\r\n") * 5 + b"\r\n"),
        ("no-host", 400, b"GET /a HTTP/1.1\r\n\r\n"),
        ("two-hosts", 400, GET + b"Host: i\r\n\r\n"),
        ("host-with-slash", 400, b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        ("space-in-name", 400, GET + b"foo bar: 1\r\n\r\n"),
        ("folded", 400, GET + b"x: 1\r\n 2\r\n\r\n"),
        ("nul-in-value", 400, GET + b"x: \0\r\n\r\n"),
        ("two-lengths", 400, POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        ("negative-length", 400, POST + b"Content-Length: -1\r\n\r\na"),
        ("length-and-chunks", 400, POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("other-coding", 501, POST + b"Transfer-Encoding: gzip\r\n\r\n"),
        ("chunks-in-1.0", 400, b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("no-chunk-size", 400, POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
        ("chunk-too-long", 400, POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"),
        ("trace", 405, b"TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("connect", 405, b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"),
    )
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
async def test_refused(data: bytes, status: int) -> None:
    """A request that nginx refuses is refused with the same status, even if more data follows."""
    with pytest.raises(BadRequest) as error:
        await read(data, ends=False)

    assert error.value.status == status


async def test_no_further_request() -> None:
    """A client that closes the connection between requests, or in the middle of a request, sends no further request."""
    assert await read(b"\r\n") is None
    for data in (b"GET /a", GET, POST + b"Content-Length: 3\r\n\r\nab", POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\na"):
        with pytest.raises(ClientGone):
            await read(data)


@pytest.mark.parametrize(
    ("data", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
async def test_keeps_alive(data: bytes, keeps: bool) -> None:
    """HTTP/1.1 keeps the connection unless a header says otherwise. HTTP/1.0 keeps it only if a header requests that."""
    request = await read(data)

    assert request is not None
    assert request.keeps_alive == keeps


@pytest.mark.parametrize(("data", "status"), REFUSED)
async def test_page_and_report(tmp_path: Path, data: bytes, status: int) -> None:
    """The client gets the gateway's own page, the connection is closed, and the terminal shows the request like any other."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        response = await bed.send(data)

    assert (response.status, response.values("server"), response.values("connection")) == (status, ["APISIX/3.18.0"], ["close"])
    assert b"openresty" in response.body
    (report,) = bed.reports
    assert report.status == status
    assert report.error


async def test_a_path_with_raw_bytes_reaches_the_upstream(tmp_path: Path) -> None:
    """Characters of a target that are not percent-encoded are not changed, as in nginx: `curl http://host/é`."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        response = await bed.request("GET", "/é?q=\udcff")

    assert response.status == 200
    assert bed.upstream.seen[0]["target"] == "/\xc3\xa9?q=\xff"


async def test_further_requests_are_answered_in_order(tmp_path: Path) -> None:
    """Requests that arrive together on one connection are answered one after the other."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        response = await bed.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")

    assert response.status == 200
    assert [seen["target"] for seen in bed.upstream.seen] == ["/a", "/b"]


async def test_stopping_ends_connections_that_wait(tmp_path: Path) -> None:
    """A client that keeps its connection open does not delay the exit of the gateway."""
    async with TestBed(tmp_path) as bed:
        bed.route()
        reader, writer = await asyncio.open_connection("127.0.0.1", bed.port)
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"upstream says hello")
        async with asyncio.timeout(5):
            await bed.server.stop()
            assert await reader.read() == b""
        writer.close()
