# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that records how long each test takes, whether it passes, and for which test a process measures its coverage."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

RECORD = "APISIX_MUTANT_RECORD"
"""The environment variable that names the file to write."""
_tests: dict[str, list[Any]] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the processes that this test starts or forks record their lines under its name."""
    coverage = Coverage.current()
    if coverage is not None:
        coverage.config.context = item.nodeid
        os.environ["COVERAGE_PROCESS_CONFIG"] = coverage.config.serialize()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add the duration of a phase of a test, in seconds."""
    entry = _tests.setdefault(report.nodeid, [0.0, True])
    entry[0] += report.duration
    entry[1] &= report.passed or report.skipped


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the record, in the process that got the reports of all tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        Path(os.environ[RECORD]).write_text(json.dumps(_tests), encoding="utf-8")
