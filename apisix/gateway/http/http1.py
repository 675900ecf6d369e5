# SPDX-License-Identifier: Apache-2.0
"""
HTTP/1 requests, read as nginx reads them. Invalid ones are refused with the status that nginx returns.

Source: nginx 1.27, ngx_http_parse.c and ngx_http_request.c, with the directives that APISIX sets.
"""

import asyncio
import re
from dataclasses import dataclass

from apisix.gateway.http import uris

# large_client_header_buffers 4 8k: the limit of one line, and of all lines together, in bytes.
MAX_LINE = 8 * 1024
MAX_HEAD = 4 * MAX_LINE
# The status that nginx logs for a request whose client closed the connection. It is never sent.
CLIENT_CLOSED = 499

_METHOD = re.compile(rb"[A-Z_-]+")
_VERSION = re.compile(rb"HTTP/(\d)\.(\d)")
# Bytes that are not allowed in a target. All others are, since nginx 1.21.1.
_NO_TARGET = re.compile(rb"[\x00-\x20\x7f]")
# A name with one of these makes the request invalid; a field whose name has other characters than letters, digits, - and _ is ignored.
_NO_NAME = re.compile(rb"[\x00-\x20\x7f]|^:|^$")
_NAME = re.compile(rb"[A-Za-z0-9_-]+")
_NO_HOST = re.compile(rb"[\x00-\x20\x7f/]|\.\.")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class BadRequest(Exception):
    """nginx refuses this request before it looks for a route. `status` is sent to the client; `line` is the request line, if any."""

    def __init__(self, status: int, reason: str, line: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.line = line


class ClientGone(BadRequest):
    """
    The client closed the connection before the request was complete.

    Source: nginx, which logs 499 for clients that close the connection.
    """

    def __init__(self, line: str, *, is_begun: bool = True) -> None:
        super().__init__(CLIENT_CLOSED, "the client closed the connection while it was sending the request", line)
        self.is_begun = is_begun


@dataclass(slots=True)
class Request:
    """
    A request as it was received.

    Attributes:
        target: the request target, decoded so that the bytes can be restored.
        version: (1, 0) or (1, 1).
        fields: the header fields, in their order and case.
        head_bytes: length of the request line and the header block.
        peer: the client's address and port.
        rest: the part of the body that the gateway did not consume, which is read as the next request.
    """

    method: str
    target: str
    version: tuple[int, int]
    fields: list[tuple[str, str]]
    head_bytes: int
    peer: tuple[str, int] = ("127.0.0.1", 0)
    body: bytes = b""
    rest: bytes = b""

    @property
    def line(self) -> str:
        """The request line, for logs."""
        return f"{self.method} {self.target}"

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request on the connection."""
        tokens = {token.strip().lower() for value in self.values("connection") for token in value.split(",")}
        return "close" not in tokens if self.version >= (1, 1) else "keep-alive" in tokens

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends its body."""
        return self.version >= (1, 1) and any(value.lower() == "100-continue" for value in self.values("expect"))

    def values(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.fields if key.lower() == name]


async def read_head(reader: asyncio.StreamReader) -> Request | None:
    """
    Read a request up to its body; return None if the client has closed the connection instead.

    Raises: BadRequest: nginx would refuse it. ClientGone: the client closed the connection before the end of the header.
    """
    line = b""
    while not line:  # empty lines before a request are skipped
        try:
            line = await _line(reader, 414, "")
        except ClientGone as gone:
            if gone.is_begun:
                raise
            return None
    shown = uris.decode(line.rpartition(b" ")[0] or line)[:200]
    method, target, version = _request_line(line, shown)
    request = Request(method, target, version, [], len(line) + 2)
    while line := await _line(reader, 400, shown):
        request.head_bytes += len(line) + 2
        if request.head_bytes > MAX_HEAD:
            raise BadRequest(400, f"the header is longer than {MAX_HEAD} bytes", shown)
        if (field := _field(line, shown)) is not None:
            request.fields.append(field)
    request.head_bytes += 2
    _check(request)
    return request


async def read_body(reader: asyncio.StreamReader, request: Request) -> bytes:
    """
    Read the body of a request.

    Raises: BadRequest: its chunks are malformed. ClientGone: the client closed the connection before the end of the body.
    """
    try:
        return await _body(reader, request)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise ClientGone(request.line) from error


async def _body(reader: asyncio.StreamReader, request: Request) -> bytes:
    if not request.values("transfer-encoding"):
        lengths = request.values("content-length")
        return await reader.readexactly(int(lengths[0])) if lengths else b""
    pieces: list[bytes] = []
    while True:
        line = await _line(reader, 400, request.line)
        size = _SIZE.fullmatch(line)
        if size is None:
            raise BadRequest(400, f"a chunk begins with {uris.decode(line[:40])!r} instead of its size", request.line)
        if not int(size[1], 16):
            break
        pieces.append(await reader.readexactly(int(size[1], 16)))
        if await _line(reader, 400, request.line):
            raise BadRequest(400, "a chunk is longer than its size", request.line)
    while await _line(reader, 400, request.line):
        pass  # trailers are dropped
    return b"".join(pieces)


async def _line(reader: asyncio.StreamReader, status: int, shown: str) -> bytes:
    """Read a line and remove its end. Raise BadRequest with `status` if it is too long, ClientGone if its end is missing."""
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        raise ClientGone(shown or uris.decode(error.partial)[:200], is_begun=bool(error.partial or shown)) from error
    except ConnectionError as error:
        raise ClientGone(shown, is_begun=bool(shown)) from error
    except asyncio.LimitOverrunError as error:
        raise BadRequest(status, f"a line is longer than {MAX_LINE} bytes", shown) from error
    if len(line) > MAX_LINE:
        raise BadRequest(status, f"a line is longer than {MAX_LINE} bytes", shown)
    return line[:-1].removesuffix(b"\r")


def _request_line(line: bytes, shown: str) -> tuple[str, str, tuple[int, int]]:
    method, _, rest = line.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if method[:1] == b"\x16":
        raise BadRequest(400, "this is TLS: the development gateway speaks plain http", "-")
    if not _METHOD.fullmatch(method):
        raise BadRequest(400, "it does not begin with a method in capital letters", shown)
    numbers = _VERSION.fullmatch(version)
    if numbers is None:
        raise BadRequest(400, "the request line does not end with a version, as in HTTP/1.1", shown)
    if int(numbers[1]) > 1:
        raise BadRequest(505, f"the development gateway speaks HTTP/1, not {uris.decode(version)}", shown)
    if int(numbers[1]) < 1 or not target or _NO_TARGET.search(target):
        raise BadRequest(400, "the request line has no valid target", shown)
    return uris.decode(method), uris.decode(target), (1, min(int(numbers[2]), 1))


def _field(line: bytes, shown: str) -> tuple[str, str] | None:
    """Parse a header line; return None for one that nginx ignores."""
    name, _, value = line.partition(b":")
    if _NO_NAME.search(name) or b"\0" in value:
        raise BadRequest(400, f"{uris.decode(line[:40])!r} is not a header", shown)
    if not _NAME.fullmatch(name):
        return None
    return uris.decode(name), uris.decode(value.strip(b" "))


def _check(request: Request) -> None:
    """Refuse requests that nginx refuses after it has read all headers."""

    def refuse(status: int, reason: str) -> None:
        raise BadRequest(status, reason, request.line)

    hosts, lengths, codings = (request.values(name) for name in ("host", "content-length", "transfer-encoding"))
    if len(hosts) > 1 or len(lengths) > 1 or len(codings) > 1:
        refuse(400, "Host, Content-Length or Transfer-Encoding occurs twice")
    if not hosts and request.version >= (1, 1):
        refuse(400, "it has no Host")
    if hosts and _NO_HOST.search(uris.encode(hosts[0])):
        refuse(400, f"{hosts[0]!r} is not a valid Host")
    if lengths and not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) < 19):
        refuse(400, f"{lengths[0]!r} is not a valid Content-Length")
    if codings and request.version < (1, 1):
        refuse(400, "HTTP/1.0 does not have Transfer-Encoding")
    if codings and codings[0].lower() != "chunked":
        refuse(501, f"{codings[0]!r} is not a Transfer-Encoding that nginx supports")
    if codings and lengths:
        refuse(400, "it has both Content-Length and Transfer-Encoding")
    if request.method in ("TRACE", "CONNECT"):
        refuse(405, f"nginx does not allow {request.method}")
