# SPDX-License-Identifier: Apache-2.0
"""Calls through a real socket to a real process: what plugins may do, and what the gateway gets."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp, HTTPRespCallResp, PrepareConfReq, ReqBody, Rewrite, Stop, Var
from tests.integration.conftest import PLUGINS
from tests.peer import POST_REQ, POST_RESP, PRE_REQ, Peer
from tests.runner_process import RunnerProcess, running


def stop(reply: Any) -> Stop:
    """Return the Stop of a reply."""
    assert isinstance(reply, HTTPReqCallResp)
    assert isinstance(reply.action, Stop), reply
    return reply.action


def rewrite(reply: Any) -> Rewrite:
    """Return the Rewrite of a reply."""
    assert isinstance(reply, HTTPReqCallResp)
    assert isinstance(reply.action, Rewrite), reply
    return reply.action


def body(reply: Any) -> bytes:
    """Return the body of a Stop."""
    return bytes(stop(reply).body)


def headers(message: Any) -> dict[str, str | None]:
    """Return the headers of a message."""
    return dict(message.headers)


FRAMED = (("host", "example.com"), ("content-length", "60"), ("transfer-encoding", "chunked"), ("cookie", "a=1"), ("accept", "*/*"))


def test_length_is_never_set(peer: Peer) -> None:
    """
    Whichever API sets the content-length of a request, it is not sent, because the gateway would parse the rest of the body as a request.
    """
    refused = peer.request(peer.prepare(("sets-length", "{}")), method="POST", headers=FRAMED)
    base = peer.request(peer.prepare(("LegacyLength", "{}")), method="POST", headers=FRAMED)
    plugin_base = peer.request(peer.prepare(("release-02-length", "{}")), method="POST", headers=FRAMED)

    assert ErrResp(ErrCode.SERVICE_UNAVAILABLE) == refused
    assert headers(rewrite(base)) == {"x-a": "1"}
    assert headers(rewrite(plugin_base)) == {"x-a": "1"}
    assert bytes(rewrite(plugin_base).body) == b"hello"


def test_headers_that_frame_a_request_survive_an_allow_list(peer: Peer) -> None:
    """Deleting all headers except a few deletes neither the length nor the host."""
    reply = peer.request(peer.prepare(("keeps-few", "{}")), method="POST", headers=FRAMED)
    assert headers(rewrite(reply)) == {"transfer-encoding": None, "cookie": None}


@pytest.mark.parametrize(
    ("kind", "expected"), [("text", b"text"), ("bytearray", b"bytes"), ("unprepared", None), ("status", None), ("dict", None)]
)
def test_reply_that_is_hard_to_encode(peer: Peer, kind: str, expected: bytes | None) -> None:
    """
    A value assigned to a reply is converted, or the call is refused at once. In the response phase, the client does not get the
    upstream's body.
    """
    requested = peer.request(peer.prepare(("odd-reply", kind)))
    responded = peer.respond(peer.prepare(("odd-reply", kind), key=POST_RESP))

    if expected is None:
        assert ErrResp(ErrCode.SERVICE_UNAVAILABLE) == requested
        assert (responded.status, responded.body) == (503, b"503 Service Unavailable\n")
    else:
        assert (stop(requested).status, body(requested)) == (403, expected)
        assert (responded.status, responded.body) == (403, expected)


# What comes in.


def test_first_call_has_id_0(peer: Peer) -> None:
    """The first call of a gateway has id 0, which is echoed like any other."""
    reply = peer.request(peer.prepare(("mirror", "{}")), id=0)
    assert reply.id == 0
    assert json.loads(body(reply))["id"] == 0


def test_argument_without_value(peer: Peer) -> None:
    """`?flag` reads as an empty string, as `?flag=` does."""
    reply = peer.request(peer.prepare(("mirror", "{}")), args=[("flag", None), ("empty", ""), ("x", "1"), ("x", "2")])
    assert json.loads(body(reply))["args"] == [["flag", ""], ["empty", ""], ["x", "1"], ["x", "2"]]


def test_path_that_is_not_utf8(peer: Peer) -> None:
    """`GET /%ff` reaches the plugin, and its byte is preserved."""
    path = b"/\xff".decode("utf-8", "surrogateescape")
    assert b"/\xff".hex() == json.loads(body(peer.request(peer.prepare(("mirror", "{}")), path=path)))["path"]


def test_path_that_is_not_utf8_goes_back_byte_for_byte(peer: Peer) -> None:
    """A path with bytes that are not UTF-8 can be sent back."""
    token = peer.prepare(("rewrite-path", json.dumps({"path": "/new"})))
    assert rewrite(peer.request(token, path=b"/\xff".decode("utf-8", "surrogateescape"))).path == "/new"


def test_empty_configuration(peer: Peer) -> None:
    """A PrepareConf without plugins gets a token, and its calls pass."""
    token = peer.prepare()
    assert peer.request(token) == HTTPReqCallResp(7, None)


def test_response_call_of_an_empty_configuration_keeps_the_headers(peer: Peer) -> None:
    """Without plugins, a response keeps its headers, which an empty reply would remove."""
    reply = peer.respond(peer.prepare(key=POST_RESP))
    assert HTTPRespCallResp(7, 0, [("Content-Type", "text/html")], b"") == reply


def test_same_plugin_twice(peer: Peer) -> None:
    """One plugin can be twice in a chain, each time with its own configuration, in the order of the gateway."""
    token = peer.prepare(("tag", '{"tag": "one"}'), ("tag", '{"tag": "two"}'))
    assert headers(rewrite(peer.request(token))) == {"x-tags": "one,two"}


def test_both_legacy_apis_in_one_chain(peer: Peer) -> None:
    """Plugins of both legacy APIs and of the current one run side by side, in the order of the gateway, and see each other's edits."""
    token = peer.prepare(("tag", '{"tag": "new"}'), ("Legacy", "{}"), ("release-02", "raw conf"), ("tag", '{"tag": "end"}'))
    assert headers(rewrite(peer.request(token))) == {"x-tags": "new,base,raw conf,end"}


