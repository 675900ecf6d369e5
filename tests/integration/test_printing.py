# SPDX-License-Identifier: Apache-2.0
"""Output that a plugin prints, and exceptions that nothing catches, are logged at once as complete records."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.peer import Peer
from tests.runner_process import STARTS_WITHIN_S, STOPS_WITHIN_S, running

PLUGIN = """
import asyncio, logging, sys, threading
from apisix import Plugin, Request

print("imported")
theirs = logging.StreamHandler()
theirs.setFormatter(logging.Formatter("author: %(message)s"))
logging.getLogger("theirs").addHandler(theirs)
logging.getLogger("theirs").propagate = False

class Stray:
    def __del__(self):
        raise ValueError("in a finalizer")

class Talks(Plugin):
    def on_request(self, request: Request) -> None:
        print("printed", request.path)
        print("without an end", end="")
        sys.stderr.write("an error\\n")
        logging.getLogger("theirs").warning("by their own handler")
        thread = threading.Thread(target=lambda: 1 / 0, name="theirs")
        thread.start()
        thread.join()
        Stray()

class Tasks(Plugin):
    async def on_request(self, request: Request) -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)
"""


def test_prints_and_stray_errors(tmp_path: Path) -> None:
    """
    While the runner serves, each line is a record, with the plugin's name if a call printed it. An incomplete line is logged at the end.
    """
    (tmp_path / "talks.py").write_text(PLUGIN)
    with running(plugins=[tmp_path]) as runner:
        with runner.peer() as peer:
            peer.request(peer.prepare(("talks", "{}")), path="/here")
            peer.request(peer.prepare(("tasks", "{}"), key="route#2#ext-plugin-pre-req#1"))
        runner.wait_for_log('"message": "printed /here"', '"plugin": "talks"', '"level": "info"')
        runner.wait_for_log('"message": "an error"', '"plugin": "talks"', '"level": "warning"')
        runner.wait_for_log('"message": "author: by their own handler"', '"plugin": "talks"')
        runner.wait_for_log('"message": "thread theirs ended with an error"', "ZeroDivisionError")
        runner.wait_for_log("in a finalizer")
        runner.wait_for_log("an unhandled error: ", "ZeroDivisionError")
        runner.stop()
        records = [json.loads(line) for line in runner.log().splitlines()]

    messages = [record["message"] for record in records]
    assert messages.count("imported") == 1
    assert messages.count("without an end") == 1
    assert messages.count("printed /here") == 1


def test_stdout_of_a_pipe(tmp_path: Path) -> None:
    """If standard output is a pipe, as under the gateway, printed lines are not lost, but logged."""
    (tmp_path / "talks.py").write_text(PLUGIN)
    outcome = start_without(tmp_path, "", stdout=subprocess.PIPE)
    assert "printed /get" in outcome


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_it_starts_without_streams(tmp_path: Path, closed: str) -> None:
    """Without standard error, output or input, the runner serves, and its log is written to its file."""
    (tmp_path / "talks.py").write_text(PLUGIN)
    outcome = start_without(tmp_path, closed)
    assert "printed /get" in outcome


def start_without(directory: Path, closed: str, **options: Any) -> str:
    """Start a runner with some streams closed, make a call, stop the runner, and return its log, which is written to a file."""
    path = directory / "runner.sock"
    log = directory / "log"
    command = f'exec "{sys.executable}" -m apisix start --socket "{path}" --plugins "{directory}" {closed}'
    environ = {**os.environ, "APISIX_RUNNER_LOGGING_FILE": str(log)}
    with subprocess.Popen(["/bin/sh", "-c", command], env=environ, **options) as process:
        deadline_s = time.monotonic() + STARTS_WITHIN_S
        while not path.exists():
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            time.sleep(0.01)
        with Peer(path) as peer:
            peer.request(peer.prepare(("talks", "{}")))
        process.terminate()
        assert process.wait(STOPS_WITHIN_S) == 0
    return log.read_text()
