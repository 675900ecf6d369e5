# SPDX-License-Identifier: Apache-2.0
"""Plugins with `runs_in = "process"`, in a real runner: what passes between the processes, and what happens if one ends."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from apisix.runner.errors import ErrCode
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallResp, Rewrite
from tests.peer import POST_RESP
from tests.process_pool.processes import is_running, parent_of, wait_for_pid, wait_until
from tests.runner_process import RunnerProcess, running

pytestmark = pytest.mark.process

PLUGINS = '''
import logging, os, pathlib, signal, sys, time
import helper
from apisix import Plugin, Reply

class Earlier(Plugin):
    def on_request(self, request):
        request.headers["x-earlier"] = "1"
        request.headers["x-gone"] = "soon"
        request.args["added"] = "yes"
        request.context["plain"] = {"numbers": [1, 2]}
        request.context["lock"] = object()

class Later(Plugin):
    def on_request(self, request):
        request.headers["x-context"] = f"{request.context['plain']} {request.context['new']!r} {'lock' in request.context}"

class Pooled(Plugin[dict]):
    """Does what its configuration says."""
    runs_in = "process"
    def on_request(self, request):
        return getattr(self, "do_" + self.config["do"])(request)
    def on_response(self, response):
        response.status = 201
        response.body = response.read().upper()
        response.headers["x-pid"] = str(os.getpid())
    def do_edit(self, request):
        request.headers["x-seen"] = f"{request.method} {request.path} {request.query} {request.headers['x-earlier']} {request.phase}"
        del request.headers["x-gone"]
        request.path = "/new"
        request.args["second"] = "2"
        request.context["plain"]["numbers"].append(3)
        request.context["new"] = b"bytes"
        request.response_headers["x-client"] = helper.NAME
    def do_pid(self, request):
        request.headers["x-pid"] = str(os.getpid())
    def do_info(self, request):
        request.headers["x-info"] = f"{request.var('request_id')} {request.var('missing')} {request.read()!r} {request.json()}"
    def do_reply(self, request):
        return Reply(403, "no", {"x-why": "because"})
    def do_raise_reply(self, request):
        raise Reply(429)
    def do_fail(self, request):
        raise LookupError("a reason")
    def do_withheld(self, request):
        request.context["lock"]
    def do_not_plain(self, request):
        request.context["mine"] = {1, 2}
    def do_crash(self, request):
        os.kill(os.getpid(), signal.SIGSEGV)
    def do_exit(self, request):
        sys.exit(3)
    def do_fork(self, request):
        request.headers["x-fork"] = "parent" if os.fork() else "child"
    def do_hang(self, request):
        pathlib.Path(self.config["file"]).write_text(str(os.getpid()))
        time.sleep(60)
    def do_store(self, request):
        request.headers["x-count"] = str(self.store.incr("calls"))
    def do_log(self, request):
        logging.getLogger("author").warning("from the pool", extra={"size": 3})
        print("printed in the pool")

class SetUp(Plugin):
    runs_in = "process"
    async def setup(self):
        self.ready = True
    async def on_request(self, request):
        request.headers["x-ready"] = f"{self.ready} {(await request.aread()).decode()}"

class Needing(Plugin):
    runs_in = "process"
    needs = ("body", "consumer_name")
    def on_request(self, request):
        request.headers["x-needs"] = f"{request.var('consumer_name')} {request.read()!r}"

class Gentle(Plugin):
    runs_in = "process"
    on_error = "pass"
    def on_request(self, request):
        request.headers["x-lost"] = "1"
        raise ValueError
'''


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunnerProcess]:
    """A runner with two processes in its pool, and a short time limit."""
    directory = tmp_path_factory.mktemp("plugins")
    (directory / "pooled.py").write_text(PLUGINS)
    (directory / "helper.py").write_text('NAME = "a sibling module"\n')
    environ = {"APISIX_RUNNER_LIMITS_PROCESSES": "2", "APISIX_RUNNER_LIMITS_PLUGIN_TIMEOUT": "3s"}
    with running(plugins=[directory], environ=environ) as runner:
        yield runner


def headers_after(runner: RunnerProcess, *plugins: tuple[str, str], **call: object) -> dict[str, str | None]:
    """Return the headers of the rewrite after a call."""
    with runner.peer() as peer:
        reply = peer.request(peer.prepare(*plugins), **call)  # type: ignore[arg-type]
    assert isinstance(reply, HTTPReqCallResp), runner.log()
    assert isinstance(reply.action, Rewrite), reply
    return dict(reply.action.headers)


def outcome(runner: RunnerProcess, do: str) -> object:
    """Return the reply to a call of the plugin."""
    with runner.peer() as peer:
        return peer.request(peer.prepare(("earlier", "{}"), ("pooled", f'{{"do": "{do}"}}')))


def test_edits_of_all_processes_are_applied_in_order(runner: RunnerProcess) -> None:
    """The hook sees the edits of earlier plugins, later plugins see its edits and its changes of the context."""
    with runner.peer() as peer:
        token = peer.prepare(("earlier", "{}"), ("pooled", '{"do": "edit"}'), ("later", "{}"))
        reply = peer.request(token, method="POST", path="/old", args=[("a", "\udcff"), ("flag", None)])
    action = reply.action

    assert dict(action.headers) == {
        "x-earlier": "1",
        "x-seen": "POST /old a=%FF&flag&added=yes 1 ext-plugin-pre-req",
        "x-context": "{'numbers': [1, 2, 3]} b'bytes' True",
    }
    assert action.path == "/new"
    assert dict(action.args) == {"added": "yes", "second": "2"}
    assert dict(action.resp_headers) == {"x-client": "a sibling module"}


def test_info_requests_are_passed_on(runner: RunnerProcess) -> None:
    """The hook can wait for variables and the body, as any other."""
    answers = {"request_id": b"r1", "body": b'{"a": 1}'}

    found = headers_after(runner, ("pooled", '{"do": "info"}'), method="POST", answers=answers)

    assert found == {"x-info": "r1 None b'{\"a\": 1}' {'a': 1}"}


def test_needs_are_fetched_before(runner: RunnerProcess) -> None:
    """What `needs` lists is passed with the call."""
    found = headers_after(runner, ("needing", "{}"), method="POST", answers={"consumer_name": b"jo", "body": b"text"})

    assert found == {"x-needs": "jo b'text'"}


def test_setup_and_a_coroutine(runner: RunnerProcess) -> None:
    """`setup` runs in the process, and the hook can be a coroutine function."""
    assert headers_after(runner, ("set-up", "{}"), method="POST", answers={"body": b"text"}) == {"x-ready": "True text"}


def test_a_response(runner: RunnerProcess) -> None:
    """A response is passed too, with its body."""
    with runner.peer() as peer:
        reply = peer.respond(peer.prepare(("pooled", "{}"), key=POST_RESP), body=b"text")

    assert isinstance(reply, HTTPRespCallResp)
    assert (reply.status, reply.body) == (201, b"TEXT")
    assert int(dict(reply.headers)["x-pid"] or 0) != runner.process.pid


@pytest.mark.parametrize(("do", "status", "headers"), [("reply", 403, {"x-why": "because"}), ("raise_reply", 429, {})])
def test_a_reply(runner: RunnerProcess, do: str, status: int, headers: dict[str, str]) -> None:
    """A Reply that is returned or raised ends the chain."""
    reply = outcome(runner, do)

    assert isinstance(reply, HTTPReqCallResp)
    assert reply.action is not None
    assert reply.action.status == status  # type: ignore[union-attr]
    assert headers.items() <= dict(reply.action.headers).items()


REFUSED = ErrResp(ErrCode.SERVICE_UNAVAILABLE)


@pytest.mark.parametrize(
    ("do", "logged"),
    [
        ("fail", "LookupError: a reason"),
        ("withheld", "which is not passed to a plugin with runs_in = 'process'"),
        ("not_plain", "has set context['mine'] to a set"),
        ("exit", "SystemExit: 3"),
        ("crash", "SIGSEGV"),
    ],
)
def test_a_failure_refuses_only_its_call(runner: RunnerProcess, do: str, logged: str) -> None:
    """The reason is logged, and the next call succeeds."""
    assert outcome(runner, do) == REFUSED
    runner.wait_for_log("plugin pooled failed, the call is refused", logged, '"plugin": "pooled"')
    assert "x-pid" in headers_after(runner, ("pooled", '{"do": "pid"}'))


def test_on_error_pass(runner: RunnerProcess) -> None:
    """With `on_error = "pass"`, the call continues without the edits."""
    with runner.peer() as peer:
        assert peer.request(peer.prepare(("gentle", "{}"))) == HTTPReqCallResp(7)


def test_log_lines_have_the_fields_of_the_call(runner: RunnerProcess) -> None:
    """Log lines and printed lines reach the log of the runner."""
    outcome(runner, "log")

    runner.wait_for_log("from the pool", '"logger": "author"', '"plugin": "pooled"', '"call": 7', '"size": 3', '"level": "warning"')
    runner.wait_for_log("printed in the pool", '"plugin": "pooled"')


def test_the_shared_store(runner: RunnerProcess) -> None:
    """All processes of the pools and the workers share the store."""
    assert [headers_after(runner, ("pooled", '{"do": "store"}'))["x-count"] for _ in range(3)] == ["1", "2", "3"]


def test_a_forked_child_ends_when_the_hook_returns(runner: RunnerProcess) -> None:
    """A child that the hook forks does not reply in place of its parent."""
    assert headers_after(runner, ("pooled", '{"do": "fork"}')) == {"x-fork": "parent"}
    assert "x-pid" in headers_after(runner, ("pooled", '{"do": "pid"}'))


def test_processes_are_kept(runner: RunnerProcess) -> None:
    """A process runs many calls, one after the other."""
    pids = {headers_after(runner, ("pooled", '{"do": "pid"}'))["x-pid"] for _ in range(10)}

    assert len(pids) <= 2


def test_a_hook_that_takes_too_long_is_killed(runner: RunnerProcess, tmp_path: Path) -> None:
    """After `limits.plugin_timeout` the call is refused, and the process is killed. Meanwhile, other calls run."""
    file = tmp_path / "pid"
    with runner.peer() as slow:
        slow.send(HTTPReqCallReq(id=7, conf_token=slow.prepare(("pooled", f'{{"do": "hang", "file": "{file}"}}'))))
        pid = wait_for_pid(file)
        assert "x-pid" in headers_after(runner, ("pooled", '{"do": "pid"}'))
        assert slow.reply() == REFUSED

    wait_until(lambda: not is_running(pid))
    runner.wait_for_log("took longer than plugin_timeout", "a process of the pool")


def test_a_hook_is_killed_if_the_gateway_hangs_up(runner: RunnerProcess, tmp_path: Path) -> None:
    """If the gateway closes the connection, the process does not continue for long."""
    file = tmp_path / "pid"
    with runner.peer() as peer:
        peer.send(HTTPReqCallReq(id=7, conf_token=peer.prepare(("pooled", f'{{"do": "hang", "file": "{file}"}}'))))
        pid = wait_for_pid(file)

    wait_until(lambda: not is_running(pid))


def test_a_killed_process_refuses_only_its_call(runner: RunnerProcess, tmp_path: Path) -> None:
    """If somebody kills the process, its call is refused."""
    file = tmp_path / "pid"
    with runner.peer() as peer:
        peer.send(HTTPReqCallReq(id=7, conf_token=peer.prepare(("pooled", f'{{"do": "hang", "file": "{file}"}}'))))
        os.kill(wait_for_pid(file), signal.SIGKILL)

        assert peer.reply() == REFUSED
    assert "x-pid" in headers_after(runner, ("pooled", '{"do": "pid"}'))


@pytest.mark.parametrize("target", ["worker", "supervisor"])
def test_processes_do_not_outlive_their_worker(tmp_path: Path, target: str) -> None:
    """If the worker or the supervisor is killed, a process in the middle of a hook is killed too."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "pooled.py").write_text(PLUGINS)
    (directory / "helper.py").write_text('NAME = "x"\n')
    file = tmp_path / "pid"
    with running(plugins=[directory]) as runner, runner.peer() as peer:
        peer.send(HTTPReqCallReq(id=7, conf_token=peer.prepare(("pooled", f'{{"do": "hang", "file": "{file}"}}'))))
        pid = wait_for_pid(file)
        os.kill(parent_of(parent_of(pid)) if target == "worker" else runner.process.pid, signal.SIGKILL)

        wait_until(lambda: not is_running(pid))


def test_processes_end_with_the_runner(tmp_path: Path) -> None:
    """If the runner stops, its processes exit."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "pooled.py").write_text(PLUGINS)
    (directory / "helper.py").write_text('NAME = "x"\n')
    with running(plugins=[directory]) as runner:
        pid = int(headers_after(runner, ("pooled", '{"do": "pid"}'))["x-pid"] or 0)
        runner.process.send_signal(signal.SIGINT)
        runner.process.wait(20)

        wait_until(lambda: not is_running(pid))
