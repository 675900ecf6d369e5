# SPDX-License-Identifier: Apache-2.0
"""Messages about configurations contain no values. `test_readers.py` tests the messages about each kind of field."""

import doctest

import pytest

from apisix.runner.plugin.configuration import validation_errors
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
def test_values_are_replaced(text: str, value: str, expected: str) -> None:
    """Strings and numbers of the configuration are replaced if they are whole words, also if the configuration is not JSON."""
    assert without_values(text, value) == expected


def test_examples() -> None:
    """The examples in the docstrings are correct."""
    assert doctest.testmod(validation_errors).failed == 0
