# SPDX-License-Identifier: Apache-2.0
"""The development gateway sends events about itself to the page. Nothing but the gateway runs: no runner, and no browser."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import httpx
import pytest

from apisix.gateway.dev import Options, _Dev
from apisix.gateway.display import Display
from apisix.gateway.runner.process import RESPAWN_DELAY_S

ROUTES = "routes: [{id: 1, uri: /a, upstream: {nodes: {'127.0.0.1:1': 1}}}]\n#END\n"
REPLACED = {"logger": "apisix.runner.supervisor.worker_pool.pool", "message": "file changed: worker 2 in the place of worker 1"}


class Notices(Display):
    """Keeps what is shown."""

    def __init__(self) -> None:
        super().__init__(StringIO())
        self.texts: asyncio.Queue[str] = asyncio.Queue()

    def notice(self, text: str) -> None:
        """Keep a message."""
        self.texts.put_nowait(text)


@dataclass
class Served:
    """A development gateway, and the events that a page receives from it."""

    dev: _Dev
    events: AsyncIterator[str]

    async def event(self) -> tuple[str, object]:
        """Return the next event: its name and its data."""
        name = ""
        async with asyncio.timeout(10):
            async for line in self.events:
                kind, _, value = line.partition(": ")
                if kind == "event":
                    name = value
                elif kind == "data":
                    return name, json.loads(value)
        raise AssertionError("the connection was closed")


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """Serve a directory with a file of routes, and open the stream of events."""
    monkeypatch.chdir(tmp_path)
    save(ROUTES)
    options = Options(
        config=None,
        socket=None,
        plugins=(),
        port=0,
        routes=Path("apisix.yaml"),
        upstream_port=0,
        runner_socket="none.sock",
        apisix_version=(3, 18),
        read_timeout_s=None,
        router="radixtree_host_uri",
        admin_key=None,
        log_level=None,
        inspect_port=0,
    )
    display = Notices()
    dev = _Dev(options, display)
    serving = asyncio.create_task(dev.serve())
    async with asyncio.timeout(10):
        (address,) = re.findall(r"inspector +(\S+)", await display.texts.get())
        async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", f"{address}/api/events", timeout=None) as response:
            lines = response.aiter_lines()
            assert await anext(lines) == ": connected"
            yield Served(dev, lines)
            dev._stop.set()
            await serving


def save(text: str) -> None:
    """Save the file of routes as editors do: whole."""
    Path("saved").write_text(text, encoding="utf-8")
    os.replace("saved", "apisix.yaml")


async def test_saved_routes(served: Served) -> None:
    save(ROUTES.replace("/a", "/b"))

    assert await served.event() == ("reloaded", "apisix.yaml: routes reloaded")


async def test_routes_with_a_problem(served: Served) -> None:
    """The problem arrives before the message that the other routes are loaded."""
    save("routes: [{id: 1, uri: /a, upstream: {nodes: 7}}]\n#END\n")
    name, problem = await served.event()

    assert (name, str(problem).partition(": left out: ")[:2]) == ("problem", ("route 1", ": left out: "))
    assert await served.event() == ("reloaded", "apisix.yaml: routes reloaded")


async def test_a_file_that_can_not_be_loaded(served: Served) -> None:
    """Nothing is reloaded."""
    save("routes: []\n")
    name, problem = await served.event()
    served.dev._notice("the end")

    assert (name, str(problem).partition(":")[0]) == ("problem", "apisix.yaml")
    assert "does not end with the line #END" in str(problem)
    assert await served.event() == ("notice", "the end")


async def test_replaced_workers(served: Served) -> None:
    """The page runs the selected request again, and then shows the line of the log."""
    served.dev._log.line(json.dumps(REPLACED).encode())

    assert await served.event() == ("reloaded", "the plugins were reloaded")
    assert await served.event() == ("log", REPLACED)


async def test_a_runner_that_ended(served: Served) -> None:
    served.dev._runner_ended(1)

    assert await served.event() == (
        "notice",
        f"the runner ended with status 1; it will be restarted in {RESPAWN_DELAY_S:g} s, as the gateway does",
    )
