# SPDX-License-Identifier: Apache-2.0
"""The replacement of processes of the pool that have ended, in a real runner."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp, Rewrite
from tests.peer import Peer
from tests.process_pool.processes import children_of, is_running, parent_of, wait_until
from tests.runner_process import RunnerProcess, running

pytestmark = pytest.mark.process

REFUSED = ErrResp(ErrCode.SERVICE_UNAVAILABLE)
PLUGINS = '''
import os, pathlib, signal, threading, time
from apisix import Plugin

FILES = pathlib.Path(os.environ["FILES"])

def note(what):
    with (FILES / what).open("a") as file:
        file.write(f"{os.getpid()}\\n")

class Noting(Plugin[dict]):
    """Notes in files where it is created, set up and called."""
    runs_in = "process"
    def __init__(self):
        note("created")
    async def setup(self):
        note("set-up")
    def on_request(self, request):
        if request.path == "/crash":
            os.kill(os.getpid(), signal.SIGKILL)
        request.headers["x-pid"] = str(os.getpid())

class Second(Plugin):
    """Its second instance ends the process."""
    runs_in = "process"
    def __init__(self):
        note("second")
        if len((FILES / "second").read_text().splitlines()) == 2:
            os._exit(5)
    def on_request(self, request):
        request.headers["x-pid"] = str(os.getpid())
'''


@contextmanager
def noting_runner(tmp_path: Path, **environ: str) -> Iterator[RunnerProcess]:
    """Start a runner with one process in its pool."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "noting.py").write_text(PLUGINS)
    with running(plugins=[plugins], environ={"APISIX_RUNNER_LIMITS_PROCESSES": "1", "FILES": str(tmp_path), **environ}) as runner:
        yield runner


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[RunnerProcess]:
    """A runner with one process in its pool."""
    with noting_runner(tmp_path) as runner:
        yield runner


def pid_of(peer: Peer, token: int) -> int:
    """Make a call and return the id of the process that has run it."""
    reply = peer.request(token)
    assert isinstance(reply, HTTPReqCallResp), reply
    assert isinstance(reply.action, Rewrite), reply
    return int(dict(reply.action.headers)["x-pid"] or 0)


def noted(tmp_path: Path, what: str) -> list[int]:
    """Return the process ids in a file that the plugins write."""
    file = tmp_path / what
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_process_that_crashes_is_replaced_at_once(runner: RunnerProcess, tmp_path: Path) -> None:
    """No call is needed: the replacement starts and sets up the plugin, and runs the next call."""
    with runner.peer() as peer:
        token = peer.prepare(("noting", "{}"))
        first = pid_of(peer, token)
        assert peer.request(token, path="/crash") == REFUSED

        wait_until(lambda: len(noted(tmp_path, "set-up")) == 2)
        second = pid_of(peer, token)

    assert first != second
    assert noted(tmp_path, "created") == [first, second]
    assert noted(tmp_path, "set-up") == [first, second]


def test_an_idle_process_that_is_killed_is_replaced(runner: RunnerProcess, tmp_path: Path) -> None:
    """Processes that end between two calls are replaced too, and no call fails."""
    with runner.peer() as peer:
        token = peer.prepare(("noting", "{}"))
        first = pid_of(peer, token)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(noted(tmp_path, "set-up")) == 2)

        assert pid_of(peer, token) == noted(tmp_path, "set-up")[1]


def test_the_fork_server_is_replaced(runner: RunnerProcess, tmp_path: Path) -> None:
    """If the fork server is killed, its processes end with it. Another one is started, and the next call succeeds."""
    with runner.peer() as peer:
        token = peer.prepare(("noting", "{}"))
        first = pid_of(peer, token)
        server = parent_of(first)
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not is_running(first))
        second = pid_of(peer, token)

    assert parent_of(second) != server
    runner.wait_for_log("the fork server of the pool", "has ended")


def test_an_instance_that_ends_the_process_is_not_created_in_advance_again(runner: RunnerProcess, tmp_path: Path) -> None:
    """If a process ends while it creates instances that no call needs yet, the next one does not create them."""
    with runner.peer() as peer:
        pid_of(peer, peer.prepare(("second", "{}")))
        token = peer.prepare(("noting", "{}"))
        assert peer.request(token, path="/crash") == REFUSED
        runner.wait_for_log("it exited with status 5")

        pid_of(peer, token)

    assert len(noted(tmp_path, "second")) == 2


def test_the_fork_server_is_started_only_for_plugins_that_need_it(tmp_path: Path) -> None:
    """A runner without such plugins has no further processes. A runner with one has a fork server before the first call."""
    plugins = tmp_path / "none"
    plugins.mkdir()
    (plugins / "plain.py").write_text("from apisix import Plugin\nclass Plain(Plugin):\n    def on_request(self, request):\n        pass\n")
    with running(plugins=[plugins]) as runner, runner.peer() as peer:
        peer.request(peer.prepare(("plain", "{}")))
        assert [children_of(worker) for worker in children_of(runner.process.pid)] == [[]]
    with noting_runner(tmp_path) as runner:
        wait_until(lambda: any(children_of(worker) for worker in children_of(runner.process.pid)))
