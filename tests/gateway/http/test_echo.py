# SPDX-License-Identifier: Apache-2.0
"""The echo upstream shows the request that it received."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from apisix.gateway.http.echo import EchoUpstream
from tests.gateway.bed import Response, read_response


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Start an echo upstream."""
    echo = EchoUpstream()
    bound = await echo.bind("127.0.0.1", 0)
    await echo.serve()
    yield bound
    await echo.stop()


async def send(port: int, data: bytes) -> Response:
    """Send a request and return the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(5):
        response = read_response(await reader.read())
    writer.close()
    return response


async def test_shows_the_request(port: int) -> None:
    """The echo contains method, path, arguments, headers and body. Repeated names become lists."""
    response = await send(
        port,
        b"POST /any/path?a=1&a=2&flag&b=x+y HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
    )

    shown = response.json()
    assert (
        shown["method"],
        shown["path"],
        shown["args"],
        shown["body"],
        shown["body_bytes"],
        shown["origin"],
    ) == ("POST", "/any/path", {"a": ["1", "2"], "flag": "", "b": "x y"}, "body", 4, "127.0.0.1")
    assert shown["headers"]["X-A"] == ["1", "2"]


async def test_shows_bytes(port: int) -> None:
    """Bytes that are not UTF-8 are escaped."""
    response = await send(port, b"GET /%ff?x=%fe HTTP/1.1\r\nHost: h\r\nX-A: \xff\r\nConnection: close\r\n\r\n")

    assert (
        response.json()["path"],
        response.json()["args"]["x"],
        response.json()["headers"]["X-A"],
    ) == ("/%ff", "\\xfe", "\\xff")
