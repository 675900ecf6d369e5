# SPDX-License-Identifier: Apache-2.0
"""
A small HTTP/1.1 server for Prometheus and probes, in the event loop of the supervisor.

It accepts one request of bounded size per connection. Slow clients are disconnected, so that no client can block the supervisor.
"""

import errno
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from apisix.runner.errors import SettingsError
from apisix.runner.primitives import NO_SIGNAL
from apisix.runner.settings.table import Settings

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES: Final = 8192
MAX_CLIENTS: Final = 16
CLIENT_TIMEOUT_S: Final = 5.0
"""How long a client may take, from its connection to the last byte of the response, in seconds."""
RETRY_S: Final = 1.0
"""How long to wait before listening is tried again, in seconds. A runner that is stopping may still use the address."""
_METHODS: Final = ("GET", "HEAD")


class HasFileno(Protocol):
    """An object with a file descriptor, such as a socket."""

    def fileno(self) -> int: ...


class Timer(Protocol):
    """A callback that will be called later."""

    def cancel(self) -> None:
        """Do not call it."""


class EventLoop(Protocol):
    """The part of the supervisor's event loop that the server uses."""

    def watch(self, source: HasFileno, callback: Callable[[], object]) -> None:
        """Call `callback` whenever `source` can be read."""

    def watch_writing(self, source: HasFileno, callback: Callable[[], object] | None) -> None:
        """Call `callback` whenever `source` can be written. None stops that."""

    def unwatch(self, source: HasFileno) -> None:
        """Stop watching `source`."""

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, after `delay_s` seconds."""


class Page(NamedTuple):
    """The response to a request."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[str], Page]]
"""The function that returns the page, by path. Its argument is the header Accept of the request, "" if there is none."""


def address_of(settings: Settings) -> tuple[str, int] | None:
    """
    Return the host and port to listen on, or None if no address is set.

    Raises: SettingsError: other machines can reach the address, and that is not allowed.
    """
    if settings.metrics_address is None:
        return None
    from ipaddress import ip_address

    host, _, port = settings.metrics_address.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    if not ip_address(host).is_loopback and not settings.metrics_allow_remote:
        raise SettingsError(
            f"metrics.address is {settings.metrics_address!r}, which other machines can reach. "
            "Choose a loopback address, as in 127.0.0.1:9092, or set metrics.allow_remote to true"
        )
    return host, int(port)


class HttpServer:
    """
    Serves a few pages.

    Attributes:
        port: the port on which it listens, 0 while it does not.
    """

    def __init__(self, loop: EventLoop, address: tuple[str, int], pages: Pages) -> None:
        self.port = 0
        self._loop = loop
        self._address = address
        self._pages = pages
        self._sock: socket.socket | None = None
        self._clients: set[_Client] = set()
        self._retry: Timer | None = None
        self._has_warned = False
        self._listen()

    def close(self) -> None:
        """Stop listening, and disconnect all clients."""
        if self._retry is not None:
            self._retry.cancel()
        if self._sock is not None:
            self._loop.unwatch(self._sock)
            self._sock.close()
            self._sock = None
            self.port = 0
        for client in list(self._clients):
            client.close()

    def forget(self) -> None:
        """Close what belongs to the supervisor, in a new worker, after its event loop was closed."""
        if self._sock is not None:
            self._sock.close()
        for client in self._clients:
            client.sock.close()

    def page_of(self, head: bytes) -> tuple[Page, bool]:
        """Return the response to a request with this head, and whether its body must be sent."""
        request_line, _, rest_of_head = head.decode("latin-1").partition("\r\n")
        method, _, rest = request_line.partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1."):
            return _error(HTTPStatus.BAD_REQUEST), True
        if method not in _METHODS:
            return _error(HTTPStatus.METHOD_NOT_ALLOWED), True
        make = self._pages.get(target.partition("?")[0])
        if make is None:
            return _error(HTTPStatus.NOT_FOUND), method != "HEAD"
        try:
            return make(_accept(rest_of_head)), method != "HEAD"
        except Exception:  # metrics of plugins may cause any exception, and the supervisor must continue
            logger.exception("the page %s can't be created", target)
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR), method != "HEAD"

    def left(self, client: "_Client") -> None:
        """Called when a client was disconnected."""
        self._clients.discard(client)

    def _listen(self) -> None:
        host, port = self._address
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(MAX_CLIENTS)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            self._warn(error)
            self._retry = self._loop.call_later(RETRY_S, self._listen)
            return
        self._sock = sock
        self.port = sock.getsockname()[1]
        self._loop.watch(sock, partial(self._accept, sock))
        logger.info("metrics are at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, self.port)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            # Only a log line: calls are more important, and are still served.
            level = logging.WARNING if error.errno == errno.EADDRINUSE else logging.ERROR
            logger.log(level, "metrics can't be served on %s port %d: %s. It is tried again", *self._address, error.strerror)

    def _accept(self, sock: socket.socket) -> None:
        try:
            connection, _ = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors. A connection that can't be accepted would wake this process again and again.
            logger.error("a client of the metrics can't be accepted: %s", error.strerror)
            self.close()
            self._retry = self._loop.call_later(RETRY_S, self._listen)
            return
        if len(self._clients) >= MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        self._clients.add(_Client(self, self._loop, connection))


class _Client:
    """One connection: a request, a response, and the end."""

    def __init__(self, server: HttpServer, loop: EventLoop, sock: socket.socket) -> None:
        self.sock = sock
        self._server = server
        self._loop = loop
        self._received = bytearray()
        self._unsent = memoryview(b"")
        self._timer = loop.call_later(CLIENT_TIMEOUT_S, self.close)
        loop.watch(sock, self._read)

    def close(self) -> None:
        self._timer.cancel()
        self._loop.unwatch(self.sock)
        self.sock.close()
        self._server.left(self)

    def _read(self) -> None:
        try:
            data = self.sock.recv(MAX_REQUEST_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        if self._unsent:  # the response is being sent: more data is read and ignored, or closing would reset the connection
            return
        self._received += data
        head, is_whole, _ = bytes(self._received).partition(b"\r\n\r\n")
        if is_whole:
            self._respond(*self._server.page_of(head))
        elif len(self._received) >= MAX_REQUEST_BYTES:
            self._respond(_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), is_wanted=True)

    def _respond(self, page: Page, is_wanted: bool) -> None:
        head = (
            f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
            f"Content-Type: {page.content_type}\r\n"
            f"Content-Length: {len(page.body)}\r\n"
            f"{'Allow: GET, HEAD' + chr(13) + chr(10) if page.status is HTTPStatus.METHOD_NOT_ALLOWED else ''}"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        self._unsent = memoryview(head.encode("ascii") + (page.body if is_wanted else b""))
        self._write()

    def _write(self) -> None:
        try:
            sent = self.sock.send(self._unsent, NO_SIGNAL)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.close()
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.watch_writing(self.sock, self._write)
        else:
            self.close()


def _error(status: HTTPStatus) -> Page:
    return Page(f"{status.value} {status.phrase}\n".encode(), status=status)


def _accept(header_lines: str) -> str:
    """Return the header Accept of a request. Several are one list. Args: header_lines: the head without the request line."""
    fields = (line.partition(":") for line in header_lines.split("\r\n"))
    return ",".join(value.strip() for name, _, value in fields if name.lower() == "accept")
