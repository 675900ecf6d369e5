# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner health`, as a container's HEALTHCHECK starts it, against a real runner."""

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
    """Return the exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "apisix", "health", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=environ,
        timeout=20,
    )
    return done.returncode, done.stdout


def test_a_living_runner() -> None:
    """Its answer is status 0 and a line, or fields for tools, wherever the path comes from."""
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
    """Without one it is status 1 and the reason."""
    path = tmp_path / "none.sock"
    status, line = health("--socket", path)
    status_for_tools, text = health("--socket", path, "--json")

    assert (status, status_for_tools) == (1, 1)
    assert line == f"unhealthy: there is no socket {path}: the runner is not running, or listens elsewhere\n"
    assert json.loads(text)["ok"] is False


def test_a_mistake_in_the_arguments(tmp_path: Path) -> None:
    """A time that is none is unhealthy too; what is no flag is a matter for click, which knows the help."""
    assert health("--timeout", "0") == (1, "unhealthy: --timeout is '0', but must be a number of seconds greater than 0\n")
    assert health("--timeout", "soon") == (1, "unhealthy: --timeout is 'soon', but must be a number of seconds greater than 0\n")
    assert health("--no-such-flag") == (2, "")
    status, text = health("--help")
    assert (status, "--timeout SECONDS" in text) == (0, True)
    assert health("--socket", tmp_path / "none", "--timeout", "-1")[0] == 1  # through click


def test_the_path_comes_from_where_start_takes_it(tmp_path: Path) -> None:
    """The flag rules over the environment, and that over the file."""
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


def test_variables_are_those_of_the_table() -> None:
    """The names that are written down here for speed are the settings' own."""
    assert next(row.variables for row in SETTINGS if row.name == "socket_file") == SOCKET_VARIABLES


def test_other_commands_are_not_for_this_reading() -> None:
    """Only `health` with its flags is read without click."""
    assert read_arguments(["start"]) is None
    assert read_arguments([]) is None
    assert read_arguments(["health", "--timeout", "3", "--json"]) == {"timeout_s": "3", "as_json": True}


def test_it_starts_without_what_takes_long() -> None:
    """Neither click nor msgspec nor YAML is imported for a path that is given: they take longer than all the rest."""
    code = (
        "import sys; sys.argv = ['apisix-runner', 'health', '--socket', '/none']; from apisix.main import main; main(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)

    assert {"click", "msgspec", "yaml", "asyncio", "uvloop"} & set(done.stdout.split()) == set()
