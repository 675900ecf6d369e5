# SPDX-License-Identifier: Apache-2.0
"""Request metadata through real workers. `python -m tests.soak metadata` is the long version."""

import os
import select
import signal
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPRespCallReq
from tests.peer import POST_RESP, PRE_REQ, Peer
from tests.runner_process import STOPS_WITHIN_S, running
from tests.soak.metadata import PLUGINS, flood, hand_over
from tests.soak.stage import stage
from tests.soak.waiting import wait_until

REQUESTS = 400


def test_several_workers() -> None:
    """Each request gets its own metadata, although most of them have several workers."""
    handed = hand_over(REQUESTS, workers=4, reload_every_s=None)

    assert (handed.carried, handed.lost, handed.mixed, handed.failures) == (REQUESTS, 0, 0, {})
    assert handed.moved > 0


def test_workers_that_are_replaced() -> None:
    """Each request gets its own metadata while all workers are replaced, again and again."""
    handed = hand_over(REQUESTS, workers=2, reload_every_s=0.3)

    assert (handed.carried, handed.lost, handed.mixed, handed.failures) == (REQUESTS, 0, 0, {})


def test_a_flood_without_a_response_phase() -> None:
    """The memory of the runner does not grow with the number of requests, although nothing removes their metadata."""
    first, *_, last = flood(6000, workers=2, size="1MiB")

    assert last.requests - first.requests == 4500  # with 1,000 bytes each
    assert last.store_bytes <= 2**20
    assert last.workers_bytes - first.workers_bytes < 3 * 2**20


def carried(peer: Peer, request_id: bytes) -> str:
    """Run the response phase of a request, and return what it got from the request phase."""
    token = peer.prepare(("carries", "{}"), key=POST_RESP)
    reply = peer.respond(token, answers={"request_id": request_id})
    return str(dict(reply.headers)["x-carried"] or "")


def carry(peer: Peer, nonce: str, request_id: bytes, key: str | None = PRE_REQ) -> Any:
    """Run a request phase."""
    token = peer.prepare(("carries", "{}"), key=key)
    return peer.request(token, headers=[("x-nonce", nonce)], answers={"request_id": request_id})


def test_one_worker_that_is_replaced() -> None:
    """It keeps metadata in its own memory, and moves it to the file before it is replaced."""
    requests = 3000  # so many that workers are replaced meanwhile
    handed = hand_over(requests, workers=1, reload_every_s=0.05)

    assert (handed.carried, handed.lost, handed.mixed, handed.failures) == (requests, 0, 0, {})
    assert handed.moved > 0


@pytest.mark.parametrize("replaced_by", ["reload", "another runner"])
def test_new_connection_while_one_worker_is_replaced(tmp_path: Path, replaced_by: str) -> None:
    """It is not served before the worker that is replaced has moved its metadata, even if that worker is late."""
    os.mkfifo(tmp_path / "end")
    with stage(environ={"APISIX_RUNNER_STATE_DIRECTORY": str(tmp_path)}) as ours:
        first = ours.runner
        with first.peer() as peer, first.peer() as blocked:
            token = peer.prepare(("carries", "{}"), key=POST_RESP)
            carry(peer, "one", b"r1")
            halts = blocked.prepare(("halts", "{}"), key=PRE_REQ)
            blocked.send(HTTPReqCallReq(id=1, headers=[("x-directory", str(tmp_path))], conf_token=halts))
            wait_until((tmp_path / "began").exists, 10, "the worker is blocked")
            if replaced_by == "reload":
                first.process.send_signal(signal.SIGHUP)
                first.wait_for_log("SIGHUP: worker 2")
            else:
                ours.start()
                first.wait_for_log("the other runner takes the")
            with ours.runner.peer() as fresh:
                fresh.send(HTTPRespCallReq(id=2, status=200, conf_token=token))
                is_early = bool(select.select([fresh.socket], [], [], 0.3)[0])
                with (tmp_path / "end").open("rb"):
                    fresh.answers = {"request_id": b"r1"}
                    reply = fresh.reply()
        if first is not ours.runner:
            first.process.wait(STOPS_WITHIN_S)  # it exits, because its path was taken

    assert (is_early, dict(reply.headers)["x-carried"]) == (False, "one")


def test_one_worker_needs_no_file(tmp_path: Path) -> None:
    """Unless it is replaced or exits."""
    with stage(environ={"APISIX_RUNNER_STATE_DIRECTORY": str(tmp_path)}) as ours:
        with ours.runner.peer() as peer:
            carry(peer, "one", b"r1")
            carry(peer, "two", b"r2")
            assert (carried(peer, b"r1"), list(tmp_path.rglob("metadata.mdb"))) == ("one", [])
        ours.runner.process.terminate()
        ours.runner.process.wait()
        with ours.start().peer() as peer:
            assert (carried(peer, b"r1"), carried(peer, b"r2")) == ("", "two")


def test_worker_and_runner_that_are_killed(tmp_path: Path) -> None:
    """The metadata of several workers survives the death of its worker, and of the whole runner."""
    with stage(environ={"APISIX_RUNNER_STATE_DIRECTORY": str(tmp_path), "APISIX_RUNNER_WORKERS_COUNT": "2"}) as ours:
        with ours.runner.peer() as peer:
            carry(peer, "one", b"r1")
            carry(peer, "two", b"r2")
        for pid in ours.workers():
            os.kill(pid, signal.SIGKILL)
        with ours.runner.peer() as peer:
            after_worker = carried(peer, b"r1")
        ours.runner.process.kill()
        ours.runner.process.wait()
        with ours.start().peer() as peer:
            after_runner = carried(peer, b"r1"), carried(peer, b"r2")

    assert (after_worker, after_runner) == ("one", ("", "two"))


def test_gateway_before_2_9(tmp_path: Path) -> None:
    """A gateway that sends no key gets no info request. The log names the release."""
    with running(plugins=[PLUGINS], environ={"APISIX_RUNNER_STATE_DIRECTORY": str(tmp_path)}) as runner, runner.peer() as peer:
        reply = carry(peer, "one", b"r1", key=None)
        runner.wait_for_log("InfoUnavailable", "2.9")

    assert (reply, peer.asked) == (ErrResp(ErrCode.SERVICE_UNAVAILABLE), [])
