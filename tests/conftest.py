# SPDX-License-Identifier: Apache-2.0
"""Let the tests run on a busy machine, and several at a time (pytest-xdist, which `make test` uses)."""

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The time that an example takes is meaningless while other tests run.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """
    Run one test more than there are processors at a time, because a test waits about half of the time for the processes that it starts.
    """
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """
    Escape characters that UTF-8 can't encode in the reports of a pytest-xdist process. Such text would end the process, and tests do log
    it.
    """
    return _escaped((yield))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_escaped, value))
    return value
