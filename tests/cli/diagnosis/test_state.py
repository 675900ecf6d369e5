# SPDX-License-Identifier: Apache-2.0
"""What `doctor` reports about the shared store in Redis."""

import pytest

from apisix.cli.diagnosis.state import examine_state
from apisix.runner.settings.table import Settings
from tests.state.redis_process import running

SECRET = "pa55word"  # noqa: S105  # it must not be in any result


def shown(url: str | None) -> list[str]:
    """Return the results for a URL."""
    return [str(result) for result in examine_state(Settings(state_url=url))]


def test_without_redis() -> None:
    """The embedded store is not examined."""
    assert shown(None) == []


@pytest.mark.process
def test_server_that_replies() -> None:
    """The result has no URL."""
    with running(password=SECRET) as setup:
        (line,) = shown(setup.url)
    assert line.startswith("ok       state    Redis replied within")
    assert SECRET not in line


@pytest.mark.parametrize(
    ("url", "start"),
    [
        (f"redis://:{SECRET}@127.0.0.1:1", "problem  state    the store can't be used, because Redis is not available"),
        (f"redis://:{SECRET}/@h", "problem  state    the URL of state.url can't be used"),
    ],
)
def test_problems(url: str, start: str) -> None:
    """Neither a server that is down nor a URL of another form shows the password."""
    (line,) = shown(url)
    assert line.startswith(start)
    assert SECRET not in line
