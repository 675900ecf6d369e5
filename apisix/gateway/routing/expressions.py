# SPDX-License-Identifier: Apache-2.0
"""
Conditions on variables, for `vars` of a route and `_meta.filter` of a plugin.

An expression is a list of conditions `[variable, operator, value]`, all of which must hold, or a list that starts with AND, OR, !AND
or !OR. Source: the documentation of lua-resty-expr 1.3.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any

LookUp = Callable[[str], str | None]
"""Returns the value of a variable, None if it has none."""

_GROUPS = {"AND": (all, False), "OR": (any, False), "!AND": (all, True), "!OR": (any, True)}


class InvalidExpression(ValueError):
    """The expression is malformed. The message says where."""


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


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
    return any(address in ipaddress.ip_network(str(network), strict=False) for network in right)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": _equal,
    "~=": lambda left, right: not _equal(left, right),
    ">": _compares(lambda a, b: a > b),
    ">=": _compares(lambda a, b: a >= b),
    "<": _compares(lambda a, b: a < b),
    "<=": _compares(lambda a, b: a <= b),
    "~~": _matches,
    "~*": lambda left, right: _matches(left, right, re.IGNORECASE),
    "IN": lambda left, right: any(_equal(left, item) for item in right),
    "HAS": lambda left, right: right in (left if isinstance(left, list) else str(left or "").split(",")),
    "IPMATCH": _in_networks,
}


def check(expression: object) -> None:
    """Raise InvalidExpression if an expression is malformed."""
    if not isinstance(expression, list):
        raise InvalidExpression("an expression must be an array")
    if expression and isinstance(expression[0], str) and expression[0] in _GROUPS:
        for part in expression[1:]:
            check(part)
    elif expression and isinstance(expression[0], str):
        _check_condition(expression)
    else:
        for part in expression:
            check(part)


def _check_condition(condition: Sequence[Any]) -> None:
    rest = list(condition[1:])
    if len(rest) == 3 and rest[0] == "!":
        rest.pop(0)
    if len(rest) != 2:
        raise InvalidExpression(f"a condition has a variable, an operator and a value, not {list(condition)!r}")
    operator = str(rest[0])
    if operator not in OPERATORS and operator.upper() not in OPERATORS:
        raise InvalidExpression(f"invalid operator '{operator}'")
    if operator in ("~~", "~*"):
        try:
            re.compile(str(rest[1]))
        except re.error as error:
            raise InvalidExpression(f"{rest[1]!r} is not a regular expression: {error}") from error
    if operator.upper() in ("IN", "IPMATCH") and not isinstance(rest[1], list):
        raise InvalidExpression(f"the value of '{operator}' must be an array")


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
    if expression and isinstance(expression[0], str) and expression[0] in _GROUPS:
        combine, negated = _GROUPS[expression[0]]
        return combine(is_true(part, look_up) for part in expression[1:]) is not negated
    if expression and isinstance(expression[0], str):
        name, *rest = expression
        negated = len(rest) == 3
        operator, value = rest[-2:]
        compare = OPERATORS.get(operator) or OPERATORS[operator.upper()]
        return compare(look_up(name), value) is not negated
    return all(is_true(part, look_up) for part in expression)
