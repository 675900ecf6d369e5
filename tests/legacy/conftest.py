# SPDX-License-Identifier: Apache-2.0
"""A runner with the plugins of the legacy APIs that these tests need."""

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
    """Forget which warnings were logged: each is logged once in a process."""
    monkeypatch.setattr(edits, "_reported", set())


@pytest.fixture(scope="module")
def runner() -> Iterator[RunnerProcess]:
    """Return a runner with one worker."""
    with running(plugins=[PLUGINS]) as started:
        yield started


@pytest.fixture
def peer(runner: RunnerProcess) -> Iterator[Peer]:
    """Return a new connection to it."""
    with runner.peer() as connected:
        yield connected
