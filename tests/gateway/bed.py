# SPDX-License-Identifier: Apache-2.0
"""A gateway between a scripted runner and a scripted upstream, and a client that shows raw responses."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apisix.gateway.http_server import HttpServer
from apisix.gateway.phases.phases import ExtPlugins
from apisix.gateway.phases.quirks import LATEST, Version, default_router, pool_for, quirks_of, unknown_plugins
from apisix.gateway.report import RequestReport
from apisix.gateway.resources.admin import DEFAULT_KEY, AdminApi
from apisix.gateway.resources.definitions import Problem
from apisix.gateway.resources.store import Store
from apisix.gateway.server import Gateway
from tests.gateway.scripted_runner import ScriptedRunner
from tests.gateway.scripted_upstream import ScriptedUpstream


@dataclass
class Response:
    """The response that a client got, with its header fields as received and its body de-chunked."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


@dataclass
class TestBed:
    """A gateway with a runner and an upstream, started on entering the context and stopped on leaving it."""

    __test__ = False  # pytest: this is not a test class

    directory: Path
    version: Version = LATEST
    read_timeout_s: float = 5.0
    start_runner: bool = True
    runner: ScriptedRunner = field(default_factory=ScriptedRunner)
    upstream: ScriptedUpstream = field(default_factory=ScriptedUpstream)
    reports: list[RequestReport] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    port: int = 0
    socket: str = ""

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        await self.upstream.start()
        self._stack.push_async_callback(self.upstream.stop)
        self.socket = self.socket or str(self.directory / "runner.sock")
        if self.start_runner:
            await self.runner.start(self.socket)
        self._stack.push_async_callback(self.runner.stop)
        quirks = quirks_of(self.version)
        self.pool = pool_for(self.socket, quirks, self.read_timeout_s)
        self._stack.callback(self.pool.close)
        self.store = Store(self.problems.extend, router=default_router(self.version), unknown_plugins=unknown_plugins(quirks))
        self.plugins = ExtPlugins(self.pool, quirks)
        self.server = HttpServer(
            Gateway(self.store, self.plugins, AdminApi(self.store, DEFAULT_KEY, self.version), self.reports.append), announced_port=9080
        )
        self.port = await self.server.bind("127.0.0.1", 0)
        await self.server.serve()
        self._stack.push_async_callback(self.server.stop)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    def route(self, id: str = "1", uri: str = "/*", plugins: dict[str, Any] | None = None, **more: Any) -> None:
        """Add a route to the scripted upstream."""
        upstream = {"type": "roundrobin", "nodes": {f"127.0.0.1:{self.upstream.port}": 1}}
        self.store.put("routes", id, {"uri": uri, "plugins": plugins or {}, "upstream": upstream, **more})

    async def request(
        self, method: str, target: str, headers: list[str] | None = None, body: bytes = b"", *, version: str = "1.1"
    ) -> Response:
        """Send one request over its own connection, with `Connection: close`, and return the response."""
        lines = [f"{method} {target} HTTP/{version}", "Host: gw.example.com", "Connection: close", *(headers or [])]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return await self.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body)

    async def send(self, data: bytes) -> Response:
        """Send bytes and read the response until the gateway closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        async with asyncio.timeout(10):
            received = await reader.read()
        writer.close()
        return read_response(received)


def read_response(received: bytes) -> Response:
    """Parse a complete response."""
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    if ("Transfer-Encoding", "chunked") in headers and body:
        body = _dechunk(body)
    return Response(int(lines[0].split(" ")[1]), headers, body)


def _dechunk(data: bytes) -> bytes:
    pieces: list[bytes] = []
    while True:
        size_line, _, data = data.partition(b"\r\n")
        size = int(size_line, 16)
        if not size:
            return b"".join(pieces)
        pieces.append(data[:size])
        data = data[size + 2 :]
