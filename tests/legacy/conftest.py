# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a runner with legacy plugins, and a connection to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from apisix.runner.legacy import edits
from tests.peer import Peer
from tests.plugin.conftest import load
from tests.runner_process import RunnerProcess, running

__all__ = ["load"]  # the fixture of tests/plugin
PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture(autouse=True)
def nothing_was_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which warnings were logged, because each is logged only once in a process."""
    monkeypatch.setattr(edits, "_reported", set())


@pytest.fixture(scope="module")
def runner() -> Iterator[RunnerProcess]:
    """Start a runner with one worker."""
    with running(plugins=[PLUGINS]) as started:
        yield started


@pytest.fixture
def peer(runner: RunnerProcess) -> Iterator[Peer]:
    """Open a new connection to the runner."""
    with runner.peer() as connected:
        yield connected