@pytest.mark.parametrize("size", [1 << 20, 300_000, 1])
def test_body(peer: Peer, size: int) -> None:
    """Bodies of 1 MiB and more arrive completely."""
    reply = peer.request(peer.prepare(("body-length", "{}")), answers={"body": b"x" * size})
    assert f"{size} {size * ord('x')}".encode() == body(reply)


def test_binary_body(peer: Peer) -> None:
    """A binary body is read and replaced byte for byte."""
    binary = bytes(range(256))
    reply = peer.request(peer.prepare(("replace-body", "{}")), answers={"body": binary})
    assert rewrite(reply).body == binary[::-1]


def test_no_body(peer: Peer) -> None:
    """A request without a body reads as empty bytes."""
    assert body(peer.request(peer.prepare(("body-length", "{}")))) == b"0 0"


def test_prepare_on_a_second_connection(runner: RunnerProcess) -> None:
    """PrepareConf is answered while another connection is open and silent, and the token is valid on all connections."""
    with runner.peer() as first, runner.peer() as second:
        token = second.prepare(("tag", '{"tag": "one"}'))
        assert headers(rewrite(first.request(token))) == {"x-tags": "one"}


def test_key_may_be_absent(peer: Peer) -> None:
    """A gateway before 2.9 sends no key and answers no info request, so none is sent to it."""
    assert headers(rewrite(peer.request(peer.prepare(("tag", '{"tag": "one"}'), key=None)))) == {"x-tags": "one"}
    assert peer.respond(peer.prepare(("size", "{}"), key=None)).status == 503
    assert peer.asked == []


@pytest.mark.parametrize("key", ["route#pc#ext-plugin-post-req#1795858440#1795858440", "route&consumer#1&jack#ext-plugin-post-req#1&2"])
def test_phase_of_a_key_with_more_parts(peer: Peer, key: str) -> None:
    """The phase is also known on routes with a plugin config or a consumer."""
    assert body(peer.request(peer.prepare(("show-phase", "{}"), key=key))) == b"ext-plugin-post-req"


# How plugins run.


def test_coroutine(peer: Peer) -> None:
    """A coroutine reads the body and variables, and each info request is sent once."""
    reply = peer.request(peer.prepare(("async-body", "{}")), answers={"body": b"text", "consumer_name": b"jack"})
    assert body(reply) == b"text jack jack"
    assert [ReqBody(), Var("consumer_name")] == peer.asked


def test_needs(peer: Peer) -> None:
    """Values that `needs` names are fetched before the hook. The plain accessors then work in a coroutine too."""
    reply = peer.request(peer.prepare(("needs", "{}")), answers={"body": b"text", "consumer_name": b"jack"})
    assert body(reply) == b"text jack"


