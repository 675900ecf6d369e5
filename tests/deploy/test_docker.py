# SPDX-License-Identifier: Apache-2.0
"""The Dockerfile: its style, its files, and the runner as process 1. `make verify-image` builds the image without a container runtime."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from apisix.cli.start import read_arguments
from apisix.runner.settings.loading import load
from tests.deploy.image import DOCKERFILE, copy_context, instructions
from tests.docs.pages import CHECKOUT
from tests.peer import Peer

TEXT = DOCKERFILE.read_text("utf-8")
HADOLINT = shutil.which("hadolint", path=os.path.dirname(sys.executable))
LIMIT_S = 20.0
DEV_SHM_BYTES = 64 * 2**20
"""What a container has in /dev/shm unless more is configured."""


def can_unshare() -> bool:
    """Return whether this user may make a PID namespace."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    if shutil.which("unshare") is None:
        return False
    return (
        shutil.which("unshare") is not None and subprocess.run(command, check=False, capture_output=True, timeout=LIMIT_S).returncode == 0
    )


def test_instructions() -> None:
    """The last stage has no compiler and no sources, runs as the user of the gateway's images, and contains no ONBUILD."""
    keywords = [keyword for keyword, _ in instructions(TEXT)]
    stages = TEXT.split("\nFROM ")
    final = stages[2] + stages[-1]

    assert [re.search(r" AS ([\w-]+)", stage).group(1) for stage in stages[1:]] == ["build", "installed", "all-in-one", "runner"]  # type: ignore[union-attr]
    assert "ONBUILD" not in keywords
    assert ("gcc" in final, "COPY . ." in final) == (False, False)
    assert [line for line in stages[-1].splitlines() if line.startswith("USER")] == ["USER 636:636"]


def dockerfiles(directory: Path) -> dict[str, str]:
    """Return all Dockerfiles: that of the image, and those of images on top of it, in a new project and in the documentation."""
    project = directory / "project"
    subprocess.run([sys.executable, "-m", "apisix", "new", "--project", project], check=True, capture_output=True, timeout=60)
    documented = re.findall(r"^```dockerfile\n(.*?)^```", (CHECKOUT / "docs/guides/deploy.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return {
        "image": TEXT,
        "project": (project / "Dockerfile").read_text("utf-8"),
        **{f"documentation {number}": text for number, text in enumerate(documented)},
    }


@pytest.mark.process
@pytest.mark.skipif(HADOLINT is None, reason="needs the dependency group deploy: make verify-deploy")
def test_style(tmp_path: Path) -> None:
    """hadolint reports nothing, except that the image on top of which users build has no tag: it is one of their own."""
    command = [str(HADOLINT), "--no-color", "--ignore", "DL3006", "-"]
    texts = dockerfiles(tmp_path)
    results = {
        name: subprocess.run(command, input=text, check=False, capture_output=True, text=True, timeout=60) for name, text in texts.items()
    }

    assert len(results) == 3
    assert {name: result.stdout for name, result in results.items() if result.returncode != 0} == {}


def test_context(tmp_path: Path) -> None:
    """The build gets what the wheel is built from, and neither tests nor compiled modules of another Python."""
    copy_context(CHECKOUT, tmp_path)
    manifest = (CHECKOUT / "MANIFEST.in").read_text()
    names = {path.name for path in tmp_path.iterdir()}

    assert names == {"apisix", "deploy", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"}
    assert "apisix" in manifest
    assert list(tmp_path.rglob("*.so")) == []
    assert (tmp_path / "apisix/runner/primitives.pxd").exists()


def test_settings_of_the_all_in_one_image() -> None:
    """The runner accepts the settings, and the gateway starts the program that the image contains."""
    directory = DOCKERFILE.parent / "all-in-one"
    command = yaml.safe_load((directory / "config.yaml").read_text())["ext-plugin"]["cmd"]

    settings = load(directory / "runner.yaml", {}, {"APISIX_LISTEN_ADDRESS": "unix:/a.sock"})

    assert settings.socket_file == "/a.sock"
    assert settings.state_size + settings.metadata_size < DEV_SHM_BYTES
    assert command[0] == "/opt/runner/bin/apisix-runner"
    assert read_arguments(command[1:]) == {"config": "/etc/apisix-runner.yaml"}
    assert "python3 -m venv /opt/runner" in TEXT


def test_shared_memory() -> None:
    """What plugins share is in the directory of the socket, which is in memory and survives the container."""
    (rest,) = (rest for keyword, rest in instructions(TEXT) if keyword == "ENV" and "SOCKET" in rest)
    environ = dict(pair.split("=") for pair in rest.split())

    assert load(None, {}, environ).state_directory == os.path.dirname(environ["APISIX_RUNNER_SOCKET_FILE"])


@pytest.fixture
def process_1(tmp_path: Path) -> Iterator[tuple[int, Path, "subprocess.Popen[bytes]"]]:
    """Start a runner as process 1 of a PID namespace, and return its pid outside of it, its socket, and the process that waits for it."""
    path = tmp_path / "runner.sock"
    command = [sys.executable, "-m", "apisix", "start", "--socket", str(path)]
    outer = subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *command], stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            try:
                Peer(path, LIMIT_S).close()
                break
            except OSError:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
        (pid,) = children(outer.pid)
        yield pid, path, outer
    finally:
        outer.kill()
        outer.wait(LIMIT_S)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.process
@pytest.mark.skipif(not can_unshare(), reason="this user may not make a PID namespace")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_as_process_1(process_1: tuple[int, Path, "subprocess.Popen[bytes]"], signum: signal.Signals) -> None:
    """The kernel ignores signals without a handler for process 1. The runner has handlers, and stops."""
    pid, path, outer = process_1
    os.kill(pid, signum)

    assert outer.wait(LIMIT_S) == 0
    assert not path.exists()


@pytest.mark.process
@pytest.mark.skipif(not can_unshare(), reason="this user may not make a PID namespace")
def test_process_1_waits_for_orphans(process_1: tuple[int, Path, "subprocess.Popen[bytes]"]) -> None:
    """If a process of a plugin outlives its parent, process 1 becomes its parent, and does not leave it as a zombie."""
    pid, _, _ = process_1
    enter = ["nsenter", f"--target={pid}", "--pid", "--mount"]
    output = subprocess.run([*enter, "sh", "-c", "sleep 0.2 >&- & echo started"], check=True, capture_output=True, timeout=LIMIT_S).stdout
    deadline_s = time.monotonic() + LIMIT_S
    seen = False
    while True:
        found = [child for child in children(pid) if Path(f"/proc/{child}/comm").read_text() == "sleep\n"]
        seen = seen or bool(found)
        if not found and (seen or time.monotonic() > deadline_s - LIMIT_S + 1):
            break
        assert time.monotonic() < deadline_s
        time.sleep(0.01)

    assert output == b"started\n"
    assert [child for child in children(pid) if ") Z " in Path(f"/proc/{child}/stat").read_text()] == []
