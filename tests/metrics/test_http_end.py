# SPDX-License-Identifier: Apache-2.0
"""The small HTTP server of the supervisor, through real sockets."""

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.metrics import http_end as metrics_http
from apisix.runner.metrics.http_end import MAX_CLIENTS, MAX_REQUEST_BYTES, HttpServer, Page, address_of
from apisix.runner.settings.table import Settings

PATIENCE_S = 10.0
GET = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"x" * (8 << 20)


def fail(accept: str) -> Page:
    raise ZeroDivisionError


PAGES = {
    "/page": lambda _: Page(b"hello\n"),
    "/large": lambda _: Page(LARGE),
    "/down": lambda _: Page(b"{}", "application/json", HTTPStatus.SERVICE_UNAVAILABLE),
    "/broken": fail,
    "/accept": lambda accept: Page(accept.encode()),
}


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor that wakes up at short intervals, so that `serve` notices when its client has finished."""
    before = signal.getsignal(signal.SIGHUP)
    reactor = Reactor()
    reactor.call_every(0.01, lambda: None)
    yield reactor
    reactor.close()
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def server(reactor: Reactor) -> Iterator[HttpServer]:
    """A server on a free port."""
    server = HttpServer(reactor, ("127.0.0.1", 0), PAGES)
    yield server
    server.close()


def connect(server: HttpServer) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port))
    client.settimeout(PATIENCE_S)
    return client


def serve(reactor: Reactor, client: Callable[[], bytes]) -> bytes:
    """Run the event loop until `client`, in its own thread, has finished. Return its result."""
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(client()))
    thread.start()
    reactor.run(until=lambda: not thread.is_alive())
    (data,) = received
    return data


def read_all(client: socket.socket) -> bytes:
    """Read until the other end closes."""
    data = bytearray()
    try:
        while piece := client.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        data += b"(reset)"
    return bytes(data)


def response_to(reactor: Reactor, server: HttpServer, request: bytes) -> bytes:
    def client() -> bytes:
        with connect(server) as sock:
            sock.sendall(request)
            return read_all(sock)

    return serve(reactor, client)


def test_a_page(reactor: Reactor, server: HttpServer) -> None:
    """A page is sent completely, with its length, and the connection is closed."""
    head, _, body = response_to(reactor, server, GET).partition(b"\r\n\r\n")

    assert b"hello\n" == body
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: 6",
        b"Cache-Control: no-store",
        b"Connection: close",
    ]


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /page?a=b HTTP/1.0", b"200 OK", b"hello\n"),
        (b"HEAD /page HTTP/1.1", b"200 OK", b""),
        (b"GET /down HTTP/1.1", b"503 Service Unavailable", b"{}"),
        (b"GET /nowhere HTTP/1.1", b"404 Not Found", b"404 Not Found\n"),
        (b"HEAD /nowhere HTTP/1.1", b"404 Not Found", b""),
        (b"POST /page HTTP/1.1", b"405 Method Not Allowed", b"405 Method Not Allowed\n"),
        (b"GET /broken HTTP/1.1", b"500 Internal Server Error", b"500 Internal Server Error\n"),
        (b"GET /page", b"400 Bad Request", b"400 Bad Request\n"),
        (b"GET /page HTTP/2.0", b"400 Bad Request", b"400 Bad Request\n"),
        (b"\x16\x03\x01\x02", b"400 Bad Request", b"400 Bad Request\n"),
        (b"", b"400 Bad Request", b"400 Bad Request\n"),
    ],
)
def test_responses(reactor: Reactor, server: HttpServer, request_line: bytes, status: bytes, body: bytes) -> None:
    """Each request gets the response that HTTP requires."""
    head, _, got = response_to(reactor, server, request_line + b"\r\n\r\n").partition(b"\r\n\r\n")

    assert (head.split(b"\r\n")[0], got) == (b"HTTP/1.1 " + status, body)


@pytest.mark.parametrize(
    ("lines", "accept"),
    [
        (b"", b""),
        (b"Host: x\r\nAccept: text/plain;q=0.5\r\nX: y\r\n", b"text/plain;q=0.5"),
        (b"accept:a/b\r\nACCEPT: c/d, e/f\r\n", b"a/b,c/d, e/f"),
        (b"x-accept: a/b\r\nAccept\r\n", b""),
    ],
)
def test_what_the_client_accepts(reactor: Reactor, server: HttpServer, lines: bytes, accept: bytes) -> None:
    """A page gets the header Accept."""
    response = response_to(reactor, server, b"GET /accept HTTP/1.1\r\n" + lines + b"\r\n")

    assert response.partition(b"\r\n\r\n")[2] == accept


def test_a_request_in_pieces(reactor: Reactor, server: HttpServer) -> None:
    """A request can arrive byte by byte."""

    def client() -> bytes:
        with connect(server) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for index in range(len(GET)):
                sock.sendall(GET[index : index + 1])
            return read_all(sock)

    assert serve(reactor, client).endswith(b"\r\n\r\nhello\n")


def test_a_large_page(reactor: Reactor, server: HttpServer) -> None:
    """A page that does not fit the socket's buffer is sent as the client reads it."""
    assert response_to(reactor, server, b"GET /large HTTP/1.1\r\n\r\n").endswith(LARGE)


