# SPDX-License-Identifier: Apache-2.0
"""
The fixtures of these tests. `client` comes with the package, and is told here where the plugins are.

A project of your own, with plugins/ and tests/ side by side, needs no conftest.py to begin with.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from apisix.runner.plugin.registry import Registry
from apisix.testing import Client


@pytest.fixture(scope="session")
def apisix_registry() -> Registry:
    """The plugins beside these tests, loaded once for all of them."""
    return Registry.load([Path(__file__).parent.parent / "plugins"])


@pytest.fixture
def client(apisix_registry: Registry) -> Iterator[Client]:
    """A client for the plugins beside these tests, wherever pytest was started."""
    with Client(registry=apisix_registry) as client:
        yield client


@dataclass
class Service:
    """An HTTP service on this machine, for the plugins that call one: what it answers, and what it was asked."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that runs as long as the test."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            service.connections += 1
            super().setup()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            service.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(service.status)
            for name, value in {**service.headers, "content-length": str(len(service.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(service.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield service
        server.shutdown()
        thread.join()
