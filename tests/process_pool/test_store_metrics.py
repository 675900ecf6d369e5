# SPDX-License-Identifier: Apache-2.0
"""The metrics of the shared store include what plugins do in processes of the pool."""

import re
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp
from tests.process_pool.processes import wait_until
from tests.runner_process import RunnerProcess, running

pytestmark = pytest.mark.process

PLUGINS = """
from apisix import Plugin

class Storing(Plugin):
    runs_in = "process"
    def on_request(self, request):
        for _ in range(2):
            self.store.get("key", fallback=None)
        self.store.incr("key")

class Falling(Plugin):
    runs_in = "process"
    def on_request(self, request):
        self.store.incr("key", fallback=0)
"""


def store_errors(runner: RunnerProcess) -> dict[str, float]:
    """Return the metric of operations that failed, by result."""
    found = re.search(r"metrics are at (http://[^/]+/metrics)", runner.log())
    assert found is not None, runner.log()
    with urlopen(found[1], timeout=20) as response:  # noqa: S310  # a local address
        text = response.read().decode()
    return {result: float(value) for result, value in re.findall(r'apisix_runner_store_errors_total{result="(\w+)"} (\S+)', text)}


def test_errors_and_fallbacks_are_counted(tmp_path: Path) -> None:
    """Operations that fail in a process are in the metrics of the runner, whether the call succeeds or fails."""
    pytest.importorskip("redis", reason="needs redis-py")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "storing.py").write_text(PLUGINS)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    environ = {
        "APISIX_RUNNER_STATE_URL": f"redis://127.0.0.1:{port}",
        "APISIX_RUNNER_METRICS_ADDRESS": "127.0.0.1:0",
        "APISIX_RUNNER_WORKERS_COUNT": "1",
    }
    with running(plugins=[plugins], environ=environ) as runner, runner.peer() as peer:
        runner.wait_for_log("metrics are at")
        assert peer.request(peer.prepare(("storing", "{}"))) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        assert isinstance(peer.request(peer.prepare(("falling", "{}"))), HTTPReqCallResp)

        wait_until(lambda: store_errors(runner) == {"error": 1.0, "fallback": 3.0})
