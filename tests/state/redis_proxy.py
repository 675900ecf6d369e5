# SPDX-License-Identifier: Apache-2.0
"""A proxy between a test and a Redis server, which makes the faults of a network."""

import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.state.redis_process import Setup


class Proxy:
    """
    Forwards connections to a server. The attributes can be changed at any time.

    Attributes:
        url: the URL of the proxy.
        delay_s: how long each part of a reply is delayed, in seconds.
        cut_after: the next reply is cut after this number of bytes, and its connection closed. None: it is not cut.
        accepted: how many connections were accepted.
    """

    def __init__(self, server: str, directory: str) -> None:
        self._server = server
        self._path = str(Path(directory, "proxy.sock"))
        self.url = f"unix://{self._path}"
        self.delay_s = 0.0
        self.cut_after: int | None = None
        self.accepted = 0
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Accept connections."""
        if self._listener is None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self._path)
            self._listener.listen(64)
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and close those that exist."""
        listener, self._listener = self._listener, None
        if listener is not None:
            Path(self._path).unlink()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections."""
        for connection in list(self._connections):
            self._end(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # it was closed
            self.accepted += 1
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                continue
            self._connections |= {client, server}
            threading.Thread(target=self._forward, args=[client, server], daemon=True).start()
            threading.Thread(target=self._reply, args=[server, client], daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        self._end(server)

    def _reply(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self.delay_s:
                    time.sleep(self.delay_s)
                cut_after, self.cut_after = self.cut_after, None
                if cut_after is not None:
                    client.sendall(data[:cut_after])
                    break
                client.sendall(data)
        self._end(client)
        self._end(server)

    def _end(self, connection: socket.socket) -> None:
        self._connections.discard(connection)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # wakes up the thread that reads from it
        connection.close()


@contextmanager
def proxied(setup: Setup) -> Iterator[Proxy]:
    """Run a proxy for a server until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="proxy-") as directory:
        proxy = Proxy(urlsplit(setup.url).path, directory)
        try:
            yield proxy
        finally:
            proxy.close()
