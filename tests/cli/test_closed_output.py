# SPDX-License-Identifier: Apache-2.0
"""Commands whose standard output is closed by its reader, as by `head`, end without a message and with the status of a broken pipe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apisix.testing import Client
from tests.testing.replaying.recording import write_records

pytestmark = pytest.mark.process

BROKEN_PIPE = 141
PLUGIN = """\
from apisix import Plugin, Request


class Mark(Plugin):
    def on_request(self, request: Request) -> None:
        request.headers["x-mark"] = "{mark}"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a plugin, and with records of calls in which it had another result."""
    (tmp_path / "plugins").mkdir()
    plugin = tmp_path / "plugins" / "mark.py"
    plugin.write_text(PLUGIN.format(mark="before"), encoding="utf-8")
    with Client([tmp_path / "plugins"]) as client:
        write_records(tmp_path / "calls.jsonl", [client.get(f"/{number}", plugins=["mark"]) for number in range(5)])
    plugin.write_text(PLUGIN.format(mark="after"), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "replay calls.jsonl --plugins plugins",
        "replay calls.jsonl --plugins plugins --json",
        "plugins --plugins plugins",
        "plugins --plugins plugins --json",
        "check --plugins plugins",
        "schema mark --plugins plugins",
        "health --socket missing.sock",
        "doctor --json",
        "dev --json --port 0 --upstream-port 0 --no-inspect",
        "dev --port 0 --upstream-port 0",
        "new other",
        "--help",
        "start --help",
    ],
)
def test_output_that_is_closed(directory: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "apisix", *command.split()],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")


def test_dev_of_which_only_the_first_line_is_read(directory: Path) -> None:
    """What is printed later finds the output closed: here, the lines about a plugin that was saved."""
    with subprocess.Popen(
        [sys.executable, "-m", "apisix", "dev", "--json", "--port", "0", "--upstream-port", "0"],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while json.loads(process.stdout.readline())["event"] != "notice":
                pass
            process.stdout.close()
            (directory / "plugins" / "mark.py").write_text(PLUGIN.format(mark="saved again"), encoding="utf-8")
            status = process.wait(60)
        finally:
            process.kill()
        errors = process.stderr.read()

    assert (status, errors) == (BROKEN_PIPE, b"")
