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
from collections.abc import Callable
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
    """Return what a file contains. A file that does not exist is empty."""
    return [decode(line) for line in file.read_bytes().splitlines()] if file.exists() else []


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
    secrets = {name: f"planted-{name}-4711" for name in ("bearer", "cookie", "api", "word", "query", "json", "listed")}
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
    environ = {"APISIX_RUNNER_RECORD_MAX_BYTES": "20KiB", "APISIX_RUNNER_RECORD_FILES": "50", "APISIX_RUNNER_RECORD_CPU_SHARE": "1"}
    with running("--record", str(file), "--workers", "2", plugins=[plugins], environ=environ) as runner:
        with runner.peer() as first, runner.peer() as second, runner.peer() as third, runner.peer() as fourth:
            peers = [first, second, third, fourth]
            tokens = [peer.prepare(("edit", "{}")) for peer in peers]
            for _ in range(50):
                for peer, token in zip(peers, tokens, strict=True):
                    peer.request(token)
        assert runner.stop() == 0

    files = [path for path in tmp_path.iterdir() if path.name.startswith("calls.jsonl")]
    assert len(files) > 3
    assert max(path.stat().st_size for path in files) <= 20 * 1024
    assert sum(len(calls(path)) for path in files) == 200
    for path in files:
        known = set()
        for line in lines(path):
            if isinstance(line, ConfigurationRecord):
                known.add(line.digest)
            else:
                assert line.configuration in known
    assert len({record.worker for path in files for record in calls(path)}) == 2


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