def test_plain_accessor_in_a_coroutine(runner: RunnerProcess, peer: Peer) -> None:
    """A plain `read()` in a coroutine fails the call, and the log names the async variant."""
    assert peer.request(peer.prepare(("plain-in-coroutine", "{}"))) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    runner.wait_for_log("aread")


def test_thread(peer: Peer) -> None:
    """A blocking plugin reads the body in its thread."""
    assert body(peer.request(peer.prepare(("blocking-read", "{}")), answers={"body": b"text"})) == b"in a thread: text"


def test_sleeping_plugin_delays_no_other_call(runner: RunnerProcess) -> None:
    """If two clients call at the same time, a plugin that sleeps does not delay the other call, after it was marked as blocking."""
    with runner.peer() as first, runner.peer() as second:
        slow = first.prepare(("sleep", '{"seconds": 0.4}'))
        first.request(slow)  # marks the plugin
        endless = first.prepare(("sleep", '{"seconds": 1}'))
        ended = threading.Event()

        def wait() -> None:
            first.request(endless)
            ended.set()

        thread = threading.Thread(target=wait)
        thread.start()
        quick = second.prepare(("tag", '{"tag": "one"}'))
        for _ in range(20):
            second.request(quick)
        assert not ended.is_set()
        thread.join()
        assert ended.is_set()


def test_setup_runs_once(peer: Peer) -> None:
    """`setup` is awaited by the first call, and the plugin keeps the objects that it creates."""
    token = peer.prepare(("slow-setup", "{}"))
    assert [headers(rewrite(peer.request(token)))["x-made"] for _ in range(2)] == ["True", "True"]


def test_raised_reply(peer: Peer) -> None:
    """A reply can be raised as well as returned."""
    assert stop(peer.request(peer.prepare(("raise-reply", "{}")))).status == 418


# Failures, request phase: design, 5, row by row.


@pytest.mark.parametrize(
    ("plugin", "value"),
    [
        ("no-such-plugin", "{}"),
        ("strict", '{"a": "no number"}'),
        ("size", "{}"),  # has no on_request
    ],
)
def test_refused_chain(runner: RunnerProcess, peer: Peer, plugin: str, value: str) -> None:
    """A chain that can't run also gets a token, and each of its calls is refused. The reason is logged once."""
    token = peer.prepare((plugin, value), ("tag", '{"tag": "one"}'), key=f"route#{plugin}#ext-plugin-pre-req#1")
    for _ in range(3):
        assert peer.request(token) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    runner.wait_for_log(plugin)
    assert sum(f"route#{plugin}#" in line for line in runner.log().splitlines()) == 1


@pytest.mark.parametrize(
    "plugin",
    ["fail", "async-fail", "quit", "async-quit", "blocking-quit", "LegacyQuit", "release-02-quit", "failing-setup", "number", "too-long"],
)
def test_failing_plugin(runner: RunnerProcess, peer: Peer, plugin: str) -> None:
    """If a plugin raises an exception, even SystemExit, only its call fails. The worker and the connection continue."""
    token = peer.prepare((plugin, "{}"))
    assert peer.request(token) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    assert peer.request(peer.prepare(), id=8) == HTTPReqCallResp(8, None)


def test_traceback_is_logged(runner: RunnerProcess, peer: Peer) -> None:
    """The log shows the line in which a plugin failed."""
    peer.request(peer.prepare(("fail", "{}")))
    runner.wait_for_log("request_phase.py")
    runner.wait_for_log("this plugin always fails")


def test_failing_plugin_that_may_pass(peer: Peer) -> None:
    """With `on_error = "pass"`, the request continues with the edits of the other plugins, but without those of the failed one."""
    token = peer.prepare(("tag", '{"tag": "one"}'), ("fail-softly", "{}"), ("tag", '{"tag": "two"}'))
    assert headers(rewrite(peer.request(token))) == {"x-tags": "one,two"}


def test_unknown_token(peer: Peer) -> None:
    """The reply for a token that was never issued is CONF_TOKEN_NOT_FOUND."""
    assert peer.request(12345) == ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND)


def test_unknown_token_in_the_response_phase(peer: Peer) -> None:
    """The same applies to the response phase."""
    assert peer.respond(12345) == ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND)


# Failures, response phase: the upstream's body must not come through.

UNAVAILABLE = HTTPRespCallResp(7, 503, [("content-type", "text/plain; charset=utf-8")], b"503 Service Unavailable\n")


