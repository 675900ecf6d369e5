# SPDX-License-Identifier: Apache-2.0
"""Gateways from 2.7 on, through a real socket to a real process. Source: gateway contract, 10."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apisix.gateway.phases.quirks import Version, release_text
from apisix.runner.wire.messages import ReqBody, RespBody, Var
from tests.gateway.bed import TestBed
from tests.integration.conftest import PLUGINS
from tests.integration.old_gateway import OldGateway, Release
from tests.runner_process import RunnerProcess, running, wait_until_accepting

CHECKOUT = Path(__file__).parents[2]
STOP = ("stop", '{"body":"hello"}')
NEED_INFO = ("ask-variable", "ask-in-coroutine", "ask-in-thread", "ask-by-needs", "ask-as-of-release-02")


@pytest.fixture
def gateway(runner: RunnerProcess) -> Iterator[OldGateway]:
    """A gateway of release 2.7 on the shared runner."""
    gateway = OldGateway(runner.path)
    yield gateway
    gateway.close()


def test_the_walk_through_of_2021(tmp_path: Path) -> None:
    """Started as the article of 2021 describes, the runner serves APISIX 2.7, with both sample plugins on two routes."""
    path = tmp_path / "runner.sock"
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "apisix/main.py", "start"],
            cwd=CHECKOUT,
            env={**os.environ, "APISIX_LISTEN_ADDRESS": f"unix:{path}"},
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    runner = RunnerProcess(path, process, log)
    try:
        wait_until_accepting(runner)
        gateway = OldGateway(path)
        answer = gateway.get("1", [STOP], "/get", {"accept": "*/*", "user-agent": "curl/7.64.1"})
        assert (answer.status, answer.body) == (201, b"Hello, Python Runner of APISIX")
        shown = {"x-resp-a6-runner": "Python", "accept": "*/*", "user-agent": "curl/7.64.1", "host": "gw.example.com"}
        shown["content-type"] = "text/plain; charset=utf-8"
        assert {name.lower(): value for name, value in answer.headers.items()} == shown

        answer = gateway.get("2", [("rewrite", "{}")], "/get?a=1")
        assert answer.upstream is not None
        target, headers = answer.upstream
        assert (target, headers["x-resp-a6-runner"]) == ("/get?a=1&a6_runner=Python", "Python")
        assert gateway.asked == []
        gateway.close()
        assert runner.stop() == 0
    finally:
        process.kill()
        process.wait()


def test_path_and_arguments_can_be_edited_on_2_7(gateway: OldGateway) -> None:
    """If the gateway can't report whether the path was rewritten, edits are sent as the author wrote them."""
    path = gateway.get("p", [("rewrite-path", '{"path": "/new %41"}')], "/get?a=1")
    argument = gateway.get("a", [("edit-argument", '{"n": "1"}')], "/get?a=1")
    assert path.upstream is not None
    assert argument.upstream is not None
    assert [path.upstream[0], argument.upstream[0]] == ["/new%20%2541?a=1", "/get?a=1&n=1"]
    assert gateway.asked == []


@pytest.mark.parametrize("plugin", NEED_INFO)
def test_an_info_request_is_refused_on_2_7(runner: RunnerProcess, gateway: OldGateway, plugin: str) -> None:
    """The info request is not sent: the call is refused, and the log names the release that supports it."""
    since = "2.9" if plugin in ("ask-variable", "ask-by-needs") else "2.12"
    assert gateway.get("1", [(plugin, "{}")], "/get").status == 503
    assert gateway.asked == []
    assert gateway.get("2", [STOP], "/get").status == 201  # on the same connection
    runner.wait_for_log(f"plugin {plugin} failed", f"It needs APISIX {since}: upgrade the gateway")


def test_a_plugin_may_do_without(gateway: OldGateway) -> None:
    """The refusal is an exception that a plugin can handle."""
    assert gateway.get("1", [("ask-or-go-on", "{}")], "/get").body == b"can't be asked"
    assert gateway.asked == []


def test_routes_without_key_share_no_instance(gateway: OldGateway) -> None:
    """Each of two routes with the same configuration has its own instance, although nothing distinguishes them."""
    count = [("count-calls", "{}")]
    assert [gateway.get(route, count, "/get").body for route in ("a", "a", "b", "a", "b")] == [b"1", b"2", b"1", b"3", b"2"]


