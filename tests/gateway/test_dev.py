# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner dev` as a process: the commands of the article, saved files, and how it stops."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from apisix.gateway.dev import run
from apisix.gateway.runner import process as runner_process
from tests.dev_process import TIMEOUT_S, Dev
from tests.runner_process import running

pytestmark = pytest.mark.process

PLUGIN = """
from apisix import Plugin, Request

class Hello(Plugin):
    def on_request(self, request: Request) -> None:
        request.headers["x-hello"] = "{value}"
"""
IMPATIENT = """
from apisix.gateway.runner import process as runner_process

runner_process.RESPAWN_DELAY_S = 0.2
from apisix.main import main

main()
"""
OTHER_ECHO_PORT = """
from apisix.gateway import dev

dev.ECHO_PORT = 1
from apisix.main import main

main()
"""
ROUTES = """\
routes:
  - id: file
    uri: {uri}
    upstream: {{nodes: {{"127.0.0.1:{port}": 1}}}}
    plugins:
      ext-plugin-pre-req:
        conf: [{{name: hello, value: "{{}}"}}]
#END
"""


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    """Start `dev` in an empty directory."""
    with Dev(tmp_path) as dev:
        yield dev


def test_the_articles_commands(dev: Dev) -> None:
    """`stop` sends a response, and `rewrite` adds a header and an argument. The terminal shows what each plugin did."""
    assert dev.put_route("stop") == 201
    status, headers, body = dev.get("/get")
    assert (status, headers["x-resp-a6-runner"], body) == (201, "Python", b"Hello, Python Runner of APISIX")
    (phase,) = dev.event("request", target="/get")["phases"]
    assert (phase["effects"][0]["plugin"], phase["effects"][0]["changes"][-1:]) == ("stop", ["stopped with 201"])

    assert dev.put_route("rewrite") == 200
    seen = json.loads(dev.get("/get?x=1")[2])
    assert (seen["headers"]["x-resp-a6-runner"], seen["args"]) == ("Python", {"x": "1", "a6_runner": "Python"})
    (phase,) = dev.event("request", target="/get?x=1")["phases"]
    assert phase["effects"][0]["changes"] == ["header x-resp-a6-runner added", "argument a6_runner added"]


def test_a_refused_chain(dev: Dev) -> None:
    """Each refused request is shown with the reason, before the requests that arrived after it."""
    dev.put_route("nonesuch")
    assert [dev.refused(target) for target in ("/get?0", "/get?1", "/elsewhere")] == [503, 503, 404]
    requests = [dev.event("request") for _ in range(4)][1:]

    assert [request["target"] for request in requests] == ["/get?0", "/get?1", "/elsewhere"]
    for request in requests[:2]:
        assert "nonesuch: there is no plugin of this name" in request["phases"][0]["refusal"]


