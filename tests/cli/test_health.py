# SPDX-License-Identifier: Apache-2.0
"""The command `health` with a real runner, as a container's HEALTHCHECK uses it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from apisix.cli.health import SOCKET_VARIABLES, read_arguments, socket_path
from apisix.runner.errors import SettingsError
from apisix.runner.settings.table import SETTINGS
from tests.runner_process import running


def health(*arguments: str | Path, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Return the exit status and the output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "apisix", "health", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=environ,
        timeout=20,
    )
    return done.returncode, done.stdout


def test_runner_that_replies() -> None:
    """If the runner replies, the status is 0, and a line or JSON is printed. The path can come from a flag, the environment or a file."""
    with running() as runner:
        status, line = health("--socket", runner.path)
        status_for_tools, text = health("--socket", f"unix:{runner.path}", "--timeout=20", "--json")
        from_environment, _ = health(environ={"APISIX_LISTEN_ADDRESS": f"unix:{runner.path}"})

    fields = json.loads(text)
    assert (status, status_for_tools, from_environment) == (0, 0, 0)
    assert line.startswith(f"healthy: {runner.path} replied within ")
    assert (fields["ok"], fields["socket"]) == (True, str(runner.path))
    assert 0 < fields["took_s"] < 20


def test_no_runner(tmp_path: Path) -> None:
    """Without a runner, the status is 1, and the reason is printed."""
    path = tmp_path / "none.sock"
    status, line = health("--socket", path)
    status_for_tools, text = health("--socket", path, "--json")

    assert (status, status_for_tools) == (1, 1)
    assert (
        line
        == f"unhealthy: there is no socket {path}, so the runner is not running or listens on another path. Start it, or use --socket\n"
    )
    assert json.loads(text)["ok"] is False


def test_wrong_arguments(tmp_path: Path) -> None:
    """With a wrong time limit, the runner is unhealthy. Other mistakes are left to click, which prints the usage."""
    assert health("--timeout", "0") == (1, "unhealthy: --timeout is '0', but must be a number of seconds greater than 0\n")
    assert health("--timeout", "soon") == (1, "unhealthy: --timeout is 'soon', but must be a number of seconds greater than 0\n")
    assert health("--no-such-flag") == (2, "")
    status, text = health("--help")
    assert (status, "--timeout SECONDS" in text) == (0, True)
    assert health("--socket", tmp_path / "none", "--timeout", "-1")[0] == 1  # through click


def test_priority_of_the_sources_of_the_path(tmp_path: Path) -> None:
    """A flag has priority over the environment, and the environment over the file."""
    file = tmp_path / "config.yaml"
    file.write_text("socket: {file: /in/the/file}")
    own, gateways = SOCKET_VARIABLES
    environ = {own: "/in/our/variable", gateways: "unix:/in/the/gateways"}

    assert socket_path({"socket_file": "unix:/in/a/flag"}, environ) == "/in/a/flag"
    assert socket_path({}, environ) == "/in/our/variable"
    assert socket_path({}, {gateways: environ[gateways]}) == "/in/the/gateways"
    assert socket_path({"config": str(file)}, {}) == "/in/the/file"
    with pytest.raises(SettingsError, match=r"socket\.file is 'relative', but must be an absolute path"):
        socket_path({"config": str(file)}, {own: "relative"})


def test_names_of_the_variables() -> None:
    """The names, which are repeated for speed, are the same as in the table of settings."""
    assert next(row.variables for row in SETTINGS if row.name == "socket_file") == SOCKET_VARIABLES


def test_other_commands() -> None:
    """Only `health` with its flags is read without click."""
    assert read_arguments(["start"]) is None
    assert read_arguments([]) is None
    assert read_arguments(["health", "--timeout", "3", "--json"]) == {"timeout_s": "3", "as_json": True}


def test_imports() -> None:
    """If the path is given, modules whose import takes long, such as click, msgspec and YAML, are not imported."""
    code = (
        "import sys; sys.argv = ['apisix-runner', 'health', '--socket', '/none']; from apisix.main import main; main(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)

    assert {"click", "msgspec", "yaml", "asyncio", "uvloop"} & set(done.stdout.split()) == set()
