# SPDX-License-Identifier: Apache-2.0
"""The upstream of the recordings: it responds as `X-Up` says, and records every request, byte for byte."""

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

HELLO = b"upstream says hello"
# As recorded: gzip.compress writes another header from one Python to the next.
HELLO_GZIPPED = bytes.fromhex("1f8b08000000000002032b2d282e294a4dcc55284eac2c56c848cdc9c907008dcf9ae313000000")


class ScriptedUpstream:
    """Serves HTTP/1.1 on a free port; `seen` contains one entry per request, in the form of `upstream_sees`."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Also cancelled quietly: Python 3.11 logs a cancelled connection task as an error.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
                method, target, _ = head[0].split(" ")
                headers = [[name, value.strip()] for name, _, value in (line.partition(":") for line in head[1:])]
                by_name = {name.lower(): value for name, value in headers}
                body = await reader.readexactly(int(by_name.get("content-length", "0")))
                self.seen.append(
                    {"method": method, "target": target, "headers": headers, "body": body.decode("latin-1"), "body_len": len(body)},
                )
                writer.write(_response(method, dict(parse_qsl(by_name.get("x-up") or target.partition("?")[2]))))
                await writer.drain()
        writer.close()


def _response(method: str, wishes: dict[str, str]) -> bytes:
    status = int(wishes.get("up_status", "200"))
    body = HELLO * int(wishes.get("up_times", "1"))
    headers = ["Server: BaseHTTP/0.6", "Date: Sun, 22 Nov 2026 16:04:49 GMT", "X-Upstream: echo", "Content-Type: text/html; charset=utf-8"]
    headers += ["Set-Cookie: u1=1", "Set-Cookie: u2=2", "Cache-Control: no-store"]
    headers.append("Location: /elsewhere" if status == 302 else "X-L: none")
    if wishes.get("gzip"):
        body = HELLO_GZIPPED
        headers.append("Content-Encoding: gzip")
    if status in (204, 304):
        body = b""
    elif wishes.get("chunked"):
        headers.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:5], body[5:])) + b"0\r\n\r\n"
    else:
        headers.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"HTTP/1.1 {status} Whatever", *headers, "", ""]).encode()
    return head if method == "HEAD" else head + body
