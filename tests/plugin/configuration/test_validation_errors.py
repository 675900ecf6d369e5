# SPDX-License-Identifier: Apache-2.0
"""Texts about configurations hold no values. What they say field by field is shown in test_configuration."""

import doctest

import pytest

from apisix.runner.plugin.configuration import validation_errors as faults
from apisix.runner.plugin.configuration.validation_errors import without_values


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("no user jack with password pw1", "jack:pw1", "no user ... with password ..."),
        ("KeyError: 'alpha'", '{"keys": ["alpha", "al"]}', "KeyError: '...'"),
        ("it is 12345 of 1", '{"pin": 12345}', "it is ... of 1"),
        ("bad 'a\\nb'", '{"key": "a\\nb"}', "bad '...'"),
        ("alphabet", '{"key": "alpha"}', "alphabet"),
        ("the sun is up", '{"on": true, "x": null, "s": ""}', "the sun is up"),
        ("anything", "", "anything"),
    ],
)
def test_values_are_blanked(text: str, value: str, expected: str) -> None:
    """Strings and numbers of the configuration, also of one that is no JSON, are blanked where they stand as words."""
    assert expected == without_values(text, value)


def test_examples() -> None:
    """The examples in the docstrings hold."""
    assert 0 == doctest.testmod(faults).failed