def test_saved_files_take_effect(dev: Dev) -> None:
    """Plugins and routes that are added, changed or broken take effect or are refused, without a failed request."""
    (dev.directory / "plugins").mkdir()
    (dev.directory / "plugins" / "hello.py").write_text(PLUGIN.format(value="one"), encoding="utf-8")
    assert dev.event("notice")["text"] == "plugins: plugins found"
    (dev.directory / "apisix.yaml").write_text(ROUTES.format(uri="/file", port=dev.upstream_port), encoding="utf-8")
    assert dev.event("notice")["text"] == "apisix.yaml: routes reloaded"
    dev.until_hello("one")

    (dev.directory / "plugins" / "hello.py").write_text(PLUGIN.format(value="two!"), encoding="utf-8")
    dev.until_hello("two!")

    (dev.directory / "plugins" / "hello.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    while "nowhere_to_be_found" not in dev.event("log", level="error")["message"]:
        pass
    dev.until_hello("two!")

    (dev.directory / "apisix.yaml").write_text("routes: []\n", encoding="utf-8")
    assert "does not end with the line #END" in dev.event("problem")["what"]
    dev.until_hello("two!")


def test_two_that_start_together(tmp_path: Path) -> None:
    """One inspector has the usual port, and the other one a free port."""

    def inspector(name: str) -> str:
        (tmp_path / name).mkdir()
        with Dev(tmp_path / name) as dev:
            both.wait(TIMEOUT_S)
            address: str = re.findall(r"inspector +(\S+)", dev.welcome)[0]
            with urlopen(address, timeout=TIMEOUT_S) as response:  # noqa: S310  # the inspector of this test
                assert b"Inspector" in response.read()
            both.wait(TIMEOUT_S)
            return address

    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        addresses = set(threads.map(inspector, ("a", "b")))

    assert len(addresses) == 2


STUCK = """
import asyncio
import logging
import time
from apisix import Plugin, Request

class Hello(Plugin):
    together = asyncio.Barrier(2)

    async def on_request(self, request: Request) -> None:
        if request.path == "/two":
            await self.together.wait()
        else:
            logging.error("stuck")
            time.sleep(3600)
"""


def test_a_fix_of_a_stuck_hook_takes_effect(tmp_path: Path) -> None:
    """Connections to a replaced worker are not used again, because it may be stuck and never reply."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hello.py").write_text(STUCK)
    (tmp_path / "runner.yaml").write_text("workers: {count: 1}\nlogging: {level: error}\n")
    with ThreadPoolExecutor(2) as threads, Dev(tmp_path, "--config", "runner.yaml") as dev:
        assert dev.put_route("hello", "/*") == 201
        both = [threads.submit(dev.get, "/two") for _ in range(2)]
        assert [answer.result()[0] for answer in both] == [200, 200]

        threads.submit(dev.get, "/stuck")  # until dev ends; the other of the two connections is idle
        dev.event("log", message="stuck")
        (tmp_path / "plugins" / "hello.py").write_text(PLUGIN.format(value="fixed"))
        while " in the place of " not in dev.event("log", logger="apisix.runner.supervisor.worker_pool.pool")["message"]:
            pass

        assert dev.get("/get")[2].count(b"fixed") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_stops_everything(dev: Dev, number: signal.Signals) -> None:
    """If it is stopped, or its terminal is closed, it exits with status 0. Its runner has exited, and its directory is removed."""
    assert len(dev.left()) == 1
    dev.process.send_signal(number)

    assert dev.process.wait(TIMEOUT_S) == 0
    assert not Path(f"/proc/{dev.runner_pid}").exists()
    assert dev.others == []
    assert dev.left() == []


def test_a_closed_terminal() -> None:
    """If the output can't be written any more, nothing is left behind either."""
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "apisix", "dev", "--port", "0", "--upstream-port", "0"]
    with tempfile.TemporaryDirectory(prefix="dev-") as temp:
        process = subprocess.Popen(command, cwd=temp, env={**os.environ, "TMPDIR": temp}, stdin=theirs, stdout=theirs, stderr=theirs)
        try:
            os.close(theirs)
            seen = b""
            while b"Ctrl-C stops everything" not in seen:
                seen += os.read(terminal, 4096)
            assert len(os.listdir(temp)) == 1
            os.close(terminal)
            process.send_signal(signal.SIGHUP)
            process.wait(TIMEOUT_S)
            assert os.listdir(temp) == []
        finally:
            process.kill()
            process.wait()


