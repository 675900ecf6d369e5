# SPDX-License-Identifier: Apache-2.0
"""Legacy plugins that run their own event loop in a module that the runner does not search."""

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp, Stop
from tests.peer import Peer
from tests.runner_process import RunnerProcess


def body(reply: object) -> bytes:
    """Return the body of a Stop."""
    assert isinstance(reply, HTTPReqCallResp), reply
    assert isinstance(reply.action, Stop), reply
    return bytes(reply.action.body)


@pytest.mark.parametrize("name", ["runs-in-filter", "runs-in-config", "runs"])
def test_the_first_call_is_refused_and_the_others_run_in_threads(runner: RunnerProcess, peer: Peer, name: str) -> None:
    """The first call is not run again, because what it did before it failed must not be done twice."""
    token = peer.prepare((name, "{}"))
    assert peer.request(token) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    assert [body(peer.request(token)) for _ in range(2)] == [b"hello", b"hello"]
    runner.wait_for_log(f"plugin {name} runs its own event loop", "from now on it runs in threads")


def test_a_plugin_may_forbid_threads(peer: Peer) -> None:
    token = peer.prepare(("forbids", "{}"))
    assert [peer.request(token) for _ in range(2)] == [ErrResp(ErrCode.SERVICE_UNAVAILABLE)] * 2
