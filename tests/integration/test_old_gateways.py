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
from tests.integration.old_gateway import BODY, OldGateway, Release
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
        assert {name.lower(): value for name, value in answer.headers} == shown

        answer = gateway.get("2", [("rewrite", "{}")], "/get?a=1")
        assert answer.upstream is not None
        target, headers, body = answer.upstream
        assert (target, headers["x-resp-a6-runner"], body) == ("/get?a=1&a6_runner=Python", "Python", BODY)
        assert (gateway.asked, gateway.prepared, gateway.timeout_s) == ([], [None, None], 5.0)
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


RELEASES: list[Release] = [(2, 7), (2, 9), (2, 12), (2, 15), (3, 2), (3, 6)]
SINCE_2_9, SINCE_2_12, SINCE_2_15 = RELEASES[1:], RELEASES[2:], RELEASES[3:]
TEXT = [("Content-Type", "text/plain"), ("X-Up", "1")]


@pytest.fixture(params=RELEASES, ids=release_text)
def release(request: pytest.FixtureRequest) -> Release:
    """A release that differs from the others."""
    chosen: Release = request.param
    return chosen


@pytest.fixture
def each(runner: RunnerProcess, release: Release) -> Iterator[OldGateway]:
    """A gateway of each release on the shared runner."""
    gateway = OldGateway(runner.path, release)
    gateway.variables["consumer_name"] = b"jack"
    yield gateway
    gateway.close()


def test_the_plugins_of_2021_on_scripted_gateways(each: OldGateway, release: Release) -> None:
    """Both sample plugins work. Since 2.9, the gateway sends a key, and the runner can send info requests."""
    stopped, rewritten = each.get("1", [STOP], "/get"), each.get("2", [("rewrite", "{}")], "/get?a=1")

    assert (stopped.status, stopped.body, stopped.values("x-resp-a6-runner")) == (201, b"Hello, Python Runner of APISIX", ["Python"])
    assert rewritten.upstream is not None
    assert rewritten.upstream.target == "/get?a=1&a6_runner=Python"
    keys = [f"route#{route}#ext-plugin-pre-req#1" for route in "12"]
    assert each.prepared == (keys if release in SINCE_2_9 else [None, None])
    assert (each.asked == []) == (release not in SINCE_2_9)


def test_variables_since_2_9(each: OldGateway, release: Release) -> None:
    """An info request for a variable has a result since 2.9."""
    answer = each.get("v", [("ask-or-go-on", "{}")], "/get")
    assert (answer.status, answer.body) == (200, b"jack" if release in SINCE_2_9 else b"can't be asked")


def test_bodies_since_2_12(each: OldGateway, release: Release) -> None:
    """An info request for the body has a result since 2.12; before, the client gets a 503."""
    answer = each.get("b", [("body-length", "{}")], "/get")
    length = f"{len(BODY)} {sum(BODY)}".encode()
    assert (answer.status, answer.body) == ((200, length) if release in SINCE_2_12 else (503, b""))


def test_degradation_since_2_12(each: OldGateway, release: Release) -> None:
    """`allow_degradation` lets a request pass although its plugin has failed since 2.12."""
    answer = each.get("d", [("fail-and-degrade", "{}")], "/get", allow_degradation=True)
    assert (answer.status, answer.upstream is not None) == ((200, True) if release in SINCE_2_12 else (503, False))


def test_response_headers_since_2_13(each: OldGateway, release: Release) -> None:
    """Response headers of a request phase are sent since 2.13. Repeated ones are sent since 2.14."""
    answer = each.get("r", [("add-response-headers", "{}")], "/get")
    expected = (["1"], ["1", "2"]) if release in SINCE_2_15 else ([], [])
    assert (answer.status, answer.values("x-one"), answer.values("x-two")) == (200, *expected)


def test_repeated_headers_of_a_reply_since_2_14(each: OldGateway, release: Release) -> None:
    """The status is always sent, because 2.7 needs it. Repeated headers of a reply reach the client since 2.14."""
    answer = each.get("s", [("reply-twice", "{}")], "/get")
    expected = ["1", "2"] if release in SINCE_2_15 else ["2"]
    assert (answer.status, answer.body, answer.values("x-two")) == (200, b"hello", expected)


def test_headers_of_a_request(each: OldGateway, release: Release) -> None:
    """All headers of a request arrive from 2.13 to 3.8, else the first 100. An edit keeps those that did not arrive."""
    headers = {f"x-{number}": str(number) for number in range(150)}
    counted = each.get("h", [("count-headers", "{}")], "/get", headers)
    edited = each.get("t", [("tag", '{"tag": "a"}')], "/get", headers)

    assert counted.body == (b"151" if release in SINCE_2_15 else b"100")
    assert edited.upstream is not None
    assert edited.upstream.headers == {"host": "gw.example.com", **headers, "x-tags": "a"}


