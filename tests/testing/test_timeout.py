# SPDX-License-Identifier: Apache-2.0
"""The time limit of calls in tests."""

from apisix.runner.settings.table import Settings
from apisix.testing.client import Client


def test_the_default_is_that_of_the_runner() -> None:
    """A call that `dev` does not interrupt is not interrupted in a test that `dev` has saved."""
    with Client() as client:
        assert client._limits.plugin_timeout_s == Settings().plugin_timeout_s