@pytest.mark.parametrize(
    ("release", "plugin", "info", "since"),
    [
        ((2, 9), "ask-in-coroutine", ReqBody(), "2.12"),
        ((2, 9), "ask-in-thread", ReqBody(), "2.12"),
        ((2, 15), "hide-body", RespBody(), "3.0"),
    ],
)
def test_a_gateway_that_hangs_up(tmp_path: Path, release: Release, plugin: str, info: object, since: str) -> None:
    """One line names the info request after which the gateway hung up, and the release since which it is answered."""
    with running(plugins=[PLUGINS], environ={"APISIX_RUNNER_LOGGING_REPEATS": "2"}) as runner:
        gateway = OldGateway(runner.path, release)
        for _ in range(5):
            if plugin == "hide-body":
                answer = gateway.respond("1", [(plugin, "{}")], b"a secret")
                assert (answer.status, answer.body) == (503, b"a secret")
            else:
                assert gateway.get("1", [(plugin, "{}")], "/get").status == 503
        runner.wait_for_log(f'"plugin": "{plugin}"', "hung up instead of answering an info request", f"since {since}")
        runner.stop()
        log = runner.log()
    assert gateway.asked == [info] * 5
    assert log.count("instead of answering an info request, for the re") == 2
    assert (plugin == "hide-body") == ("the client gets the upstream's body unchanged" in log)


def test_a_release_that_answers(runner: RunnerProcess) -> None:
    """Since 2.12, the same plugins work."""
    gateway = OldGateway(runner.path, (2, 12))
    gateway.variables["consumer_name"] = b"jack"
    assert [gateway.get(plugin, [(plugin, "{}")], "/get").status for plugin in NEED_INFO] == [200] * len(NEED_INFO)
    assert Var("consumer_name") in gateway.asked
    gateway.close()


@pytest.mark.parametrize(
    ("conf", "rewritten", "target"),
    [
        (("edit-argument", '{"n": "1"}'), "/pr/a%2520b?from=pr", "/pr/a%2520b?from=pr&n=1"),
        (("edit-argument", '{"n": "1"}'), "", "/get?n=1"),
        (("rewrite-path", '{"path": "/pr/a%20b"}'), "/pr/x", "/pr/a%20b"),
        (("rewrite-path", '{"path": "/pr/a%20b"}'), "", "/pr/a%2520b"),
        (("rewrite-path", '{"path": "/pr/a b"}'), "/pr/x", "/pr/a%20b"),
    ],
)
def test_pre_req_after_a_global_rule(runner: RunnerProcess, conf: tuple[str, str], rewritten: str, target: str) -> None:
    """If a global rule has rewritten the path, an edit in ext-plugin-pre-req neither loses that change nor encodes it twice."""
    gateway = OldGateway(runner.path, (3, 15))
    answer = gateway.get(target + rewritten, [conf], "/get", rewritten=rewritten)
    gateway.close()
    assert answer.upstream is not None
    assert answer.upstream[0] == target


def test_no_info_request_if_pre_req_is_first() -> None:
    """With `plugins.pre_req_first`, the runner sends no info request in ext-plugin-pre-req."""
    with running(plugins=[PLUGINS], environ={"APISIX_RUNNER_PLUGINS_PRE_REQ_FIRST": "true"}) as runner:
        gateway = OldGateway(runner.path, (3, 15))
        path = gateway.get("p", [("rewrite-path", '{"path": "/a%20b"}')], "/get")
        argument = gateway.get("a", [("edit-argument", '{"n": "1"}')], "/get")
        gateway.close()
    assert path.upstream is not None
    assert argument.upstream is not None
    assert ([path.upstream[0], argument.upstream[0]], gateway.asked) == (["/a%2520b", "/get?n=1"], [])


@pytest.mark.parametrize("version", [(2, 7), (2, 9), (2, 12), (2, 15), (3, 2), (3, 6), (3, 18)], ids=release_text)
async def test_the_plugins_of_2021_on_each_release(runner: RunnerProcess, tmp_path: Path, version: Version) -> None:
    """The two sample plugins of the article work through an emulated gateway of each release."""
    async with TestBed(tmp_path, version, socket=str(runner.path), start_runner=False) as bed:
        bed.route("1", "/stop", {"ext-plugin-pre-req": {"conf": [{"name": "stop", "value": '{"body":"hello"}'}]}})
        bed.route("2", "/rewrite", {"ext-plugin-pre-req": {"conf": [{"name": "rewrite", "value": "{}"}]}})
        stopped, rewritten = await bed.request("GET", "/stop"), await bed.request("GET", "/rewrite?a=1")

    assert (stopped.status, stopped.body, stopped.values("x-resp-a6-runner")) == (201, b"Hello, Python Runner of APISIX", ["Python"])
    (seen,) = bed.upstream.seen
    assert (rewritten.status, seen["target"]) == (200, "/rewrite?a=1&a6_runner=Python")
