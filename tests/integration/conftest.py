# SPDX-License-Identifier: Apache-2.0
"""One runner with the plugins of this folder, for the tests that need no settings of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peer import Peer
from tests.runner_process import RunnerProcess, running

PLUGINS = Path(__file__).parent / "plugins"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this directory, which all start runners. The hook is called with the tests of all directories."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.process)


@pytest.fixture(scope="session")
def runner() -> Iterator[RunnerProcess]:
    """A runner that all tests share."""
    with running(plugins=[PLUGINS]) as process:
        yield process


@pytest.fixture
def peer(runner: RunnerProcess) -> Iterator[Peer]:
    """A connection to it."""
    with runner.peer() as connection:
        yield connection