def test_a_request_without_end(reactor: Reactor, server: HttpServer) -> None:
    """A request is read up to a limit."""
    answer = response_to(reactor, server, b"GET /page HTTP/1.1\r\n" + b"x" * MAX_REQUEST_BYTES)

    assert answer.startswith(b"HTTP/1.1 431 ") or answer.endswith(b"(reset)")


@pytest.mark.parametrize("request_", [b"GET /page HT", b"GET /large HTTP/1.1\r\n\r\n"])
def test_slow_clients_are_disconnected(reactor: Reactor, server: HttpServer, monkeypatch: pytest.MonkeyPatch, request_: bytes) -> None:
    """A client that does not finish its request, or does not read its response, is disconnected after a timeout."""
    monkeypatch.setattr(metrics_http, "CLIENT_TIMEOUT_S", 0.05)
    with connect(server) as client:
        client.sendall(request_)
        reactor.run(until=lambda: bool(server._clients))
        reactor.run(until=lambda: not server._clients)
        received = read_all(client)

    assert len(received) < len(LARGE)


def test_clients_that_hang_up(reactor: Reactor, server: HttpServer) -> None:
    """If a client hangs up before its response, its connection is closed."""
    for request_ in (b"", b"GET /pa", b"GET /large HTTP/1.1\r\n\r\n"):
        client = connect(server)
        client.sendall(request_)
        reactor.run(until=lambda: bool(server._clients))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        reactor.run(until=lambda: not server._clients)


def test_too_many_clients(reactor: Reactor, server: HttpServer) -> None:
    """Over the limit, a new client is disconnected immediately, and the existing ones are served."""
    clients = [connect(server) for _ in range(MAX_CLIENTS)]
    reactor.run(until=lambda: len(server._clients) == MAX_CLIENTS)
    one_too_many = response_to(reactor, server, b"")
    clients[0].sendall(GET)
    answer = serve(reactor, lambda: read_all(clients[0]))
    for client in clients:
        client.close()

    assert (one_too_many, answer.endswith(b"hello\n")) == (b"", True)


def test_an_address_in_use(reactor: Reactor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The server tries again, because the previous runner may still use the address, and logs this once."""
    monkeypatch.setattr(metrics_http, "RETRY_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as taken, caplog.at_level(logging.WARNING):
        server = HttpServer(reactor, taken.getsockname(), PAGES)
        turns = iter(range(5))
        reactor.run(until=lambda: next(turns, None) is None)
        assert server.port == 0
    reactor.run(until=lambda: server.port != 0)
    answer = response_to(reactor, server, GET)
    server.close()

    assert answer.endswith(b"hello\n")
    assert sum("It is tried again" in record.message for record in caplog.records) == 1


def test_closed_before_the_next_attempt(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is closed does not try to listen again."""
    monkeypatch.setattr(metrics_http, "RETRY_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = HttpServer(reactor, taken.getsockname(), PAGES)
        server.close()
    turns = iter(range(3))
    reactor.run(until=lambda: next(turns, None) is None)

    assert server.port == 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6(reactor: Reactor) -> None:
    """The loopback address of IPv6 can be used too."""
    server = HttpServer(reactor, ("::1", 0), PAGES)

    def client() -> bytes:
        with socket.create_connection(("::1", server.port)) as sock:
            sock.sendall(GET)
            return read_all(sock)

    assert serve(reactor, client).endswith(b"hello\n")
    server.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9092", ("127.0.0.1", 9092)),
        ("127.8.8.8:1", ("127.8.8.8", 1)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:9092", ("127.0.0.1", 9092)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """Any loopback address may be used."""
    assert address_of(Settings(metrics_address=text)) == address


def test_addresses_that_other_machines_can_reach() -> None:
    """An address that other machines can reach has to be allowed."""
    assert address_of(Settings()) is None
    for text in ("0.0.0.0:9092", "[::]:9092", "192.0.2.1:9092"):
        with pytest.raises(SettingsError, match=r"which other machines can reach.*or set metrics\.allow_remote to true"):
            address_of(Settings(metrics_address=text))
    assert address_of(Settings(metrics_address="0.0.0.0:9092", metrics_allow_remote=True)) == ("0.0.0.0", 9092)  # noqa: S104
