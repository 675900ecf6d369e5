# SPDX-License-Identifier: Apache-2.0
"""After a SIGTERM, a runner replies to all calls that it has received by then, or refuses them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPReqCallResp, PrepareConfReq, PrepareConfResp
from tests.peer import Peer
from tests.runner_process import STARTS_WITHIN_S, STOPS_WITHIN_S, running


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_what_waits_in_the_backlog_is_answered(signum: int) -> None:
    """Calls on connections that were not accepted before a SIGTERM get replies from the workers."""
    with running("--workers", "2") as runner:
        with runner.peer() as peer:
            token = peer.prepare()
        os.kill(runner.process.pid, signal.SIGSTOP)
        waiting = [runner.peer() for _ in range(16)]
        for peer in waiting:
            peer.send(HTTPReqCallReq(id=7, conf_token=token))
        os.kill(runner.process.pid, signum)
        os.kill(runner.process.pid, signal.SIGCONT)
        try:
            assert [peer.reply() for peer in waiting] == [HTTPReqCallResp(7, None)] * 16
        finally:
            for peer in waiting:
                peer.close()
        assert runner.process.wait(STOPS_WITHIN_S) == 0


def test_what_waits_for_the_first_worker_is_not_forgotten(tmp_path: Path) -> None:
    """After a SIGTERM before it has a worker, the runner refuses the calls that were sent, or replies if the worker started in time."""
    path = tmp_path / "runner.sock"
    command = [sys.executable, "-m", "apisix", "start", "--socket", str(path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline_s = time.monotonic() + STARTS_WITHIN_S
        while not path.exists():
            assert time.monotonic() < deadline_s
        with Peer(path) as peer:
            peer.send(PrepareConfReq())
            process.send_signal(signal.SIGINT)
            answer = peer.receive()
        assert answer == ErrResp(ErrCode.SERVICE_UNAVAILABLE) or isinstance(answer, PrepareConfResp)
        assert process.wait(STOPS_WITHIN_S) == 0
