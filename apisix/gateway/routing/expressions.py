# SPDX-License-Identifier: Apache-2.0
"""
Conditions on variables, for `vars` of a route and `_meta.filter` of a plugin.

An expression is a list of conditions `[variable, operator, value]`, all of which must hold, or a list that starts with AND, OR, !AND
or !OR. Source: lua-resty-expr 1.3, lib/resty/expr/v1.lua.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any

LookUp = Callable[[str], str | None]
"""Returns the value of a variable, None if it has none."""

_GROUPS = {"AND": (all, False), "OR": (any, False), "!AND": (all, True), "!OR": (any, True)}
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?)\s*", re.IGNORECASE)
_HEXADECIMAL = re.compile(r"\s*[+-]?0x[0-9a-f]+\s*", re.IGNORECASE)


class InvalidExpression(ValueError):
    """The expression is malformed. The message is that of APISIX."""


def _number(value: Any) -> float | None:
    """Convert a value as `tonumber` of Lua does."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    if _HEXADECIMAL.fullmatch(value):
        return float(int(value, 16))
    return float(value) if _NUMBER.fullmatch(value) else None


def _compares(compare: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    def compares(left: Any, right: Any) -> bool:
        a, b = _number(left), _number(right)
        return a is not None and b is not None and compare(a, b)

    return compares


def _equal(left: Any, right: Any) -> bool:
    if isinstance(right, bool):
        return bool(left is not None and str(left) == str(right).lower())
    if isinstance(right, int | float):
        return _number(left) == float(right)
    return bool(left == right)


def _matches(left: Any, right: Any, flags: int = 0) -> bool:
    return left is not None and re.search(str(right), str(left), flags) is not None


def _in_networks(left: Any, right: Any) -> bool:
    try:
        address = ipaddress.ip_address(str(left))
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(str(network), strict=False) for network in _listed(right))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": _equal,
    "~=": lambda left, right: not _equal(left, right),
    ">": _compares(lambda a, b: a > b),
    ">=": _compares(lambda a, b: a >= b),
    "<": _compares(lambda a, b: a < b),
    "<=": _compares(lambda a, b: a <= b),
    "~~": _matches,
    "~*": lambda left, right: _matches(left, right, re.IGNORECASE),
    # Values are not converted: the text of a variable is not equal to a number.
    "in": lambda left, right: isinstance(right, list) and left in right,
    # For variables that are lists. All variables here are text.
    "has": lambda left, right: isinstance(left, list) and right in left,
    "ipmatch": _in_networks,
}


def check(expression: object) -> None:
    """Raise InvalidExpression if an expression is malformed."""
    if not isinstance(expression, list):
        raise InvalidExpression("an expression must be an array")
    if expression and not isinstance(expression[0], list) and str(expression[0]).upper() not in _GROUPS:
        raise InvalidExpression("rule should be wrapped inside brackets")
    if expression:
        _check_rules(expression)


def _check_rules(rules: object) -> None:
    if not isinstance(rules, list) or not rules:
        raise InvalidExpression("rule too short")
    if isinstance(rules[0], list):
        for rule in rules:
            _check_rules(rule)
    elif str(rules[0]).upper() in _GROUPS:
        if len(rules) <= 2:
            raise InvalidExpression("rule too short")
        for rule in rules[1:]:
            _check_rules(rule)
    else:
        _check_condition(rules)


def _check_condition(condition: Sequence[Any]) -> None:
    if len(condition) == 4 and condition[1] != "!":
        raise InvalidExpression("bad 'not' expression")
    if len(condition) < 2:
        raise InvalidExpression("invalid expression")
    _, operator, value, _ = _parts(condition)
    if operator not in OPERATORS:
        raise InvalidExpression(f"invalid operator '{operator}'")
    if operator in ("~~", "~*"):
        try:
            re.compile(str(value))
        except re.error as error:
            raise InvalidExpression(f"{value!r} is not a regular expression: {error}") from error
    if operator == "ipmatch":
        if not value:
            raise InvalidExpression("invalid ip address")
        try:
            for network in _listed(value):
                ipaddress.ip_network(str(network), strict=False)
        except ValueError as error:
            raise InvalidExpression(f"invalid ip address: {error}") from error


def _parts(condition: Sequence[Any]) -> tuple[Any, str, Any, bool]:
    """Return variable, operator and value of a condition, and whether it is negated."""
    negated = len(condition) == 4
    name, operator, value = (condition[0], *condition[2:4]) if negated else (*condition[:3], None)[:3]
    operator = str(operator).lower()
    if value is None and operator not in OPERATORS:  # `[variable, value]`, an old form
        return name, "==", operator, negated
    return name, operator, value, negated


_SIMPLE_FUNCTION = re.compile(
    r"""\s*function\s*\(\s*(?P<vars>\w+)\s*\)\s*return\s+(?P=vars)(?:\.(?P<field>\w+)|\[\s*(?P<q>['"])(?P<index>\w+)(?P=q)\s*\])"""
    r"""\s*(?P<operator>==|~=)\s*(?:(?P<p>['"])(?P<text>[^'"\\]*)(?P=p)|(?P<nil>nil))\s*;?\s*end\s*"""
)


def from_lua(function: str) -> list[Any] | None:
    """Return a `filter_func` as an expression, None unless it only compares one variable with a text."""
    match = _SIMPLE_FUNCTION.fullmatch(function)
    if match is None:
        return None
    return [match["field"] or match["index"], match["operator"], match["text"]]


def is_true(expression: Sequence[Any], look_up: LookUp) -> bool:
    """True if a valid expression is true."""
    if not expression or isinstance(expression[0], list):
        return all(is_true(part, look_up) for part in expression)
    group = _GROUPS.get(str(expression[0]).upper())
    if group is not None:
        combine, negated = group
        return combine(is_true(part, look_up) for part in expression[1:]) is not negated
    name, operator, value, negated = _parts(expression)
    return OPERATORS[operator](look_up(str(name)), value) is not negated
