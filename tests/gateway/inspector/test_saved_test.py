# SPDX-License-Identifier: Apache-2.0
"""Requests of a real `dev` are saved as tests, which pass in a process of their own."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.dev_process import TIMEOUT_S, Dev

pytestmark = pytest.mark.process

PLUGINS = """
import hashlib
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request, Response


class Edit(Plugin):
    def on_request(self, request: Request) -> None:
        request.headers["x-scheme"] = request.var("scheme") or ""
        request.headers["x-consumer"] = request.var("consumer_name") or "nobody"
        request.headers.discard("x-debug")
        request.args["page"] = "1"
        request.args.pop("old", None)
        request.path = "/v2" + request.path
        request.response_headers["x-seen"] = "yes"
        if request.method == "POST":
            order = request.json()
            order["tenant"] = "north"
            request.body = msgspec.json.encode(order)


class GuardConfig(msgspec.Struct):
    phrase: Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})]


class Guard(Plugin[GuardConfig]):
    def on_request(self, request: Request) -> Reply | None:
        if request.headers.get("x-api-key") != self.config.phrase:
            return Reply(401, "a key is missing", headers={"x-why": "key"})
        request.headers["x-token"] = hashlib.sha256(self.config.phrase.encode()).hexdigest()
        return None


class Broken(Plugin):
    def on_request(self, request: Request) -> None:
        raise KeyError("price")


class Shared(Plugin):
    def on_request(self, request: Request) -> None:
        request.metadata()["path"] = request.path

    def on_response(self, response: Response) -> None:
        response.headers["x-path"] = response.metadata()["path"]


class Later(Plugin):
    def on_response(self, response: Response) -> None:
        response.status = 202
        response.headers["x-later"] = "yes"
        response.body = response.body.upper()
"""
PHRASE = "correct-horse-battery-staple"
PRE, POST, RESP = "ext-plugin-pre-req", "ext-plugin-post-req", "ext-plugin-post-resp"
CHAINS: dict[str, dict[str, Any]] = {
    "/edit": {PRE: {"conf": [{"name": "edit", "value": "{}"}]}},
    "/guard": {PRE: {"conf": [{"name": "guard", "value": json.dumps({"phrase": PHRASE})}]}},
    "/broken": {PRE: {"conf": [{"name": "broken", "value": ""}]}},
    "/degraded": {POST: {"conf": [{"name": "broken", "value": ""}], "allow_degradation": True}},
    "/later": {PRE: {"conf": [{"name": "edit", "value": "{}"}]}, RESP: {"conf": [{"name": "later", "value": "{}"}]}},
    "/shared": {phase: {"conf": [{"name": "shared", "value": "{}"}]} for phase in (PRE, RESP)},
    "/unknown": {PRE: {"conf": [{"name": "nonesuch", "value": "{}"}]}},
    "/plain": {},
}


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """Start `dev` with the plugins and routes of this module."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "several.py").write_text(PLUGINS, encoding="utf-8")
    with Dev(tmp_path) as dev:
        upstream = {"nodes": {f"127.0.0.1:{dev.upstream_port}": 1}}
        routes = [{"id": uri.strip("/"), "uri": uri, "upstream": upstream, "plugins": chain} for uri, chain in CHAINS.items()]
        (tmp_path / "apisix.yaml").write_text(json.dumps({"routes": routes}) + "\n#END\n", encoding="utf-8")
        dev.event("notice", text="apisix.yaml: routes reloaded")
        yield dev


def called(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send a request, and return the status and the body of the response. Underscores in names of headers become hyphens."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urlopen(Request(url, body, fields, method=method), timeout=3 * TIMEOUT_S) as response:  # noqa: S310  # a process of this test
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def test_saved_tests_pass(dev: Dev) -> None:
    """Edits, a body, a stop, a failure, a refused chain and the response phase. Secrets are not in the files."""
    called(dev.gateway + "/edit?old=1&q=a%20b", x_debug="1")
    called(dev.gateway + "/edit", "POST", b'{"item":"lamp"}', content_type="application/json", authorization=f"Bearer {PHRASE}")
    called(dev.gateway + "/guard")
    called(dev.gateway + "/guard", x_api_key=PHRASE)
    called(dev.gateway + "/broken")
    called(dev.gateway + "/degraded")
    called(dev.gateway + "/later")
    called(dev.gateway + "/shared")
    called(dev.gateway + "/unknown")
    inspector = re.findall(r"inspector +(\S+)", dev.welcome)[0]
    flows = json.loads(called(f"{inspector}/api/flows")[1])

    saved = [called(f"{inspector}/api/flows/{flow['id']}/test", "POST", b"{}", content_type="application/json") for flow in flows]

    assert [status for status, _ in saved] == [200] * 9, saved
    assert [json.loads(answer)["path"] for _, answer in saved] == [
        "tests/test_get_edit.py",
        "tests/test_post_edit.py",
        "tests/test_get_guard.py",
        "tests/test_get_guard_2.py",
        "tests/test_get_broken.py",
        "tests/test_get_degraded.py",
        "tests/test_get_later.py",
        "tests/test_get_shared.py",
        "tests/test_get_unknown.py",
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((dev.directory / "tests").glob("*.py")))
    assert PHRASE not in text
    parts = ("result.upstream.args", "'x-debug' not in", "result.client_headers", "metadata={'path': '/shared'}")
    for expected in (*parts, "status == 401", "status == 503", "'x-later'"):
        assert expected in text
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=dev.directory,
        capture_output=True,
        text=True,
        timeout=6 * TIMEOUT_S,
        check=False,
    )
    assert (ran.returncode, "11 passed" in ran.stdout) == (0, True), ran.stdout + text


def test_a_request_without_plugins(dev: Dev) -> None:
    called(dev.gateway + "/plain")
    inspector = re.findall(r"inspector +(\S+)", dev.welcome)[0]
    (flow,) = json.loads(called(f"{inspector}/api/flows")[1])

    status, answer = called(f"{inspector}/api/flows/{flow['id']}/test", "POST", b"{}", content_type="application/json")

    assert (status, b"no plugin of the runner ran" in answer) == (409, True)
    assert not (dev.directory / "tests").exists()


@pytest.mark.parametrize(("path", "size"), [("/edit", 100_000), ("/later", 100_000)])
def test_a_body_of_which_only_the_beginning_was_recorded(dev: Dev, path: str, size: int) -> None:
    """A test with the beginning of the body would send another request."""
    called(dev.gateway + path, "POST", json.dumps({"item": "x" * size}).encode(), content_type="application/json")
    inspector = re.findall(r"inspector +(\S+)", dev.welcome)[0]
    (flow,) = json.loads(called(f"{inspector}/api/flows")[1])

    status, answer = called(f"{inspector}/api/flows/{flow['id']}/test", "POST", b"{}", content_type="application/json")

    assert (status, b"only the first 65536 bytes of the body were recorded" in answer) == (409, True), answer
    assert not (dev.directory / "tests").exists()
