# SPDX-License-Identifier: Apache-2.0
"""`apisix-runner doctor`, as an operator uses it."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from apisix.cli.commands import commands
from tests.peer import Peer
from tests.runner_process import running


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Leave the logger of the runner as it was found."""
    logger = logging.getLogger("apisix")
    yield
    logger.handlers.clear()
    logger.propagate = True


def doctor(*arguments: str | Path, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(commands, ["doctor", *map(str, arguments)], prog_name="apisix-runner", env=environ)


def test_all_is_well(tmp_path: Path) -> None:
    """With a runner that answers and a gateway that looks for it there, nothing is a problem, and no secret is shown."""
    with running() as runner:
        with Peer(runner.path) as peer:
            peer.prepare(("stop", json.dumps({"password": "s3cret"})))
        gateway = tmp_path / "config.yaml"
        gateway.write_text(f"ext-plugin: {{path_for_test: {runner.path}}}\ndeployment: {{admin: {{admin_key: [{{key: s3cret}}]}}}}")
        result = doctor("--socket", runner.path, "--gateway-config", gateway)

    lines = result.output.splitlines()
    assert result.exit_code == 0, result.output
    assert lines[-1].startswith("0 problems, ")
    assert "s3cret" not in result.output
    assert {"python", "gateway", "socket", "health", "store", "plugins"} <= {line[9:17].strip() for line in lines[:-1]}
    assert {"ok", "warning"} >= {line[:8].strip() for line in lines[:-1]}
    assert any(f"listens: pid {runner.process.pid}" in line for line in lines)


def test_problems(tmp_path: Path) -> None:
    """A plugin that does not import and a runner that is not there are problems, and the status says so, in fields too."""
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found\n")
    result = doctor("--socket", tmp_path / "r.sock", "--plugins", tmp_path, "--json")
    report = json.loads(result.output)
    problems = [finding for finding in report["findings"] if finding["level"] == "problem"]

    assert (result.exit_code, report["ok"]) == (1, False)
    assert [finding["about"] for finding in problems] == ["socket", "plugins"]
    assert f"{tmp_path}/bad.py:1: " in problems[1]["text"]
    assert all(finding["advice"] for finding in problems)


def test_settings_that_are_wrong(tmp_path: Path) -> None:
    """What keeps the runner from starting comes first, and the rest is looked at all the same."""
    (tmp_path / "config.yaml").write_text("logging: {level: loud}")
    result = doctor("--config", tmp_path / "config.yaml", "--socket", tmp_path / "r.sock")
    lines = result.output.splitlines()

    assert lines[0].startswith(f"problem  settings {tmp_path}/config.yaml, line 1: logging.level is 'loud', but must be")
    assert any(line.startswith("ok       plugins") for line in lines)


def test_a_gateway_that_starts_the_runner(tmp_path: Path) -> None:
    """Its runner's socket is found beside its configuration; without one, that is the problem."""
    gateway = tmp_path / "config.yaml"
    gateway.write_text("ext-plugin: {cmd: [sh, apisix-runner, start]}")
    missing = doctor("--gateway-config", gateway)
    path = tmp_path / f"apisix-{os.getpid()}.sock"
    path.touch()
    found = doctor("--gateway-config", gateway)

    assert f"problem  socket   there is no socket of a runner that the gateway has started in {tmp_path}" in missing.output
    assert f"problem  socket   {path} exists but is not a socket" in found.output


def test_a_gateway_configuration_that_is_not_there(tmp_path: Path) -> None:
    """A wrong name is one more problem, and no reason to stop."""
    result = doctor("--gateway-config", tmp_path / "none.yaml", "--socket", tmp_path / "r.sock")

    assert (result.exit_code, "none.yaml can't be read" in result.output, "ok       plugins" in result.output) == (1, True, True)
