# SPDX-License-Identifier: Apache-2.0
"""`check --admin` reads a running gateway, with GET requests only, and within limits."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from apisix.cli.routes.files import UnreadableRoutes
from apisix.cli.routes.live import Gateway, read_key
from tests.cli.checking import invoke

KEY = "s3cret-key-of-the-admin-api"
LISTS: dict[str, list[dict[str, Any]]] = {
    "routes": [{"id": "r", "uri": "/a", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "say", "value": '{"times": "x"}'}]}}}],
    "services": [{"id": "s", "plugins": {"ext-plugin-post-req": {"conf": [{"name": "say", "value": '{"times": 1}'}]}}}],
    "plugin_configs": [{"id": "p", "plugins": {"ext-plugin-post-resp": {"conf": [{"name": "stop", "value": ""}]}}}],
    "global_rules": [{"id": "g", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "sya", "value": ""}]}}}],
    "consumers": [{"username": "jack", "plugins": {"ext-plugin-pre-req": {"conf": [{"name": "nope", "value": ""}]}}}],
}

Respond = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def gateway(respond: Respond) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """Serve responses of `respond`, and yield the URL and the received requests: method, path and key."""
    requests: list[tuple[str, str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.command, self.path, self.headers.get("X-API-KEY")))
            respond(self)

        do_PUT = do_POST = do_DELETE = do_PATCH = do_GET

        def version_string(self) -> str:
            return "APISIX/2.15.3"

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
    handler.send_response(status)
    for name, value in (("Content-Length", str(len(body))), *headers):
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def admin_api(handler: BaseHTTPRequestHandler) -> None:
    """Respond as APISIX 3 does. There are no consumer groups."""
    kind = handler.path.rpartition("/")[2]
    if handler.headers.get("X-API-KEY") != KEY:
        send(handler, 401, b'{"error_msg":"failed to check token"}')
    elif kind not in LISTS:
        send(handler, 404, b'{"error_msg":"Unsupported resource type: consumer_groups"}')
    else:
        entries = [{"key": f"/apisix/{kind}/{value.get('id', value.get('username'))}", "value": value} for value in LISTS[kind]]
        send(handler, 200, json.dumps({"total": len(entries), "list": entries}).encode())


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    return file


def test_running_gateway(plugins: Path, key_file: Path) -> None:
    """Each kind is read once with GET, and the key is not printed. The release of the gateway is considered."""
    with gateway(admin_api) as (url, requests):
        result = invoke("check", "--plugins", plugins, "--admin", url, "--key-file", key_file)
    lines = result.stdout.replace(url, "URL").splitlines()

    kinds = ["routes", "services", "plugin_configs", "global_rules", "consumers", "consumer_groups"]
    assert requests == [("GET", f"/apisix/admin/{kind}", KEY) for kind in kinds]
    assert result.exit_code == 1
    assert lines[0].startswith("URL/apisix/admin/routes: route r, ext-plugin-pre-req: plugin 1, say: ")
    assert lines[1].startswith(
        "URL/apisix/admin/plugin_configs: plugin_config p, ext-plugin-post-resp: plugin 1, stop: it derives from Base"
    )
    assert lines[2].startswith("URL/apisix/admin/global_rules: global_rule g, ext-plugin-pre-req: plugin 1, sya: there is no plugin")
    assert lines[3].startswith("URL/apisix/admin/consumers: consumer jack, ext-plugin-pre-req: plugin 1, nope: there is no plugin")
    assert lines[4] == "3 plugins, 5 configurations: 4 problems"
    notes = result.stderr.replace(url, "URL").splitlines()
    assert notes[0] == "note: URL/apisix/admin/consumer_groups: the gateway has none of these (status 404)"
    assert notes[1].startswith(
        "note: plugin_config p: APISIX 2.15.3 (header Server) does not support info requests in ext-plugin-post-resp"
    )
    assert KEY not in result.output


def test_the_prefix_can_be_part_of_the_url(plugins: Path, key_file: Path) -> None:
    """The URL can be that of the server or of the admin API."""
    with gateway(admin_api) as (url, requests):
        invoke("check", "--plugins", plugins, "--admin", f"{url}/apisix/admin/", "--key-file", key_file)
    assert requests[0][1] == "/apisix/admin/routes"


@pytest.mark.parametrize(
    ("respond", "expected"),
    [
        (lambda handler: send(handler, 401, b"{}"), "expected status 200, got 401: the gateway refuses the key"),
        (lambda handler: send(handler, 500, b"{}"), "expected status 200, got 500"),
        (lambda handler: send(handler, 302, b"", [("Location", "http://192.0.2.1/")]), "expected status 200, got 302"),
        (lambda handler: send(handler, 200, b"<html>"), "the response is not JSON; is this the admin API?"),
        (lambda handler: send(handler, 200, b"[]"), "the response contains neither list nor node; is this the admin API of APISIX?"),
        (lambda handler: send(handler, 200, b'{"list": []'.ljust(2000)), "the response is larger than 1000 bytes, which is the limit"),
    ],
)
def test_wrong_responses(respond: Respond, expected: str) -> None:
    """Each failure reports what was expected. A redirect is not followed."""
    with gateway(respond) as (url, requests):
        with pytest.raises(UnreadableRoutes) as caught:
            list(Gateway(url, KEY, max_bytes=1000).sources([]))
        assert str(caught.value) == f"{url}/apisix/admin/routes: {expected}"
    assert len(requests) == 1


@pytest.mark.parametrize("in_head", [True, False])
def test_a_gateway_that_never_ends_its_response(in_head: bool) -> None:
    """The time limit applies to the whole response, even if bytes arrive all the time."""
    ended = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx: " if in_head else b"HTTP/1.1 200 OK\r\n\r\n")
        while not ended.wait(0.01):
            try:
                handler.wfile.write(b" ")
            except OSError:
                return

    with gateway(drip) as (url, _):
        try:
            with pytest.raises(UnreadableRoutes) as caught:
                list(Gateway(url, KEY, timeout_s=0.3).sources([]))
        finally:
            ended.set()
    assert caught.value.reason == "no complete response within 0.3 s"


def test_unreachable_gateway(plugins: Path, key_file: Path) -> None:
    """If a gateway can't be reached, the status is 2."""
    result = invoke("check", "--plugins", plugins, "--admin", "http://127.0.0.1:1", "--key-file", key_file)
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: http://127.0.0.1:1/apisix/admin/routes: can't be read: Connection refused; "
        "is this the admin API, whose default port is 9180?\n",
    )