def test_killed(dev: Dev) -> None:
    """A `dev` that is killed does not leave its runner behind."""
    dev.process.kill()
    dev.process.wait()
    deadline = time.monotonic() + TIMEOUT_S
    while _runs(dev.runner_pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_runner_that_dies_is_started_again(tmp_path: Path) -> None:
    """A runner that exits is started again after 3 s, as the gateway does. This test does not wait for the 3 s."""
    assert runner_process.RESPAWN_DELAY_S == 3.0
    with Dev(tmp_path, program=("-c", IMPATIENT)) as dev:
        os.kill(dev.runner_pid, signal.SIGKILL)
        assert "the runner ended with status -9; it will be restarted in 0.2 s" in dev.event("notice")["text"]
        dev.put_route("rewrite")
        dev.event("log", level="info")
        assert json.loads(dev.get("/get")[2])["headers"]["x-resp-a6-runner"] == "Python"


def test_changed_settings_replace_the_runner(tmp_path: Path) -> None:
    """Saved settings take effect. If they are wrong, the old runner continues."""
    config = tmp_path / "settings.yaml"
    config.write_text("logging: {level: info}\n", encoding="utf-8")
    with Dev(tmp_path, "--config", "settings.yaml") as dev:
        dev.put_route("stop")
        config.write_text("logging: {level: nonsense}\n", encoding="utf-8")
        assert "the old runner continues" in dev.event("notice")["text"]
        assert dev.get("/get")[0] == 201
        config.write_text("logging: {level: warn}\n", encoding="utf-8")
        assert dev.event("notice")["text"] == "settings.yaml: settings reloaded"
        assert dev.get("/get")[0] == 201
        deadline = time.monotonic() + TIMEOUT_S
        while dev.runner_pid == dev._runner():  # the new one serves before the old one has ended
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_effects_are_shown_where_the_log_goes_to_a_file(tmp_path: Path) -> None:
    """The terminal shows the plugins' log lines, even if the settings name a log file."""
    (tmp_path / "settings.yaml").write_text(f"logging: {{file: {tmp_path}/runner.log, level: error}}\n", encoding="utf-8")
    with Dev(tmp_path, "--config", "settings.yaml") as dev:
        dev.put_route("stop")
        dev.get("/get")
        (phase,) = dev.event("request", target="/get")["phases"]

    assert phase["effects"][0]["plugin"] == "stop"


def test_welcome_names_the_routes(tmp_path: Path) -> None:
    """
    If there are routes already, a message shows how to call them. A route to the usual port of the echo gets a note with the new port.
    """
    routes = """routes: [{id: file, uri: /file/*, upstream: {nodes: {"127.0.0.1:1": 1}}}]\n#END"""
    (tmp_path / "apisix.yaml").write_text(routes, encoding="utf-8")
    with Dev(tmp_path, program=("-c", OTHER_ECHO_PORT)) as dev:
        assert f"  curl -i {dev.gateway}/file/\n" in dev.welcome
        assert dev.refused("/file/x") == 502
        error = dev.event("request", target="/file/x")["error"]

    assert error.endswith(f"; the echo upstream of this dev is 127.0.0.1:{dev.upstream_port}")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "radixtree_host_uri, the default of APISIX 3.18; --router selects another"),
        (("--apisix-version", "3.2"), "radixtree_uri, the default of APISIX 3.2; --router selects another"),
        (
            ("--router", "radixtree_uri_with_parameter"),
            "radixtree_uri_with_parameter, not the default of APISIX 3.18; --router selects another",
        ),
    ],
    ids=["default", "old", "chosen"],
)
def test_the_router(tmp_path: Path, flags: tuple[str, ...], expected: str) -> None:
    """The router is the default of the release, unless it is chosen. If `:name` is not a parameter, a message says how to change that."""
    routes = """routes: [{id: user, uri: /user/:id, upstream: {nodes: {"127.0.0.1:1": 1}}}]\n#END"""
    (tmp_path / "apisix.yaml").write_text(routes, encoding="utf-8")
    with Dev(tmp_path, *flags) as dev:
        router = re.findall(r"router +(.+)", dev.welcome)[0]
        problems = [event["what"].partition(" is not")[0] for event in map(json.loads, dev.lines) if event["event"] == "problem"]
        status = dev.refused("/user/7")

    assert (router, status) == (expected, 502 if "--router" in flags else 404)
    assert problems == ([] if "--router" in flags else [":id in /user/:id"])


