# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of commands."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.checking import PLUGIN


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Restore the runner's logger, which the commands change."""
    logger = logging.getLogger("apisix")
    yield
    logger.handlers.clear()
    logger.propagate = True


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """Return a directory with one plugin, `say`."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "say.py").write_text(PLUGIN)
    return directory
