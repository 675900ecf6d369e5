# SPDX-License-Identifier: Apache-2.0
"""
The fixtures of these tests.

`client` is redefined here to load the plugins of this directory. A project that has plugins/ in its root directory does not need that.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client


@pytest.fixture(scope="session")
def apisix_registry() -> Registry:
    """Return the plugins of the examples. They are loaded once."""
    return Registry.load([Path(__file__).parent.parent / "plugins"])


@pytest.fixture
def client(apisix_registry: Registry) -> Iterator[Client]:
    """Return a client for the plugins of the examples."""
    with Client(registry=apisix_registry) as client:
        yield client


@dataclass
class Service:
    """An HTTP service for plugins that call one: the response that it sends, and the requests that it got."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a service that runs until the test ends."""
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
            """Do not log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield service
        server.shutdown()
        thread.join()
