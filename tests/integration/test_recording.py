# SPDX-License-Identifier: Apache-2.0
"""Calls are recorded by a real runner, without secrets, and recording never stops it from serving."""

import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from apisix.runner.records.format import CallRecord, ConfigurationRecord, decode
from tests.integration.other_user import needs_root
from tests.peer import PRE_REQ
from tests.runner_process import RunnerProcess, running, wait_until_accepting

PLUGIN = '''
import logging
import os
from dataclasses import dataclass
from typing import Annotated

import msgspec

from apisix import Plugin, Request

logger = logging.getLogger("author")


@dataclass
class Config:
    """A configuration with a secret that only its schema marks."""

    word: Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})] = ""


class Edit(Plugin[Config]):
    """Edits the request, reads its body, and logs its secrets."""

    def on_request(self, request: Request) -> None:
        request.headers["x-edited"] = "1"
        request.read()
        logger.warning("%s %s", request.headers.get("authorization"), self.config.word)
        if request.path == "/fail":
            raise ValueError(request.headers.get("x-api-key"))
        if request.path == "/fork" and os.fork() == 0:
            os._exit(0)
'''
WITHIN_S = 15.0


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A directory with the plugin `edit`."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "edit.py").write_text(PLUGIN)
    return directory


def lines(file: Path) -> list[CallRecord | ConfigurationRecord]:
    """Return what a file contains, apart from a line that is being written. A file that does not exist is empty."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    return [decode(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def calls(file: Path) -> list[CallRecord]:
    """Return the calls of a file."""
    return [line for line in lines(file) if isinstance(line, CallRecord)]


def wait_for(condition: Callable[[], object]) -> None:
    """Return once a condition is true."""
    deadline_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def call(runner: RunnerProcess, *paths: str, config: str = "{}", key: str = PRE_REQ, **options: Any) -> None:
    """Make a call for each path, on one connection."""
    with runner.peer() as peer:
        token = peer.prepare(("edit", config), key=key)
        for path in paths:
            peer.request(token, path=path, **options)


def recorder(runner: RunnerProcess, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `apisix-runner record` and return the result."""
    with recording(runner, *arguments) as command:
        output, errors = command.communicate(timeout=60)
    return subprocess.CompletedProcess([], command.returncode, output, errors)