def test_stops_while_the_runner_starts(tmp_path: Path) -> None:
    """Ctrl-C does not wait for a runner that does not start, and nothing is left behind."""
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\necho $$ > pid\nexec sleep 3600\n", encoding="utf-8")
    slow.chmod(0o700)
    program = f"""
import types
from apisix.gateway.runner import process as runner_process
runner_process.sys = types.SimpleNamespace(executable={str(slow)!r})
runner_process.START_TIMEOUT_S = 3600.0
from apisix.main import main
main()
"""
    with tempfile.TemporaryDirectory(prefix="dev-") as temp:
        command = [sys.executable, "-c", program, "dev", "--port", "0", "--upstream-port", "0"]
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "TMPDIR": temp}, stdout=subprocess.PIPE)
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text(encoding="ascii").strip():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
        assert (process.returncode, output, os.listdir(temp)) == (0, b"stopping\n", [])
    assert not _runs(int((tmp_path / "pid").read_text(encoding="ascii")))


def test_runner_started_elsewhere(tmp_path: Path) -> None:
    """With --runner-socket, no runner is started. The gateway's own report of a call is shown instead of the plugins' reports."""
    with running() as runner, Dev(tmp_path, "--runner-socket", f"unix:{runner.path}") as dev:
        dev.put_route("stop")
        assert dev.get("/get")[0] == 201
        (phase,) = dev.event("request", target="/get")["phases"]
        assert (phase["effects"], phase["changes"]) == ([], ["stopped with 201"])
        dev.process.terminate()
        assert dev.process.wait(TIMEOUT_S) == 0
        assert runner.process.poll() is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"apisix_version": "latest"}, "'latest' is not a version of APISIX"),
        ({"routes": "nope.yaml"}, "nope.yaml is not a file"),
        ({"config": "nope.yaml"}, "nope.yaml is not a file"),
    ],
)
def test_wrong_flags(flags: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong flag ends the start with status 2 and one sentence."""
    assert run(**flags) == 2
    assert said in capsys.readouterr().err


def test_port_in_use(tmp_path: Path) -> None:
    """If a port is in use, the start fails, and the message names the flag."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "apisix", "dev", "--port", str(port), "--upstream-port", "0"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"can't listen on 127.0.0.1:{port} (Address already in use): stop" in ended.stderr
    assert "choose another port with --port" in ended.stderr


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


BREAKS = """
from apisix import Plugin, Request

class Hello(Plugin):
    def on_request(self, request: Request) -> None:
        answer = 41
        breakpoint()
        request.headers["x-hello"] = str(answer)
"""


def test_breakpoint_without_debug(tmp_path: Path) -> None:
    """A breakpoint is an error at once. The message says how to get a prompt."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hello.py").write_text(BREAKS)
    with Dev(tmp_path) as dev:
        dev.put_route("hello")
        assert dev.refused("/get") == 503
        (effect,) = dev.event("request", target="/get")["phases"][0]["effects"]

    assert "`apisix-runner dev --debug`" in effect["error"]


def test_breakpoint_with_debug(tmp_path: Path) -> None:
    """With --debug, a breakpoint opens a prompt on the terminal, and the call continues afterwards."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "hello.py").write_text(BREAKS)
    (tmp_path / "apisix.yaml").write_text(ROUTES.format(uri="/get", port=1))
    child, terminal = pty.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts background jobs with it ignored, and dev leaves it so
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "apisix", "dev", "--debug", "--port", "0", "--upstream-port", "0"])  # noqa: S606

    def read_until(pattern: str) -> str:
        seen = ""
        deadline = time.monotonic() + TIMEOUT_S
        while not re.search(pattern, seen):
            assert select.select([terminal], [], [], deadline - time.monotonic())[0], seen
            seen += os.read(terminal, 65536).decode()
        return seen

    try:
        gateway = re.findall(r"gateway +(http://[0-9.:]+)", read_until("Ctrl-C"))[0]
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(urlopen, f"{gateway}/get", timeout=TIMEOUT_S)
            read_until(r"\(Pdb\) ")
            os.write(terminal, b"answer = 42\np answer + 1\n")
            read_until(r"43\r\n\(Pdb\) ")
            os.write(terminal, b"c\n")
            with pytest.raises(HTTPError) as caught:  # nobody listens at the upstream's port
                answer.result()
            caught.value.close()
        read_until("header x-hello added")
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.close(terminal)
