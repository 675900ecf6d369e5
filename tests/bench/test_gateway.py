# SPDX-License-Identifier: Apache-2.0
"""The benchmark through a gateway writes its routes, restores the gateway's configuration, and finds the processes to measure."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from bench import gateway
from bench.cases import CASES
from bench.files import CannotMeasure
from bench.gateway_routes import in_file, over_admin_api, routes
from bench.http_load import Load, cpu_s, listener_at, listeners, run, write_script

BY_NAME = {case.name: case for case in CASES}
KEY = "secret"


def test_each_case_has_a_route_and_one_has_no_plugins() -> None:
    plain, stop, response = routes([BY_NAME["stop"], BY_NAME["response"]], "127.0.0.1:1")

    assert plain["plugins"] == {}
    assert stop["plugins"] == {"ext-plugin-pre-req": {"conf": [{"name": "bench-stop", "value": ""}]}}
    assert response["plugins"] == {"ext-plugin-post-resp": {"conf": [{"name": "bench-response-set", "value": ""}]}}
    assert [route["uri"] for route in (plain, stop, response)] == ["/bench/plain", "/bench/stop", "/bench/response"]


def test_routes_are_added_to_a_file_and_removed_again(tmp_path: Path) -> None:
    file = tmp_path / "apisix.yaml"
    before = "# mine\nroutes:\n  - id: mine\nupstreams: []\n#END\n"
    file.write_text(before, encoding="utf-8")

    with in_file(file, routes([], "127.0.0.1:1")):
        text = file.read_text(encoding="utf-8")

    assert [route["id"] for route in yaml.safe_load(text)["routes"]] == ["mine", "bench-plain"]
    assert text.endswith("\n#END\n")
    assert file.read_text(encoding="utf-8") == before


def test_a_file_that_did_not_exist_is_removed(tmp_path: Path) -> None:
    with in_file(tmp_path / "apisix.yaml", []):
        assert (tmp_path / "apisix.yaml").exists()

    assert not (tmp_path / "apisix.yaml").exists()


@pytest.mark.parametrize("text", ["- a list\n", "routes: text\n", "routes: [\n"])
def test_a_file_of_another_form_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "apisix.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(CannotMeasure), in_file(file, []):
        pass

    assert file.read_text(encoding="utf-8") == text


class _AdminApi(BaseHTTPRequestHandler):
    """Records requests, and refuses those without the key."""

    seen: list[tuple[str, str, bytes]]

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers["X-API-KEY"] == KEY:
            self.seen.append((self.command, self.path, body))
        self.send_response(201 if self.headers["X-API-KEY"] == KEY else 401)
        self.end_headers()

    do_PUT = do_DELETE = _reply

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def admin() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    _AdminApi.seen = []
    with HTTPServer(("127.0.0.1", 0), _AdminApi) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", _AdminApi.seen
        server.shutdown()
        thread.join()


def test_routes_are_put_over_the_admin_api_and_deleted_again(admin: tuple[str, list[tuple[str, str, bytes]]]) -> None:
    url, seen = admin
    definitions = routes([], "127.0.0.1:1")

    with over_admin_api(url, KEY, definitions):
        assert [(method, path) for method, path, _ in seen] == [("PUT", "/apisix/admin/routes/bench-plain")]

    assert json.loads(seen[0][2]) | {"id": "bench-plain"} == definitions[0]
    assert [(method, path) for method, path, _ in seen[1:]] == [("DELETE", "/apisix/admin/routes/bench-plain")]


def test_a_refused_key_is_reported(admin: tuple[str, list[tuple[str, str, bytes]]]) -> None:
    with pytest.raises(CannotMeasure, match="401"), over_admin_api(admin[0], "other", routes([], "127.0.0.1:1")):
        pass


def test_an_admin_api_that_is_not_there_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(CannotMeasure, match="cannot be reached"), over_admin_api(f"http://127.0.0.1:{port}", KEY, routes([], "a:1")):
        pass


def test_the_gateway_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        assert listeners(url) == {os.getpid()}

    assert listeners(url) == set()


def test_a_runner_is_found_by_its_socket_even_if_that_was_renamed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "bound"))
        server.listen()
        (tmp_path / "bound").rename(tmp_path / "named")

        assert listener_at(tmp_path / "named") == os.getpid()

    assert listener_at(tmp_path / "named") is None


def test_cpu_time_is_that_of_the_processes() -> None:
    before = cpu_s([os.getpid()])
    while cpu_s([os.getpid()]) <= before:
        pass

    assert cpu_s([]) == 0


def _fake_wrk(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (directory / "wrk").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (directory / "wrk").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.process
def test_what_wrk_measured_is_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(requests=10, duration_s=2.0, status_errors=1, socket_errors=0, p50_us=3.0, p99_us=4.0)
    _fake_wrk(tmp_path, monkeypatch, f"echo text\necho '{json.dumps(vars(load))}'")

    assert run("http://127.0.0.1:1", write_script(BY_NAME["body"], tmp_path), connections=1, threads=1, seconds=1) == load


@pytest.mark.process
@pytest.mark.parametrize("script", ["echo unable to connect; exit 1", "true", "echo no figures"])
def test_wrk_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    _fake_wrk(tmp_path, monkeypatch, script)

    with pytest.raises(CannotMeasure, match="wrk failed"):
        run("http://127.0.0.1:1", tmp_path / "script", connections=1, threads=1, seconds=1)


@pytest.mark.process
def test_a_measurement_without_replies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(requests=0, duration_s=5.0, status_errors=0, socket_errors=2, p50_us=0.0, p99_us=0.0)
    _fake_wrk(tmp_path, monkeypatch, f"echo '{json.dumps(vars(load))}'")

    with pytest.raises(CannotMeasure, match="no reply within 5 s; 2 requests failed"):
        run("http://127.0.0.1:1", tmp_path / "script", connections=1, threads=1, seconds=1)


def test_missing_wrk_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")

    assert gateway.main(["--url", "http://127.0.0.1:1", "--routes", "x.yaml", "--socket", "x.sock"]) == 1
    assert "wrk" in capsys.readouterr().err
