# SPDX-License-Identifier: Apache-2.0
"""Tests of `keys()`, `items()` and `values()`: they behave as those of a multidict, and show later edits."""

import operator
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict

from apisix.runner.http.headers import Headers
from apisix.runner.http.mutable_multidict_view import MutableMultidictView
from apisix.runner.http.query import Args
from tests.http.multidicts import NAMES, PAIRS, RECEIVED, VALUES, Operation, a_view, operations_on_a_multidict

BOTH = pytest.mark.parametrize(("kind", "real"), [(Headers, CIMultiDict), (Args, MultiDict)])
SET_OPERATIONS = (
    operator.and_,
    operator.or_,
    operator.sub,
    operator.xor,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
)


def _either(operation: Callable[[Any, Any], object], left: object, right: object) -> object:
    try:
        return operation(left, right)
    except TypeError:
        return TypeError


@BOTH
@settings(max_examples=300, deadline=None)
@given(received=RECEIVED, operations=st.lists(operations_on_a_multidict(), max_size=6), other=PAIRS, name=NAMES, value=VALUES)
def test_same_as_those_of_a_multidict(
    kind: type[MutableMultidictView],
    real: type[MultiDict[str]],
    received: list[tuple[str, str | None]],
    operations: list[Operation],
    other: list[tuple[str, str]],
    name: str,
    value: str,
) -> None:
    """Dict views show edits that are made later, and support all operations of a set."""
    view, expected = a_view(kind, received), real([(name, value or "") for name, value in received])
    keys, items, values = view.keys(), view.items(), view.values()
    no_operation = len
    for operation in [no_operation, *operations]:
        for mapping in (view, expected):
            try:
                operation(mapping)
            except KeyError:
                continue
            except ValueError:  # a name that no header can have
                break
        pairs_of_views: list[tuple[Any, Any]] = [(keys, expected.keys()), (items, expected.items()), (values, expected.values())]
        for ours, its in pairs_of_views:
            assert list(ours) == list(its)
            assert list(reversed(ours)) == list(reversed(its))
            assert (len(ours), repr(ours)) == (len(its), repr(its))
        assert (name in expected, (name, value) in expected.items()) == (name in keys, (name, value) in items)
        assert (value in expected.values()) == (value in values)
        assert keys.isdisjoint([name]) == expected.keys().isdisjoint([name])
        _compare_sets(keys, expected.keys(), {name for name, _ in other})
        _compare_sets(items, expected.items(), set(other))


def _compare_sets(ours: Any, its: Any, other: set[Any]) -> None:
    for operation in SET_OPERATIONS:
        for right in (other, 5, its):
            assert _either(operation, ours, right) == _either(operation, its, right)
            assert _either(operation, right, ours) == _either(operation, right, its)
        assert _either(operation, ours, ours) == _either(operation, its, its)


@BOTH
def test_their_types(kind: type[MutableMultidictView], real: type[MultiDict[str]]) -> None:
    """Dict views are instances of the abstract classes, and are not hashable."""
    view = a_view(kind, [("a", "1")])
    assert isinstance(view.keys(), KeysView)
    assert isinstance(view.items(), ItemsView)
    assert isinstance(view.values(), ValuesView)
    for unhashable in (view.keys(), view.items()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(unhashable)


@BOTH
def test_edits_while_iterating(kind: type[MutableMultidictView], real: type[MultiDict[str]]) -> None:
    """An iteration returns the content at its beginning, whatever is edited meanwhile, in both states of the view."""
    view = a_view(kind, [("a", "1"), ("b", "2"), ("c", "3")])
    seen = []
    for name, value in view.items():
        seen.append((name, value))
        del view[name]
        view["new"] = value
    assert seen == [("a", "1"), ("b", "2"), ("c", "3")]
    assert view.pairs() == [("new", "3")]
    view.add("new", "4")
    for name in view:
        view[f"{name}er"] = "5"
    assert view.pairs() == [("new", "3"), ("new", "4"), ("newer", "5")]


def test_edits_do_not_change_earlier_lists() -> None:
    """Edits do not change a list that `pairs` has returned."""
    headers = a_view(Headers, [("a", "1"), ("b", "2")])
    before = headers.pairs()
    headers["a"] = "3"
    headers.add("c", "4")
    del headers["b"]
    assert before == [("a", "1"), ("b", "2")]
    assert headers.pairs() == [("a", "3"), ("c", "4")]