def test_missing_key(plugins: Path) -> None:
    """Without --key-file no key is sent, and the message names the flag."""
    with gateway(admin_api) as (url, requests):
        result = invoke("check", "--plugins", plugins, "--admin", url)
    assert (result.exit_code, requests[0][2]) == (2, None)
    assert "got 401: the gateway needs a key; give it with --key-file" in result.stderr


@pytest.mark.parametrize("content", [b"", b"\n", b"k3y\nk3y", b"k3y \xff", b"k3y\r\nHost: evil"])
def test_a_key_file_without_a_key(tmp_path: Path, content: bytes) -> None:
    """The message does not repeat the content."""
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UnreadableRoutes, match="must contain the key of the admin API in one line") as caught:
        read_key(file)
    assert "k3y" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:9180", "ftp://a", "http://", "http://a:99999", "http://user:s3cret@a", "http://a/?api_key=s3cret"]
)
def test_urls(url: str) -> None:
    """An incorrect URL, or one that contains secrets, is refused. The message does not contain it."""
    with pytest.raises(UnreadableRoutes, match="--admin: must be a URL") as caught:
        Gateway(url, None)
    assert "s3cret" not in str(caught.value)


def test_key_file_without_admin(plugins: Path, key_file: Path) -> None:
    """--key-file without --admin is refused."""
    result = invoke("check", "--plugins", plugins, "--key-file", key_file)
    assert (result.exit_code, "--key-file can be used only with --admin" in result.output) == (2, True)
