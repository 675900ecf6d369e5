# SPDX-License-Identifier: Apache-2.0
"""A plugin that forks: the child exits at the end of the hook, and does not use the gateway's connections."""

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
    """In whatever way the hook ends in the child, the gateway gets one reply, that of the parent, and the worker continues to serve."""
    with forking.peer() as peer:
        statuses = {}
        for name in ("fork-and-return", "fork-and-ask", "fork-in-thread", "fork-in-coroutine", "multiprocess"):
            token = peer.prepare((name, "{}"))
            statuses[name] = peer.request(token).action.body
        peer.request(peer.prepare())
    assert statuses == {
        "fork-and-return": b"0",
        "fork-and-ask": b"3",
        "fork-in-thread": b"1",
        "fork-in-coroutine": b"0",
        "multiprocess": b"[0, 0]",
    }
    assert "was killed" not in forking.log()


def test_the_child_does_not_hold_connections_open(forking: RunnerProcess) -> None:
    """
    A child that continues to run has no connections of the gateway, which are closed when the runner exits, and no files of the worker.
    """
    with forking.peer() as peer:
        pid = int(peer.request(peer.prepare(("leave", "{}"))).action.body)
        try:
            links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
            assert [link for link in links if "tokens.sqlite" in link] == []
            forking.stop()
            with pytest.raises((HungUp, ConnectionResetError)):
                peer.receive()
            os.kill(pid, 0)  # it does live
        finally:
            os.kill(pid, signal.SIGKILL)


LEAVING_THE_HOOK = """
import asyncio
import os
import sys
from pathlib import Path

from apisix import Plugin, Reply

HERE = Path(__file__).parent


def ended(pid):
    return Reply(200, body=str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


async def note():
    with (HERE / "ran").open("a") as file:
        file.write(f"{os.getpid()} ")


class ExitInCoroutine(Plugin):
    async def on_request(self, request):
        await asyncio.sleep(0)
        pid = os.fork()
        if pid:
            return ended(pid)
        sys.exit(3)


class WaitInCoroutine(Plugin):
    async def on_request(self, request):
        tasks = [asyncio.create_task(note()) for _ in range(2)]
        pid = os.fork()
        if not pid:
            await asyncio.gather(*tasks)
            os._exit(9)
        reply = ended(pid)
        await asyncio.gather(*tasks)
        return reply


class AskInThread(Plugin):
    blocking = True

    def on_request(self, request):
        pid = os.fork()
        if pid:
            return ended(pid)
        request.var("consumer_name")
        os._exit(9)


class ForkInSetup(Plugin):
    async def setup(self):
        self.pid = os.fork()
        if not self.pid:
            sys.exit(4)

    def on_request(self, request):
        return ended(self.pid)
"""

FORK_AT_IMPORT = """
import os

from apisix import Plugin, Reply

PID = os.fork()
STATUS = os.waitstatus_to_exitcode(os.waitpid(PID, 0)[1]) if PID else None


class AtImport(Plugin):
    def on_request(self, request):
        return Reply(200, body=str(STATUS).encode())
"""

FORK_IN_INIT = """
import os

from apisix import Plugin, Reply


class InInit(Plugin):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        pid = os.fork()
        self.status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None

    def on_request(self, request):
        return Reply(200, body=str(self.status).encode())
"""


@pytest.mark.parametrize(
    ("name", "status"),
    [("exit-in-coroutine", b"3"), ("wait-in-coroutine", b"0"), ("ask-in-thread", b"1"), ("fork-in-setup", b"4")],
)
def test_the_child_does_not_get_back_into_the_worker(tmp_path: Path, name: str, status: bytes) -> None:
    """A child exits when its hook ends or has to wait. It runs no task of another call, and can't send an info request."""
    (tmp_path / "forks.py").write_text(LEAVING_THE_HOOK)
    with running(plugins=[tmp_path]) as process, process.peer() as peer:
        assert peer.request(peer.prepare((name, "{}"))).action.body == status
        assert peer.asked == []
        ran = tmp_path / "ran"
        if ran.exists():
            assert len(set(ran.read_text().split())) == 1


@pytest.mark.parametrize(("plugin", "name"), [(FORK_AT_IMPORT, "at-import"), (FORK_IN_INIT, "in-init")])
def test_a_child_that_is_forked_outside_of_hooks_ends_too(tmp_path: Path, plugin: str, name: str) -> None:
    """The child exits at the end of the plugin's file or constructor."""
    (tmp_path / "forks.py").write_text(plugin)
    with running(plugins=[tmp_path]) as process, process.peer() as peer:
        assert peer.request(peer.prepare((name, "{}"))).action.body == b"0"