@contextmanager
def recording(runner: RunnerProcess, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Start `apisix-runner record`."""
    command = [sys.executable, "-m", "apisix", "record", "--socket", str(runner.path), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_calls_are_recorded_after_their_configuration(plugins: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with running("--record", str(file), plugins=[plugins]) as runner:
        call(runner, "/a", "/b", answers={"body": b"hello"})
        wait_for(lambda: len(calls(file)) == 2)

    configuration, first, second = lines(file)
    assert isinstance(configuration, ConfigurationRecord)
    assert isinstance(first, CallRecord)
    assert isinstance(second, CallRecord)
    assert (first.configuration, second.configuration) == (configuration.digest, configuration.digest)
    assert first.request is not None
    assert first.request.body is not None
    assert (first.request.path, first.request.body.text, first.outcome) == ("/a", "hello", "rewrite")
    assert [edit.name for edit in first.steps[0].edits] == ["x-edited"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_planted_secrets_are_not_in_the_file(plugins: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    secrets = {name: f"planted-{name}-4711" for name in ("bearer", "cookie", "api", "word", "query", "json", "listed", "url", "nested")}
    with running("--record", str(file), plugins=[plugins], environ={"APISIX_RUNNER_RECORD_REDACT": "x-listed"}) as runner:
        call(
            runner,
            "/a",
            "/fail",
            config=json.dumps({"word": secrets["word"]}),
            args=[("password", secrets["query"])],
            headers=[
                ("host", "example.com"),
                ("authorization", f"Bearer {secrets['bearer']}"),
                ("cookie", f"id={secrets['cookie']}"),
                ("x-api-key", secrets["api"]),
                ("x-listed", secrets["listed"]),
                ("referer", f"https://example.com/?a=1&access_token={secrets['url']}"),
                ("x-original-url", f"/login?next=https%3A%2F%2Fexample.com%2F%23id_token%3D{secrets['nested']}"),
                ("content-type", "application/json"),
            ],
            answers={"body": json.dumps({"token": secrets["json"], "again": secrets["bearer"]}).encode()},
        )
        wait_for(lambda: len(calls(file)) == 2)

    recorded = file.read_text()
    assert [name for name, secret in secrets.items() if secret in recorded] == []
    first, second = calls(file)
    assert (len(first.steps[0].logs), first.steps[0].logs[0].message.count("redacted-")) == (1, 2)
    assert second.steps[0].error is not None
    assert second.steps[0].error.message.startswith("redacted-")


def test_without_redaction_secrets_are_recorded_and_a_warning_is_logged(plugins: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with running("--record", str(file), plugins=[plugins], environ={"APISIX_RUNNER_RECORD_REDACTION": "false"}) as runner:
        runner.wait_for_log("warning", "record.redaction")
        call(runner, "/a", headers=[("authorization", "Bearer planted-4711")])
        wait_for(lambda: calls(file))

    assert "planted-4711" in file.read_text()


def test_only_failures_are_recorded(plugins: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with running("--record", str(file), plugins=[plugins], environ={"APISIX_RUNNER_RECORD_ONLY_FAILURES": "true"}) as runner:
        call(runner, "/a", "/fail", "/b")

    assert [record.outcome for record in calls(file)] == ["refused"]


def test_sigterm_writes_what_is_queued(plugins: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with running("--record", str(file), plugins=[plugins]) as runner:
        call(runner, *["/a"] * 100)
        assert runner.stop() == 0

    assert len(calls(file)) == 100


def test_workers_share_the_file_and_each_file_is_complete(plugins: Path, tmp_path: Path) -> None:
    """Two workers write, and the file is rotated many times. Each file contains whole lines, and the configurations of its calls."""
    file = tmp_path / "calls.jsonl"
    environ = {"APISIX_RUNNER_RECORD_MAX_BYTES": "20KiB", "APISIX_RUNNER_RECORD_FILES": "1000", "APISIX_RUNNER_RECORD_CPU_SHARE": "1"}
    made = 0
    with running("--record", str(file), "--workers", "2", plugins=[plugins], environ=environ) as runner:

        def both_record() -> bool:
            nonlocal made
            call(runner, *["/a"] * 10)
            made += 10
            return len({record.worker for path in tmp_path.glob("calls.jsonl*") for record in calls(path)}) == 2

        wait_for(both_record)  # the first connections may all be passed to the worker that has started first
        with runner.peer() as first, runner.peer() as second, runner.peer() as third, runner.peer() as fourth:
            peers = [(peer, peer.prepare(("edit", "{}"))) for peer in (first, second, third, fourth)]
            for _ in range(50):
                for peer, token in peers:
                    peer.request(token)
                    made += 1
        assert runner.stop() == 0

    files = [path for path in tmp_path.iterdir() if path.name.startswith("calls.jsonl")]
    assert len(files) > 3
    assert max(path.stat().st_size for path in files) <= 20 * 1024
    assert sum(len(calls(path)) for path in files) == made
    for path in files:
        known = set()
        for line in lines(path):
            if isinstance(line, ConfigurationRecord):
                known.add(line.digest)
            else:
                assert line.configuration in known


def test_a_plugin_that_forks_does_not_stop_the_recording(plugins: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with running("--record", str(file), plugins=[plugins]) as runner:
        call(runner, "/fork", "/a")

    assert [record.request.path for record in calls(file) if record.request is not None] == ["/fork", "/a"]


@pytest.mark.parametrize("name", ["missing/calls.jsonl", "link.jsonl", "directory"])
def test_a_file_that_cannot_be_opened_is_refused_at_the_start(plugins: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target")
    (tmp_path / "directory").mkdir()
    process = subprocess.run(
        [sys.executable, "-m", "apisix", "start", "--socket", str(tmp_path / "s"), "--record", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert process.returncode == 2
    assert f"record.file is '{tmp_path / name}', which can't be opened: " in process.stderr


@needs_root
def test_a_file_of_another_user_is_refused_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.touch()
    os.chown(file, 65534, 65534)
    process = subprocess.run(
        [sys.executable, "-m", "apisix", "start", "--socket", str(tmp_path / "s"), "--record", str(file)],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert process.returncode == 2
    assert "it belongs to another user" in process.stderr


def test_if_the_disk_is_full_recording_stops_and_calls_are_served(plugins: Path, tmp_path: Path) -> None:
    """A limit for the size of files has the same effect. The log is a pipe here, because it has the limit too."""
    file = tmp_path / "calls.jsonl"
    socket = tmp_path / "s"
    limit = 64 * 1024
    process = subprocess.Popen(
        [sys.executable, "-m", "apisix", "start", "--socket", str(socket), "--plugins", str(plugins), "--record", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "APISIX_RUNNER_LOGGING_LEVEL": "error"},
    )
    try:
        runner = RunnerProcess(socket, cast("subprocess.Popen[bytes]", process), tmp_path / "log")
        wait_until_accepting(runner)
        call(runner, "/a")
        wait_for(lambda: calls(file))
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        resource.prlimit(int(worker), resource.RLIMIT_FSIZE, (limit, limit))
        call(runner, *["/a"] * 200)
        assert process.stderr is not None
        message = process.stderr.readline()
        call(runner, "/a")
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=WITHIN_S)[1]

    assert process.returncode == 0
    assert re.search("records can't be written to .*recording is off in this worker", message), message + rest
    assert file.stat().st_size <= limit
    assert calls(file) != []


def test_sigusr1_switches_recording_on_and_off_in_all_workers(plugins: Path) -> None:
    with running("--workers", "2", plugins=[plugins]) as runner:
        file = Path(f"{runner.path}.records.jsonl")
        with runner.peer() as first, runner.peer() as second:
            peers = [(peer, peer.prepare(("edit", "{}"))) for peer in (first, second)]
            for path in ("/before", "/during", "/after"):
                if path != "/before":
                    runner.process.send_signal(signal.SIGUSR1)
                    runner.wait_for_log("calls are recorded in" if path == "/during" else "recording has stopped")
                for peer, token in peers:
                    peer.request(token, path=path)
        runner.wait_for_log(f"recording has stopped: 2 calls are in {file}")
        recorded = calls(file)
        state = Path(f"{runner.path}.recording")
        assert (state.exists(), stat.S_IMODE(state.stat().st_mode)) == (True, 0o600)
        assert runner.stop() == 0
        assert state.exists() is False

    assert [record.request.path for record in recorded if record.request is not None] == ["/during", "/during"]


def test_the_command_record_records_for_some_time(plugins: Path) -> None:
    with running("--workers", "2", plugins=[plugins]) as runner:
        call(runner, "/before")
        with recording(runner, "--seconds", "60") as command:
            assert command.stderr is not None
            assert "records.jsonl for 60 s" in command.stderr.readline()
            call(runner, "/during", "/during")
            again = recorder(runner)
            command.send_signal(signal.SIGINT)
            output = command.communicate(timeout=WITHIN_S)[0]
        call(runner, "/after")

        file = Path(f"{runner.path}.records.jsonl")
        assert (command.returncode, output) == (0, f"{file}: 2 calls\n")
        assert (again.returncode, again.stderr) == (1, f"Error: the runner on {runner.path} is recording already, in {file}\n")
        assert [record.request.path for record in calls(file) if record.request is not None] == ["/during", "/during"]


def test_workers_that_start_later_record_too(plugins: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with running("--record", str(file), plugins=[plugins], environ={"APISIX_RUNNER_RECORD_AT_START": "false"}) as runner:
        runner.process.send_signal(signal.SIGUSR1)
        runner.wait_for_log("calls are recorded in")
        call(runner, "/first")
        runner.process.send_signal(signal.SIGHUP)
        runner.wait_for_log("in the place of")
        call(runner, "/second")

    recorded = calls(file)
    assert [record.request.path for record in recorded if record.request is not None] == ["/first", "/second"]
    assert len({record.worker for record in recorded}) == 2


def test_if_the_file_cannot_be_opened_recording_stays_off(plugins: Path) -> None:
    with running(plugins=[plugins]) as runner:
        Path(f"{runner.path}.records.jsonl").mkdir()
        result = recorder(runner)
        runner.wait_for_log("calls can't be recorded", "Is a directory")
        call(runner, "/a")

    assert result.returncode == 1
    assert "can't be opened: Is a directory" in result.stderr


def test_the_command_record_without_a_runner(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "apisix", "record", "--socket", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert (result.returncode, result.stderr) == (
        1,
        f"Error: no runner can be reached on {tmp_path / 's'}: No such file or directory. Use --socket\n",
    )
