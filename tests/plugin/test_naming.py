# SPDX-License-Identifier: Apache-2.0
"""Names of classes, files and routes."""

import doctest

import pytest

from apisix.runner.plugin import naming
from apisix.runner.plugin.naming import kebab_case, snake_case


@pytest.mark.parametrize(
    ("class_name", "kebab", "snake"),
    [
        ("KeyAuth", "key-auth", "key_auth"),
        ("ABoom", "a-boom", "a_boom"),
        ("Stop1", "stop1", "stop1"),
        ("Say", "say", "say"),
        ("JWTAuth", "jwt-auth", "jwt_auth"),
        ("HTTP2Push", "http2-push", "http2_push"),
        ("my_plugin", "my-plugin", "my_plugin"),
    ],
)
def test_spellings(class_name: str, kebab: str, snake: str) -> None:
    """Routes use the name of a class in kebab-case, and files in snake_case. Abbreviations are one word."""
    assert kebab_case(class_name) == kebab
    assert snake_case(class_name) == snake


def test_examples() -> None:
    """The examples in the docstrings are correct."""
    assert doctest.testmod(naming).failed == 0