def test_new_bodies_since_3_6(each: OldGateway, release: Release) -> None:
    """A new body reaches the upstream since 3.6. Before, the gateway ignores it, and the other edits are applied."""
    answer = each.get("n", [("new-body", "{}"), ("tag", '{"tag": "a"}')], "/get")
    assert answer.upstream is not None
    assert (answer.upstream.body, answer.upstream.headers["x-tags"]) == (b"new" if release == (3, 6) else BODY, "a")


def test_a_new_path_keeps_the_query(each: OldGateway) -> None:
    """Before 3.16, the gateway drops the query if only the path changes, so the runner sends an argument again."""
    answer = each.get("p", [("rewrite-path", '{"path": "/new"}')], "/get?a=1&b=2")
    assert answer.upstream is not None
    path, _, query = answer.upstream.target.partition("?")
    assert (path, sorted(query.split("&"))) == ("/new", ["a=1", "b=2"])


@pytest.mark.parametrize("release", SINCE_2_9, ids=release_text, indirect=True)
def test_arguments_after_proxy_rewrite(each: OldGateway, release: Release) -> None:
    """Before 2.10.2, an argument that changes together with the path is lost after proxy-rewrite."""
    conf = [("rewrite-path", '{"path": "/new"}'), ("edit-argument", '{"n": "1"}')]
    answer = each.get("x", conf, "/get", rewritten="/pr/a?from=pr")
    assert answer.upstream is not None
    assert answer.upstream.target == ("/new?from=pr" if release == (2, 9) else "/new?from=pr&n=1")


@pytest.mark.parametrize("release", SINCE_2_15, ids=release_text, indirect=True)
def test_headers_of_a_response_since_3_2(each: OldGateway, release: Release) -> None:
    """In 2.15, Content-Type is lost in the response phase. Since 3.2, it arrives, whether a plugin has changed something or not."""
    changed = each.respond("c", [("set-types", "{}")], b"{}", TEXT)
    same = each.respond("m", [("leaky-pass", "{}")], b"{}", TEXT)
    has_type = release >= (3, 2)

    assert (changed.status, changed.body, changed.values("x-one"), changed.values("x-up")) == (200, b"{}", ["1"], ["1"])
    assert changed.values("content-type") == (["application/json"] if has_type else [])
    assert (same.status, same.values("x-up")) == (200, ["1"])
    assert same.values("content-type") == (["text/plain"] if has_type else [])


@pytest.mark.parametrize("release", SINCE_2_15, ids=release_text, indirect=True)
def test_bodies_of_responses_since_3_0(each: OldGateway, release: Release) -> None:
    """A plugin can read a response since 3.0. In 2.15, the client gets the original body, with 503, or 200 if the route allows it."""
    answers = [
        each.respond("f", [("hide-body", "{}")], b"a secret", allow_degradation=False),
        each.respond("f", [("hide-body", "{}")], b"a secret", allow_degradation=True),
    ]
    expected = [(200, b"a ******")] * 2 if release >= (3, 2) else [(503, b"a secret"), (200, b"a secret")]
    assert ([(answer.status, answer.body) for answer in answers], each.asked) == (expected, [RespBody()] * 2)


@pytest.mark.parametrize("release", [(2, 9), (2, 12)], ids=release_text)
def test_tokens_of_several_workers(runner: RunnerProcess, release: Release) -> None:
    """Since 2.10.3, a token that one worker has received is used by the others. Before, each worker sends its own PrepareConf."""
    tokens: dict[str, int] = {}
    workers = [OldGateway(runner.path, release, tokens) for _ in range(3)]
    bodies = [worker.get("w", [STOP], "/get").body for worker in workers]
    for worker in workers:
        worker.close()

    assert bodies == [b"Hello, Python Runner of APISIX"] * 3
    assert [len(worker.prepared) for worker in workers] == ([1, 0, 0] if release == (2, 12) else [1, 1, 1])


@pytest.mark.slow
@pytest.mark.parametrize(("release", "status"), [((2, 7), 503), ((2, 9), 200)], ids=["2.7", "2.9"])
def test_a_slow_plugin(runner: RunnerProcess, release: Release, status: int) -> None:
    """A gateway before 2.8 gives up after 5 s. Its next call is served on a new connection."""
    gateway = OldGateway(runner.path, release)
    slow = gateway.get("z", [("takes-seven-seconds", "{}")], "/get")
    next_ = gateway.get("1", [STOP], "/get")
    gateway.close()

    assert (slow.status, next_.status) == (status, 201)


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
