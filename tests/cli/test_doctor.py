# SPDX-License-Identifier: Apache-2.0
"""The command `doctor`."""

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
    """Restore the logger of the runner."""
    logger = logging.getLogger("apisix")
    yield
    logger.handlers.clear()
    logger.propagate = True


def doctor(*arguments: str | Path, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(commands, ["doctor", *map(str, arguments)], prog_name="apisix-runner", env=environ)


def test_no_problems(tmp_path: Path) -> None:
    """If a runner replies and the gateway uses its socket, there are no problems. Secrets are not shown."""
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
    """A plugin that can't be imported and a missing runner are problems. The status is 1, also with --json."""
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found\n")
    result = doctor("--socket", tmp_path / "r.sock", "--plugins", tmp_path, "--json")
    report = json.loads(result.output)
    problems = [finding for finding in report["findings"] if finding["level"] == "problem"]

    assert (result.exit_code, report["ok"]) == (1, False)
    assert [finding["about"] for finding in problems] == ["socket", "plugins"]
    assert f"{tmp_path}/bad.py:1: " in problems[1]["text"]
    assert all(finding["advice"] for finding in problems)


def test_counts(tmp_path: Path) -> None:
    """The last line has the number of problems, in the singular if there is one."""
    assert doctor("--socket", tmp_path / "r.sock").output.splitlines()[-1].startswith("1 problem, ")


def test_wrong_settings(tmp_path: Path) -> None:
    """A wrong setting is reported first, and the rest is examined with default settings."""
    (tmp_path / "config.yaml").write_text("logging: {level: loud}")
    result = doctor("--config", tmp_path / "config.yaml", "--socket", tmp_path / "r.sock")
    lines = result.output.splitlines()

    assert lines[0].startswith(f"problem  settings {tmp_path}/config.yaml, line 1: logging.level is 'loud', but must be")
    assert any(line.startswith("ok       plugins") for line in lines)


def test_a_gateway_that_starts_the_runner(tmp_path: Path) -> None:
    """If the gateway starts the runner, its socket is found next to the gateway's configuration. A missing socket is a problem."""
    gateway = tmp_path / "config.yaml"
    gateway.write_text("ext-plugin: {cmd: [sh, apisix-runner, start]}")
    missing = doctor("--gateway-config", gateway)
    path = tmp_path / f"apisix-{os.getpid()}.sock"
    path.touch()
    found = doctor("--gateway-config", gateway)

    assert f"problem  socket   {tmp_path} contains no socket of a runner that the gateway has started" in missing.output
    assert f"problem  socket   {path} exists but is not a socket" in found.output


def test_missing_gateway_configuration(tmp_path: Path) -> None:
    """If the gateway's configuration does not exist, this is a problem, and the rest is examined."""
    result = doctor("--gateway-config", tmp_path / "none.yaml", "--socket", tmp_path / "r.sock")

    assert (result.exit_code, "none.yaml can't be read" in result.output, "ok       plugins" in result.output) == (1, True, True)
