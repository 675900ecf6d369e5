# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in processes of the pool, in a real runner: only the call of the hook is refused, and the pool continues to work."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPReqCallResp, Rewrite
from tests.peer import Peer
from tests.process_pool.processes import parent_of, wait_for_pid, wait_until
from tests.runner_process import RunnerProcess, running

pytestmark = pytest.mark.process

REFUSED = ErrResp(ErrCode.SERVICE_UNAVAILABLE)
PLUGINS = '''
import os, pathlib, signal, sys, time
from apisix import Plugin, Reply

class Faulty(Plugin[dict]):
    """Does what its configuration says."""
    runs_in = "process"
    def on_request(self, request):
        return getattr(self, "do_" + self.config["do"])(request)
    def do_pid(self, request):
        request.headers["x-pid"] = str(os.getpid())
    def do_exit_at_once(self, request):
        os._exit(7)
    def do_memory(self, request):
        bytes(1 << 60)
    def do_object(self, request):
        return lambda: None
    def do_large_number(self, request):
        request.context["number"] = 1 << 70
    def do_surrogate(self, request):
        request.context["text"] = "\\udcff"
    def do_large_reply(self, request):
        return Reply(200, bytes((1 << 27) + 1))
    def do_close_descriptors(self, request):
        os.closerange(3, 100)
        time.sleep(60)
    def do_stop(self, request):
        os.kill(os.getpid(), signal.SIGSTOP)
    def do_wait(self, request):
        directory = pathlib.Path(self.config["directory"])
        (directory / "pid").write_text(str(os.getpid()))
        while not (directory / "go").exists():
            time.sleep(0.01)
        request.headers["x-pid"] = str(os.getpid())
    def do_sleep(self, request):
        time.sleep(0.01)
        request.headers["x-pid"] = str(os.getpid())
'''
ONLY_IN_WORKER = """
from apisix import Plugin
import sys
if "apisix.runner.process_pool.hook_process" in sys.modules:
    raise ImportError("not in this process")

class OnlyInWorker(Plugin):
    runs_in = "process"
    def on_request(self, request):
        pass
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the plugins."""
    directory = tmp_path_factory.mktemp("plugins")
    (directory / "faulty.py").write_text(PLUGINS)
    (directory / "only_in_worker.py").write_text(ONLY_IN_WORKER)
    return directory


@pytest.fixture(scope="module")
def runner(plugins: Path) -> Iterator[RunnerProcess]:
    """A runner with two processes in its pool."""
    environ = {"APISIX_RUNNER_LIMITS_PROCESSES": "2", "APISIX_RUNNER_WORKERS_COUNT": "1", "APISIX_RUNNER_LIMITS_PLUGIN_TIMEOUT": "5s"}
    with running(plugins=[plugins], environ=environ) as runner:
        yield runner


def pid_of(peer: Peer) -> int:
    """Make a call that succeeds, and return the id of the process that has run it."""
    reply = peer.request(peer.prepare(("faulty", '{"do": "pid"}')))
    return pid_in(reply)


def pid_in(reply: object) -> int:
    """Return the id of the process that has run a call."""
    assert isinstance(reply, HTTPReqCallResp), reply
    assert isinstance(reply.action, Rewrite), reply
    return int(dict(reply.action.headers)["x-pid"] or 0)


@pytest.mark.parametrize(
    ("do", "logged"),
    [
        ("exit_at_once", "it exited with status 7"),
        ("memory", "MemoryError"),
        ("object", "but Faulty returned function"),
        ("large_number", "can't serialize ints"),
        ("surrogate", "surrogates not allowed"),
        ("large_reply", "the limit is 134217728"),
        ("close_descriptors", "its process ended before the hook returned"),
        ("stop", "took longer than plugin_timeout"),
    ],
)
def test_a_fault_refuses_only_its_call(runner: RunnerProcess, do: str, logged: str) -> None:
    """The call is refused, the reason is logged, and the next calls succeed."""
    with runner.peer() as peer:
        assert peer.request(peer.prepare(("faulty", f'{{"do": "{do}"}}'))) == REFUSED
        runner.wait_for_log(logged, '"plugin": "faulty"')

        assert pid_of(peer) > 0


@pytest.mark.parametrize("do", ["large_number", "surrogate"])
def test_data_that_cannot_be_passed_does_not_end_the_process(runner: RunnerProcess, do: str) -> None:
    """The process is kept, with the instances that it has."""
    with runner.peer() as peer:
        before = pid_of(peer)
        assert peer.request(peer.prepare(("faulty", f'{{"do": "{do}"}}'))) == REFUSED

        assert pid_of(peer) == before


def test_a_plugin_that_can_be_imported_only_in_the_worker(runner: RunnerProcess) -> None:
    """Its calls are refused, and the log contains the reason. Other plugins use the same processes."""
    with runner.peer() as peer:
        before = pid_of(peer)
        assert peer.request(peer.prepare(("only-in-worker", "{}"))) == REFUSED
        runner.wait_for_log("ImportError: not in this process", '"plugin": "only-in-worker"')

        assert pid_of(peer) == before


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="needs Linux")
def test_the_system_ends_a_process_before_its_worker(runner: RunnerProcess) -> None:
    """If the memory of the machine is used up, a process of the pool is killed first."""
    with runner.peer() as peer:
        process = pid_of(peer)
    worker = parent_of(parent_of(process))

    assert score(process) > score(worker)


def score(pid: int) -> int:
    """Return how much earlier than others the system kills a process if the memory is used up."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_a_rolling_restart_waits_for_a_hook(plugins: Path, tmp_path: Path) -> None:
    """After SIGHUP, the hook that runs finishes and its call succeeds. The next call runs in the pool of the new worker."""
    with running(plugins=[plugins], environ={"APISIX_RUNNER_WORKERS_COUNT": "1"}) as runner, runner.peer() as peer:
        waiting = f'{{"do": "wait", "directory": "{tmp_path}"}}'
        peer.send(HTTPReqCallReq(id=7, conf_token=peer.prepare(("faulty", waiting))))
        first = wait_for_pid(tmp_path / "pid")
        old_worker = parent_of(parent_of(first))
        runner.process.send_signal(signal.SIGHUP)
        with runner.peer() as other:
            wait_until(lambda: parent_of(parent_of(pid_of(other))) != old_worker)
        (tmp_path / "go").touch()

        assert pid_in(peer.reply()) == first
        assert parent_of(parent_of(pid_of(peer))) != old_worker


def test_more_calls_than_can_wait(plugins: Path) -> None:
    """Each of many concurrent calls is answered: those that can't wait are refused, and all others succeed."""
    environ = {"APISIX_RUNNER_LIMITS_PROCESSES": "2", "APISIX_RUNNER_WORKERS_COUNT": "1", "APISIX_RUNNER_LIMITS_MAX_IN_FLIGHT": "40"}
    with running(plugins=[plugins], environ=environ) as runner, ExitStack() as stack:
        peers = [stack.enter_context(runner.peer()) for _ in range(100)]
        tokens = [peer.prepare(("faulty", '{"do": "sleep"}')) for peer in peers]
        for peer, token in zip(peers, tokens, strict=True):
            peer.send(HTTPReqCallReq(id=7, conf_token=token))
        replies = [peer.reply() for peer in peers]
        refused = sum(reply == REFUSED for reply in replies)

        assert len({pid_in(reply) for reply in replies if reply != REFUSED}) <= 2
        assert 0 < refused <= 100 - 20
        assert pid_of(peers[0]) > 0
