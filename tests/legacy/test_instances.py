# SPDX-License-Identifier: Apache-2.0
"""Which attributes of a legacy plugin belong to one call, and which to its configuration."""

from contextlib import ExitStack
from typing import Any

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq, ExtraInfoResp, HTTPReqCallReq, HTTPReqCallResp, Rewrite, Stop
from tests.peer import Peer
from tests.runner_process import RunnerProcess


def status(reply: Any) -> int | None:
    """Return the status of a Stop, or None if the request continued."""
    assert isinstance(reply, HTTPReqCallResp), reply
    return reply.action.status if isinstance(reply.action, Stop) else None


def headers(reply: Any) -> dict[str, str | None]:
    """Return the headers that a request's edits set."""
    assert isinstance(reply, HTTPReqCallResp), reply
    return dict(reply.action.headers) if isinstance(reply.action, Rewrite) else {}


def test_an_attribute_set_by_one_call_of_plugin_base_is_not_seen_by_the_next(peer: Peer) -> None:
    """The statuses are those of release 0.2: 401, none, 401, 401."""
    token = peer.prepare(("guard", "{}"))
    keys = [[], [("x-key", "right")], [], [("x-key", "wrong")]]
    assert [status(peer.request(token, headers=key)) for key in keys] == [401, None, 401, 401]


def test_a_call_that_waits_keeps_its_own_attributes(runner: RunnerProcess) -> None:
    """A second call arrives while the first waits for its body."""
    with runner.peer() as first, runner.peer() as second:
        token = first.prepare(("remembers", ""))
        first.send(HTTPReqCallReq(id=1, method="POST", path="/", headers=[("x-in", "first")], conf_token=token))
        assert isinstance(first.receive(), ExtraInfoReq)
        in_between = second.request(token, headers=[("x-in", "second")], answers={"body": b"b"})
        first.send(ExtraInfoResp(b"a"))
        assert headers(first.receive()) == {"x-user": "first"}
        assert headers(in_between) == {"x-user": "second"}


def test_calls_in_threads_keep_their_own_attributes(runner: RunnerProcess) -> None:
    """The plugin sleeps, so the runner finds that it is blocking, and runs its calls in threads at the same time."""
    users = [f"user-{number}" for number in range(8)]
    with ExitStack() as stack:
        peers = [stack.enter_context(runner.peer()) for _ in users]
        token = peers[0].prepare(("remembers", "sleep"))
        assert headers(peers[0].request(token, headers=[("x-in", "marks it")])) == {"x-user": "marks it"}
        for number, (peer, user) in enumerate(zip(peers, users, strict=True)):
            peer.send(HTTPReqCallReq(id=number, method="GET", path="/", headers=[("x-in", user)], conf_token=token))
        assert [headers(peer.reply()) for peer in peers] == [{"x-user": user} for user in users]


def test_each_call_has_its_own_result_of_config(peer: Peer) -> None:
    """The next call does not get what a call adds to the configuration, or to a list that `config` creates."""
    token = peer.prepare(("collects", "{}"))
    assert [headers(peer.request(token)) for _ in range(3)] == [{"x-errors": "1", "x-seen": "1"}] * 3


def test_a_config_that_fails_refuses_one_call(runner: RunnerProcess, peer: Peer) -> None:
    """The next call tries again. The log contains the line that failed, but not the value, which may contain secrets."""
    token = peer.prepare(("fails", "s3cret"))
    assert peer.request(token) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    assert status(peer.request(token)) is None
    runner.wait_for_log("it can't be configured: ValueError", "state.py:")
    assert "s3cret" not in runner.log()
