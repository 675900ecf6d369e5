# SPDX-License-Identifier: Apache-2.0
"""
As much of HTTP/1.1 as Prometheus and a probe need, in the supervisor's own loop.

One request a connection, a bounded one; who is slow is cut off, so that nobody keeps the supervisor from its work.
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
"""How long a client may take, from its connection to the last byte of the answer, in seconds."""
RETRY_S: Final = 1.0
"""How soon to try again to listen where that failed, in seconds: a runner that is ending may still have the address."""
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
        """Call `callback` whenever `source` can be written; None stops that."""

    def unwatch(self, source: HasFileno) -> None:
        """Watch `source` no longer."""

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, after `delay_s` seconds."""


class Page(NamedTuple):
    """What a request is answered with."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Pages = Mapping[str, Callable[[], Page]]
"""By path, what makes the page."""


def address_of(settings: Settings) -> tuple[str, int] | None:
    """
    Return host and port to listen on, None where nobody wants metrics.

    Raises: SettingsError: others could reach it, and nobody has allowed that.
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
    Answer requests for a few pages.

    Attributes:
        port: where it listens, 0 while it does not.
    """

    def __init__(self, loop: EventLoop, address: tuple[str, int], pages: Pages) -> None:
        self.port = 0
        self._loop = loop
        self._address = address
        self._pages = pages
        self._sock: socket.socket | None = None
        self._clients: set[_Client] = set()
        self._retry: Timer | None = None
        self._has_complained = False
        self._listen()

    def close(self) -> None:
        """Listen no longer, and cut off who is there."""
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
        """In a new worker, where the loop is closed already: close what is the supervisor's."""
        if self._sock is not None:
            self._sock.close()
        for client in self._clients:
            client.sock.close()

    def page_of(self, head: bytes) -> tuple[Page, bool]:
        """Return the answer to a request's head, and whether its body is wanted."""
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1."):
            return _error(HTTPStatus.BAD_REQUEST), True
        if method not in _METHODS:
            return _error(HTTPStatus.METHOD_NOT_ALLOWED), True
        make = self._pages.get(target.partition("?")[0])
        if make is None:
            return _error(HTTPStatus.NOT_FOUND), method != "HEAD"
        try:
            return make(), method != "HEAD"
        except Exception:  # a library that a plugin has fed may raise anything, and the supervisor goes on
            logger.exception("%s can't be made", target)
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR), method != "HEAD"

    def left(self, client: "_Client") -> None:
        """Take note that a client is done."""
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
            self._complain(error)
            self._retry = self._loop.call_later(RETRY_S, self._listen)
            return
        self._sock = sock
        self.port = sock.getsockname()[1]
        self._loop.watch(sock, partial(self._accept, sock))
        logger.info("metrics are at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, self.port)

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            self._has_complained = True
            # Calls are served all the same: they matter more.
            level = logging.WARNING if error.errno == errno.EADDRINUSE else logging.ERROR
            logger.log(level, "metrics can't be served on %s port %d: %s. It is tried again", *self._address, error.strerror)

    def _accept(self, sock: socket.socket) -> None:
        try:
            connection, _ = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors. What can't be accepted would wake us all the time.
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
    """One connection: a request, an answer, the end."""

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
        if self._unsent:  # it was answered already: what else it says is read and forgotten, or closing would reset the answer
            return
        self._received += data
        head, is_whole, _ = bytes(self._received).partition(b"\r\n\r\n")
        if is_whole:
            self._answer(*self._server.page_of(head))
        elif len(self._received) >= MAX_REQUEST_BYTES:
            self._answer(_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), is_wanted=True)

    def _answer(self, page: Page, is_wanted: bool) -> None:
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
