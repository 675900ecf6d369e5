# SPDX-License-Identifier: Apache-2.0
"""
The HTTP client for upstreams.

No HTTP library is used, because they encode headers as UTF-8 (other bytes of a value are lost), add headers of their own, and quote
targets again. The upstream must receive exactly the bytes that nginx would send.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Coroutine, Iterable
from dataclasses import dataclass, field

from apisix.gateway.http import uris
from apisix.gateway.http.answer import StreamFailed
from apisix.gateway.http.tunnel import Tunnel
from apisix.gateway.routing.balancing import Node
from apisix.gateway.routing.routes import Upstream

_HEAD_BYTES = 256 * 1024
_READ_BYTES = 65536
SWITCHES = 101
"""The status with which an upstream switches protocols."""


class UpstreamFailed(StreamFailed):
    """The upstream sent no usable response. `status` is sent to the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class NoAnswer(UpstreamFailed):
    """The upstream closed the connection before the end of the response's head, or did not send it in time."""


class ConnectFailed(UpstreamFailed):
    """The upstream did not accept the request, so another node can be tried."""


@dataclass(slots=True)
class UpstreamResponse:
    """A response whose body has not been read yet. Read `body` to its end, or call `close`."""

    status: int
    headers: list[tuple[str, str]]
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _timeout_s: float
    has_body: bool
    body: AsyncGenerator[bytes, None] = field(init=False)

    def __post_init__(self) -> None:
        self.body = self._read_body()

    def values(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    async def read(self) -> bytes:
        """Read the whole body and close the connection."""
        return b"".join([piece async for piece in self.body])

    @property
    def connection(self) -> asyncio.StreamWriter:
        """The connection on which the response arrives. It is closed after the body, or at the end of a tunnel."""
        return self._writer

    def close(self) -> None:
        """Close the connection, and discard data that has not been read."""
        self._writer.close()

    def tunnel(self) -> Tunnel | None:
        """Return the connection if the upstream has switched protocols, else None."""
        return Tunnel(self._reader, self._writer, self._timeout_s) if self.status == SWITCHES else None

    async def _read_body(self) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self._pieces():
                yield piece
        except TimeoutError as error:
            raise UpstreamFailed(504, f"the upstream sent nothing for {self._timeout_s:g} s") from error
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise UpstreamFailed(502, f"the upstream closed the connection before the end of the response: {error}") from error
        finally:
            self.close()

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        if not self.has_body:
            return
        if any("chunked" in value.lower() for value in self.values("transfer-encoding")):
            while size := int((await self._within(self._reader.readline())).partition(b";")[0], 16):
                yield await self._within(self._reader.readexactly(size))
                await self._within(self._reader.readline())
            while (await self._within(self._reader.readline())).strip():
                pass  # trailers are dropped, as nginx drops them
            return
        lengths = self.values("content-length")
        left = int(lengths[0]) if lengths else None
        while left is None or left > 0:
            piece = await self._within(self._reader.read(_READ_BYTES if left is None else min(left, _READ_BYTES)))
            if not piece:
                if left is not None:
                    raise ValueError(f"{left} bytes are missing")
                return
            left = None if left is None else left - len(piece)
            yield piece

    async def _within(self, reading: Coroutine[object, object, bytes]) -> bytes:
        async with asyncio.timeout(self._timeout_s):
            return await reading


class RecordedResponse(UpstreamResponse):
    """A response that was received before. It has no connection."""

    __slots__ = ()

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.has_body = bool(body)
        self.body = _whole(body)

    def close(self) -> None:
        """Do nothing."""

    def tunnel(self) -> None:
        """Return None."""


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    if body:
        yield body


async def send_request(
    upstream: Upstream,
    node: Node,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    *,
    upgrades: bool = False,
) -> UpstreamResponse:
    """
    Send a request to one node and return its response as soon as the head has been received.

    Args: upgrades: whether the node may switch protocols.
    Raises:
        ConnectFailed: the node can't be reached.
        NoAnswer: the node did not send the head of a response.
        UpstreamFailed: the node sent something else.
    """
    reader, writer = await _connect(upstream, node)
    head = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    try:
        writer.write(uris.encode("\r\n".join(head)) + body)
        async with asyncio.timeout(upstream.send_timeout_s):
            await writer.drain()
        async with asyncio.timeout(upstream.read_timeout_s):
            status, fields = await _read_head(reader, upgrades=upgrades)
    except TimeoutError as error:
        writer.close()
        raise NoAnswer(504, f"{node} did not answer in time") from error
    except (OSError, asyncio.IncompleteReadError) as error:
        writer.close()
        raise NoAnswer(502, f"{node} sent no HTTP response: {error}") from error
    except (ValueError, asyncio.LimitOverrunError) as error:
        writer.close()
        raise UpstreamFailed(502, f"{node} sent no HTTP response: {error}") from error
    except BaseException:
        writer.close()
        raise
    return UpstreamResponse(
        status, fields, reader, writer, upstream.read_timeout_s, has_body=method != "HEAD" and status not in (SWITCHES, 204, 304)
    )


async def _connect(upstream: Upstream, node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(upstream.connect_timeout_s):
            context = _unverified() if upstream.scheme == "https" else None
            return await asyncio.open_connection(node.host, node.port, limit=_HEAD_BYTES, ssl=context)
    except TimeoutError as error:
        raise ConnectFailed(504, f"{node} does not accept connections") from error
    except OSError as error:
        raise ConnectFailed(502, f"can't connect to {node}: {error.strerror or error}") from error


def _unverified() -> ssl.SSLContext:
    """Return a TLS context without verification, because APISIX does not verify the certificates of upstreams by default."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _read_head(reader: asyncio.StreamReader, *, upgrades: bool) -> tuple[int, list[tuple[str, str]]]:
    while True:
        lines = uris.decode(await reader.readuntil(b"\r\n\r\n")).split("\r\n")[:-2]
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"it starts with {lines[0][:40]!r}")
        status = int(rest[:3])
        if status >= 200 or (upgrades and status == SWITCHES):
            fields = (line.partition(":") for line in lines[1:])
            return status, [(name.strip(), value.strip()) for name, _, value in fields]
