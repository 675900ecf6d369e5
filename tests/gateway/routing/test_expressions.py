# SPDX-License-Identifier: Apache-2.0
"""Conditions on variables, as lua-resty-expr evaluates them."""

from typing import Any

import pytest

from apisix.gateway.routing import expressions

VARIABLES = {"arg_a": "1", "arg_b": "two", "arg_c": "x,y", "remote_addr": "10.1.2.3", "arg_d": "10", "arg_e": "0x10", "arg_f": ""}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ([], True),
        ([["arg_a", "==", "1"]], True),
        ([["arg_a", "==", 1]], True),
        ([["arg_e", "==", 16]], True),
        ([["arg_b", "==", 1]], False),
        ([["arg_none", "~=", 1]], True),
        ([["arg_none", "==", None]], True),
        ([["arg_none", "=="]], True),
        ([["arg_f", "==", None]], False),
        ([["arg_b", "TWO"]], True),
        ([["arg_d", ">", 9]], True),
        ([["arg_d", ">", "9"]], True),
        ([["arg_d", "<=", "9"]], False),
        ([["arg_b", ">=", 0]], False),
        ([["arg_b", "~~", "^t.o$"]], True),
        ([["arg_b", "~~", "TWO"]], False),
        ([["arg_b", "~*", "TWO"]], True),
        ([["arg_none", "~~", ".*"]], False),
        ([["arg_none", "!", "~~", ".*"]], True),
        ([["arg_a", "in", ["1", "2"]]], True),
        ([["arg_a", "IN", [1, 2]]], False),
        ([["arg_a", "in", "1"]], False),
        ([["arg_a", "!", "in", ["2"]]], True),
        ([["arg_c", "has", "x"]], False),
        ([["remote_addr", "ipmatch", ["10.0.0.0/8", "::1"]]], True),
        ([["remote_addr", "ipmatch", "10.1.2.3"]], True),
        ([["remote_addr", "!", "ipmatch", ["10.0.0.0/8"]]], False),
        ([["arg_b", "ipmatch", ["10.0.0.0/8"]]], False),
        ([["arg_a", "==", "1"], ["arg_b", "==", "no"]], False),
        (["OR", ["arg_a", "==", "0"], ["arg_b", "==", "two"]], True),
        (["or", ["arg_a", "==", "0"], ["arg_b", "==", "no"]], False),
        (["!AND", ["arg_a", "==", "1"], ["arg_b", "==", "two"]], False),
        (["!OR", ["arg_a", "==", "0"], ["arg_b", "==", "no"]], True),
        ([["OR", ["arg_a", "==", "0"], ["AND", ["arg_a", "==", "1"], ["arg_b", "==", "two"]]]], True),
    ],
)
def test_values(expression: list[Any], expected: bool) -> None:
    """Numbers are converted for comparisons, but not in a list. A variable that is not set matches nothing."""
    expressions.check(expression)

    actual = expressions.is_true(expression, VARIABLES.get)
    assert actual is expected


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        (["arg_a", "==", "1"], "rule should be wrapped inside brackets"),
        (["OR", ["arg_a", "==", "1"]], "rule too short"),
        ([[]], "rule too short"),
        ([["arg_a"]], "invalid expression"),
        ([["arg_a", "is", "1"]], "invalid operator 'is'"),
        ([["arg_a", "not", "==", "1"]], "bad 'not' expression"),
        ([["remote_addr", "ipmatch", []]], "invalid ip address"),
        ([["remote_addr", "ipmatch", ["10.0.0.0/99"]]], "invalid ip address"),
        ([["arg_a", "~~", "("]], "is not a regular expression"),
        ("arg_a", "an expression must be an array"),
    ],
)
def test_malformed(expression: object, reason: str) -> None:
    """Malformed expressions are refused with the messages of APISIX."""
    with pytest.raises(expressions.InvalidExpression, match=reason.replace("'", ".")):
        expressions.check(expression)
