# SPDX-License-Identifier: Apache-2.0
"""Routes with `enable_websocket`: the handshake passes through the plugins, and then bytes pass in both directions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.bed import TestBed

TIMEOUT_S = 10


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[int, list[ServerConnection]]]:
    """Run a server that echoes messages. Yield its port and the connections that it has accepted."""
    connections: list[ServerConnection] = []

    async def handle(connection: ServerConnection) -> None:
        connections.append(connection)
        async for message in connection:
            await connection.send(message)
            if message == "close":
                await connection.close(4000, "as asked")

    async with serve(handle, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1], connections


def plugin(does: dict[str, Any], phase: str = "ext-plugin-pre-req") -> dict[str, Any]:
    """Return plugins that include a scripted one."""
    return {phase: {"conf": [{"name": "scripted", "value": json.dumps(does)}]}}


async def test_messages_pass(tmp_path: Path) -> None:
    """
    Text, bytes and large messages pass in both directions. The plugin can read and change the handshake. The report is available at once.
    """
    does = {"rewrite": {"headers": [["x-runner", "yes"]], "args": [["token", None]]}}
    async with TestBed(tmp_path) as bed, echo() as (port, connections), asyncio.timeout(TIMEOUT_S):
        bed.route(enable_websocket=True, plugins=plugin(does), upstream={"nodes": {f"127.0.0.1:{port}": 1}})
        async with connect(f"ws://127.0.0.1:{bed.port}/chat?token=x") as client:
            for message in ("hello", b"\x00\xff", "x" * 300_000):
                await client.send(message)
                assert message == await client.recv()
            assert [report.status for report in bed.reports] == [101]
        (connection,) = connections
        await connection.wait_closed()

    assert connection.request is not None
    assert (connection.request.path, connection.request.headers["x-runner"]) == ("/chat", "yes")
    assert "'upgrade', 'websocket'" in str(bed.runner.seen)


async def test_the_upstream_closes(tmp_path: Path) -> None:
    """The client gets the code with which the upstream closes the WebSocket."""
    async with TestBed(tmp_path) as bed, echo() as (port, _), asyncio.timeout(TIMEOUT_S):
        bed.store.put("services", "s", {"enable_websocket": True, "upstream": {"nodes": {f"127.0.0.1:{port}": 1}}})
        bed.store.put("routes", "1", {"uri": "/*", "service_id": "s"})
        async with connect(f"ws://127.0.0.1:{bed.port}/") as client:
            await client.send("close")
            await client.recv()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()

    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4000, "as asked")


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"enable_websocket": True, "plugins": plugin({"stop": {"status": 403}})}, 403),
        ({"enable_websocket": False}, 426),
        ({"enable_websocket": True, "plugins": plugin({}, "ext-plugin-post-resp")}, 502),
    ],
    ids=["stopped", "not enabled", "response phase"],
)
async def test_refused(tmp_path: Path, more: dict[str, Any], status: int) -> None:
    """
    A plugin can refuse the handshake. Without the setting, the upstream gets no Upgrade, and the response phase reads complete responses.
    """
    async with TestBed(tmp_path) as bed, echo() as (port, _), asyncio.timeout(TIMEOUT_S):
        bed.route(upstream={"nodes": {f"127.0.0.1:{port}": 1}}, **more)
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{bed.port}/")

    assert caught.value.response.status_code == status


async def test_an_upstream_that_does_not_switch(tmp_path: Path) -> None:
    """The upstream gets the client's Upgrade and Connection, and its ordinary response is passed on."""
    async with TestBed(tmp_path) as bed:
        bed.route(enable_websocket=True)
        response = await bed.request("GET", "/", ["Upgrade: websocket"])

    sent = [name for name, _ in bed.upstream.seen[0]["headers"]]
    assert (response.status, sent[:4]) == (200, ["Host", "Upgrade", "Connection", "X-Real-IP"])