@pytest.mark.parametrize("plugin", ["leaky", "response-quit", "response-too-long", "no-such-plugin", "tag"])
def test_failing_response_plugin(peer: Peer, plugin: str) -> None:
    """A failure in the response phase replaces the response, so that nothing leaks that the plugin should have removed."""
    assert peer.respond(peer.prepare((plugin, "{}"), key=POST_RESP)) == UNAVAILABLE


def test_failing_response_plugin_that_may_degrade(peer: Peer) -> None:
    """With `on_error = "degrade"` the gateway gets the error frame."""
    assert peer.respond(peer.prepare(("leaky-degrade", "{}"), key=POST_RESP)) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)


def test_failing_response_plugin_that_may_pass(peer: Peer) -> None:
    """With `on_error = "pass"`, the response continues with the edits of the other plugins."""
    reply = peer.respond(peer.prepare(("leaky-pass", "{}"), ("size", "{}"), key=POST_RESP))
    assert headers(reply) == {"Content-Type": "text/html", "x-body-size": "19"}


def test_response_body_is_replaced(peer: Peer) -> None:
    """A replaced body is sent with all headers, except those that described the old body."""
    original = [("Content-Type", "text/html"), ("Content-Length", "19"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    reply = peer.respond(peer.prepare(("redact", "{}"), key=POST_RESP), headers=original)
    assert reply.body == b"upstream says *****"
    assert list(reply.headers) == [("Content-Type", "text/html"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]


def test_response_is_replaced_by_a_reply(peer: Peer) -> None:
    """A Reply without a body gets one in the response phase, because the client would otherwise get the upstream's body."""
    reply = peer.respond(peer.prepare(("replace", "{}"), key=POST_RESP))
    assert reply.status == 404
    assert reply.body
    assert b"hello" not in reply.body


# Deadlines and limits.


@pytest.fixture(scope="module")
def impatient() -> Iterator[RunnerProcess]:
    """A runner with a short time limit for calls."""
    limits = {"APISIX_RUNNER_LIMITS_PLUGIN_TIMEOUT": "0.2", "APISIX_RUNNER_LIMITS_INFO_TIMEOUT": "0.2"}
    with running(plugins=[PLUGINS], environ=limits) as runner:
        yield runner


@pytest.mark.parametrize("plugin", [("linger", '{"seconds": 30}'), ("block-forever", "{}"), ("ask-forever", "{}")])
def test_deadline(impatient: RunnerProcess, plugin: tuple[str, str]) -> None:
    """A call that takes too long is refused: a coroutine is cancelled, a read raises an error, and a thread is abandoned."""
    with impatient.peer() as peer:
        token = peer.prepare(plugin)
        if plugin[0] == "ask-forever":
            peer.send(_request(token))
            assert peer.receive().info.name == "never"
            assert peer.receive() == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        else:
            assert peer.request(token) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        limit = "info_timeout" if plugin[0] == "ask-forever" else "plugin_timeout"
        impatient.wait_for_log(limit, f'"{plugin[0]}"')


@pytest.mark.parametrize("plugin", ["response-linger", "response-block"])
def test_deadline_in_the_response_phase(impatient: RunnerProcess, plugin: str) -> None:
    """The same applies to the response phase, where the response is replaced."""
    with impatient.peer() as peer:
        assert peer.respond(peer.prepare((plugin, "{}"), key=POST_RESP)) == UNAVAILABLE


def test_max_in_flight() -> None:
    """If the maximum number of calls wait, another call is refused at once, but a call that need not wait still runs."""
    with (
        running(environ={"APISIX_RUNNER_LIMITS_MAX_IN_FLIGHT": "1"}, plugins=[PLUGINS]) as runner,
        runner.peer() as first,
        runner.peer() as second,
    ):
        quick = second.prepare(("tag", '{"tag": "one"}'))
        second.request(quick)  # the first call of a configuration waits until its plugins are made
        waiting = first.prepare(("linger", '{"seconds": 5}'))
        first.send(_request(waiting))
        refused = second.prepare(("linger", '{"seconds": 0.01}'))
        while second.request(refused) != ErrResp(ErrCode.SERVICE_UNAVAILABLE):
            pass  # the first call may not have arrived yet
        assert headers(rewrite(second.request(quick))) == {"x-tags": "one"}


@pytest.mark.parametrize(("level", "told"), [("debug", True), ("info", False)])
def test_gateway_hangs_up(level: str, told: bool) -> None:
    """If the gateway hangs up, the call is cancelled and frees its place. Clients may do that often, so only the debug log reports it."""
    environ = {"APISIX_RUNNER_LIMITS_MAX_IN_FLIGHT": "1"}
    with running("--log-level", level, environ=environ, plugins=[PLUGINS]) as runner, runner.peer() as second:
        waits = second.prepare(("async-body", "{}"))
        quick = second.prepare(("linger", '{"seconds": 0.01}'))
        with runner.peer() as first:
            first.send(_request(waits))
            first.receive()  # its info request: it waits
            assert second.request(quick) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        while second.request(quick) == ErrResp(ErrCode.SERVICE_UNAVAILABLE):
            pass  # it is not cancelled yet
        assert ("a call was cancelled: the gateway hung up" in runner.log()) is told


def test_tokens_without_a_disk(tmp_path: Path) -> None:
    """If the store can't be written any more, a token that one worker issues is known to the others at once."""
    directory = tmp_path / "store"
    directory.mkdir(mode=0o700)
    environ = {"APISIX_RUNNER_CONF_STORE_FILE": str(directory / "tokens.sqlite")}
    with running("--workers", "4", environ=environ, plugins=[PLUGINS]) as runner, ExitStack() as stack:
        peers = [stack.enter_context(runner.peer()) for _ in range(16)]
        for peer in peers:
            peer.prepare()
        shutil.rmtree(directory)
        directory.write_bytes(b"in the way")
        for number, peer in enumerate(peers):
            token = peer.prepare(("tag", f'{{"tag": "{number}"}}'))
            assert headers(rewrite(peers[number - 1].request(token))) == {"x-tags": str(number)}
        runner.wait_for_log("are kept in memory, and are lost when this runner exits")


# After proxy-rewrite.


@pytest.mark.parametrize("key", [PRE_REQ, POST_REQ, "route#pc#ext-plugin-pre-req#1#2"])
def test_path_after_proxy_rewrite(peer: Peer, key: str) -> None:
    """If proxy-rewrite ran before, the received path is encoded. It is decoded before it is sent back, in each phase."""
    token = peer.prepare(("rewrite-path", '{"path": "/a%20b/%2541"}'), key=key)
    assert rewrite(peer.request(token, answers={"upstream_uri": b"/pr/a%20b"})).path == "/a b/%41"
    assert rewrite(peer.request(token, answers={"upstream_uri": b""})).path == "/a%20b/%2541"


def test_prepare_while_a_call_waits(peer: Peer) -> None:
    """PrepareConf and calls are sent one after another on one connection."""
    for tag in ("one", "two"):
        assert headers(rewrite(peer.request(peer.prepare(("tag", json.dumps({"tag": tag})))))) == {"x-tags": tag}


def test_same_content_same_token(peer: Peer) -> None:
    """A token is derived from the content: the same content gets the same token, and another key gets another one."""
    once = peer.prepare(("tag", '{"tag": "one"}'))
    assert peer.prepare(("tag", '{"tag": "one"}')) == once
    assert peer.prepare(("tag", '{"tag": "one"}'), key="route#2#ext-plugin-pre-req#1") != once
    peer.send(PrepareConfReq([], None))
    assert peer.receive().conf_token != 0


def _request(token: int) -> Any:
    from apisix.runner.wire.messages import HTTPReqCallReq

    return HTTPReqCallReq(id=7, method="GET", path="/", headers=[("host", "example.com")], conf_token=token)


ASKS_MUCH = """
import asyncio

from apisix import Plugin, Reply


class AsksMuch(Plugin):
    async def on_request(self, request):
        answers = await asyncio.gather(*(request.avar(f"{number}" + "x" * 60_000) for number in range(10)))
        return Reply(200, body=str(sum(map(len, answers))).encode())
"""


def test_long_info_requests_and_long_info_replies(tmp_path: Path) -> None:
    """The runner reads a long info reply that a gateway sends before it reads the next info request, even if requests wait to be sent."""
    (tmp_path / "asks.py").write_text(ASKS_MUCH)
    with running(plugins=[tmp_path]) as runner, runner.peer(5.0) as peer:
        answers = {f"{number}" + "x" * 60_000: b"y" * 1_000_000 for number in range(10)}
        assert body(peer.request(peer.prepare(("asks-much", "{}")), answers=answers)) == b"10000000"
