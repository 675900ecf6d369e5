# SPDX-License-Identifier: Apache-2.0
"""
The upstream of the recordings, on two free ports.

The header `X-Up` or the query of a request selects the answer. Every request is recorded. Source: golden/README.md.
"""

import asyncio
import gzip
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qs

RECORDED_PORTS = (2981, 2982, 2983)
"""The ports in the recordings. Nothing listens on the last one."""

_SHOWN_BYTES = 600


class ScriptedUpstream:
    """Serves HTTP/1.1 on two ports. `seen` has one entry per request, in the form of `upstream_sees`."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.ports: dict[int, int] = {}
        """The port that is used here for each recorded port."""
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The first of the two ports."""
        return self.ports[RECORDED_PORTS[0]]

    async def start(self) -> None:
        """Listen on two ports, and reserve a third one on which nothing listens."""
        for recorded in RECORDED_PORTS:
            server = await asyncio.start_server(partial(self._serve, recorded), "127.0.0.1", 0)
            self.ports[recorded] = server.sockets[0].getsockname()[1]
            self._servers.append(server)
        self._servers.pop().close()

    async def stop(self) -> None:
        """Close the listeners and all connections."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also for cancellation: Python 3.11 logs a cancelled connection task as an error.
        with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError, asyncio.CancelledError):
            while await self._serve_one(reader, writer, port):
                pass
        writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> bool:
        """Read and answer one request. Return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        method, target, protocol = head[0].split(" ", 2)
        headers = [[name, value.strip()] for name, _, value in (line.partition(":") for line in head[1:])]
        by_name = {name.lower(): value for name, value in headers}
        wanted = parse_qs(target.partition("?")[2], keep_blank_values=True) | parse_qs(by_name.get("x-up", ""), keep_blank_values=True)
        if by_name.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        is_chunked = "chunked" in by_name.get("transfer-encoding", "").lower()
        body = await _read_chunks(reader) if is_chunked else await reader.readexactly(int(by_name.get("content-length") or 0))
        seen = {"port": port, "method": method, "target": target, "protocol": protocol, "headers": headers}
        seen |= {"body": body[:_SHOWN_BYTES].decode("latin-1"), "body_len": len(body)}
        self.seen.append(seen | {"chunked": True} if is_chunked else seen)
        if "up_delay" in wanted:
            await asyncio.sleep(float(wanted["up_delay"][0]))
        if "up_close" in wanted:
            return False
        if "up_garbage" in wanted:
            writer.write(b"nonsense without sense\r\n\r\n")
            return False
        writer.write(_response(method, wanted))
        await writer.drain()
        return not (
            "up_http10" in wanted
            or "close" in wanted.get("up_h", [""])[0]
            or by_name.get("connection", "").lower() == "close"
            or protocol == "HTTP/1.0"
        )


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await reader.readline()).partition(b";")[0] or b"0", 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(pieces)


def _gzipped(data: bytes) -> bytes:
    """Compress as when the scenarios were recorded. The tenth byte names the operating system, which depends on the release of Python."""
    compressed = bytearray(gzip.compress(data, mtime=0))
    compressed[9] = 3
    return bytes(compressed)


def _response(method: str, wanted: dict[str, list[str]]) -> bytes:
    status = int(wanted.get("up_status", ["200"])[0])
    body = wanted.get("up_body", ["upstream says hello"])[0].encode() * int(wanted.get("up_times", ["1"])[0])
    if status in (204, 304):
        body = b""
    content_type = wanted.get("up_ct", ["text/html; charset=utf-8"])[0]
    is_http10, has_trailer = "up_http10" in wanted, "up_trailer" in wanted
    lines = [f"HTTP/1.{0 if is_http10 else 1} {status} X"]
    lines += [] if content_type == "none" else [f"Content-Type: {content_type}"]
    lines += ["X-Upstream: echo", "Set-Cookie: u1=1", "Set-Cookie: u2=2", "Cache-Control: no-store"]
    lines += ["Location: /elsewhere" if status in (301, 302) else "X-L: none", *wanted.get("up_h", [])]
    if "gzip" in wanted:
        body = _gzipped(body)
        lines.append("Content-Encoding: gzip")
    data = body
    if "chunked" in wanted or has_trailer:
        lines += ["Transfer-Encoding: chunked", *(["Trailer: grpc-status"] if has_trailer else [])]
        data = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
        data += b"0\r\n" + (b"grpc-status: 0\r\n" if has_trailer else b"") + b"\r\n"
    elif status not in (204, 304) and not is_http10:
        lines.append(f"Content-Length: {len(body)}")
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" if "up_early" in wanted else b""
    return early + "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + (b"" if method == "HEAD" else data)
