# SPDX-License-Identifier: Apache-2.0
"""The table of settings."""

from apisix.runner.settings.table import SETTINGS


def test_names_are_unique_and_variables_follow_the_keys() -> None:
    """Keys, flags and variables are unique, and the name of each variable follows from the key."""
    for names in (
        [row.key for row in SETTINGS],
        [row.flag for row in SETTINGS if row.flag],
        [name for row in SETTINGS for name in row.variables],
    ):
        assert len(set(names)) == len(names)
    assert all(row.variables[0] == f"APISIX_RUNNER_{row.key.upper().replace('.', '_')}" for row in SETTINGS)
