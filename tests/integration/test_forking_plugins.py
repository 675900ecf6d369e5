# SPDX-License-Identifier: Apache-2.0
"""A plugin that forks: the child ends with the hook, and has nothing to do with the gateway."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peer import HungUp
from tests.runner_process import RunnerProcess, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a child has open is looked up in /proc")

PLUGINS = """
import multiprocessing
import os
import sys
import time

from apisix import Plugin, Reply


def ended(pid):
    return Reply(200, body=str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


class ForkAndReturn(Plugin):
    blocking = False

    def on_request(self, request):
        pid = os.fork()
        return ended(pid) if pid else Reply(418)


class ForkAndAsk(Plugin):
    blocking = False

    def on_request(self, request):
        request.var("consumer_name")
        pid = os.fork()
        if pid:
            return ended(pid)
        sys.exit(3)


class ForkInThread(Plugin):
    blocking = True

    def on_request(self, request):
        pid = os.fork()
        if pid:
            return ended(pid)
        raise ValueError("in the child")


class ForkInCoroutine(Plugin):
    async def on_request(self, request):
        pid = os.fork()
        return ended(pid) if pid else Reply(418)


class Multiprocess(Plugin):
    blocking = True

    def on_request(self, request):
        codes = []
        for method in ("fork", "spawn"):
            process = multiprocessing.get_context(method).Process(target=os.getpid)
            process.start()
            process.join()
            codes.append(process.exitcode)
        return Reply(200, body=str(codes).encode())


class Leave(Plugin):
    blocking = False

    def on_request(self, request):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(writing, b"x")
            time.sleep(60)
        os.read(reading, 1)  # by now the child has closed what is not its own
        return Reply(200, body=str(pid).encode())
"""


@pytest.fixture
def forking(tmp_path: Path) -> Iterator[RunnerProcess]:
    """A runner with plugins that fork."""
    (tmp_path / "forks.py").write_text(PLUGINS)
    with running(plugins=[tmp_path]) as process:
        yield process


def test_the_child_ends_with_the_hook(forking: RunnerProcess) -> None:
    """However the hook runs and ends in the child, the gateway gets one reply, the parent's, and the worker serves on."""
    with forking.peer() as peer:
        statuses = {}
        for name in ("fork-and-return", "fork-and-ask", "fork-in-thread", "fork-in-coroutine", "multiprocess"):
            token = peer.prepare((name, "{}"))
            statuses[name] = peer.request(token).action.body
        peer.request(peer.prepare())
    assert {
        "fork-and-return": b"0",
        "fork-and-ask": b"3",
        "fork-in-thread": b"1",
        "fork-in-coroutine": b"0",
        "multiprocess": b"[0, 0]",
    } == statuses
    assert "was killed" not in forking.log()


def test_the_child_does_not_hold_connections_open(forking: RunnerProcess) -> None:
    """A child that lives on has neither the gateway's connections, which end with the runner, nor the worker's files."""
    with forking.peer() as peer:
        pid = int(peer.request(peer.prepare(("leave", "{}"))).action.body)
        try:
            links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
            assert [] == [link for link in links if "tokens.sqlite" in link]
            forking.stop()
            with pytest.raises((HungUp, ConnectionResetError)):
                peer.receive()
            os.kill(pid, 0)  # it does live
        finally:
            os.kill(pid, signal.SIGKILL)
