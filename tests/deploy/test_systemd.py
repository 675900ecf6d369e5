# SPDX-License-Identifier: Apache-2.0
"""The files for systemd are correct, as far as systemd's own tools report it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apisix.runner.supervisor.shutdown import STANDALONE_TIMEOUT_S
from tests.docs.pages import CHECKOUT

SYSTEMD = CHECKOUT / "deploy" / "systemd"
UNIT = SYSTEMD / "apisix-runner.service"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *arguments], check=False, capture_output=True, text=True, timeout=60)


@needs_systemd
def test_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` reports nothing. The program is replaced, because it must exist."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/runner/.venv/bin/apisix-runner", sys.executable))
    result = analyze("verify", str(unit))

    assert (result.returncode, [line for line in result.stderr.splitlines() if UNIT.name in line]) == (0, [])


@needs_systemd
def test_security_of_the_unit() -> None:
    """The exposure level is that of a service with all restrictions that the runner can run with. It must not get worse."""
    result = analyze("security", "--offline=true", "--threshold=20", str(UNIT))

    assert result.returncode == 0, result.stdout


def test_time_to_stop() -> None:
    """systemd waits longer than the runner takes to stop."""
    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)

    assert found is not None
    assert int(found[1]) > STANDALONE_TIMEOUT_S


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None or os.geteuid() != 0, reason="needs systemd-sysusers and root")
def test_user_and_directory(tmp_path: Path) -> None:
    """Both files are accepted, and create the user of the unit and the directory of the socket."""
    (tmp_path / "etc").mkdir()
    for tool, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        options = ["--create"] if name == "tmpfiles" else []
        with (SYSTEMD / f"apisix-runner.{name}.conf").open() as file:
            subprocess.run([tool, f"--root={tmp_path}", *options, "-"], stdin=file, check=True, capture_output=True, timeout=60)

    assert re.findall(r"^(apisix-runner):", (tmp_path / "etc/passwd").read_text(), re.MULTILINE) == ["apisix-runner"]
    assert (tmp_path / "run/apisix-runner").stat().st_mode & 0o777 == 0o755
    assert "User=apisix-runner\n" in UNIT.read_text()
