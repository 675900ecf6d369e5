# SPDX-License-Identifier: Apache-2.0
"""What `keys()`, `items()` and `values()` return is as of a real multidict, and shows what was edited since."""

import operator
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict

from apisix.runner.http.headers import Headers
from apisix.runner.http.multidict_view import MutableMultidictView
from apisix.runner.http.query import Args
from tests.http.multidicts import CAME, NAMES, PAIRS, VALUES, Operation, a_view, operations_on_a_multidict

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
@given(came=CAME, operations=st.lists(operations_on_a_multidict(), max_size=6), other=PAIRS, name=NAMES, value=VALUES)
def test_as_those_of_the_real_multidict(
    kind: type[MutableMultidictView],
    real: type[MultiDict[str]],
    came: list[tuple[str, str | None]],
    operations: list[Operation],
    other: list[tuple[str, str]],
    name: str,
    value: str,
) -> None:
    """Views that are held while edits are made show them, and answer whatever a set is asked."""
    view, expected = a_view(kind, came), real([(name, value or "") for name, value in came])
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
def test_what_they_are(kind: type[MutableMultidictView], real: type[MultiDict[str]]) -> None:
    """Code that asks for the interfaces gets them; none can be a key."""
    view = a_view(kind, [("a", "1")])
    assert isinstance(view.keys(), KeysView)
    assert isinstance(view.items(), ItemsView)
    assert isinstance(view.values(), ValuesView)
    for unhashable in (view.keys(), view.items()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(unhashable)


@BOTH
def test_edits_while_iterating(kind: type[MutableMultidictView], real: type[MultiDict[str]]) -> None:
    """Whoever iterates gets what was there when it began, whatever is edited meanwhile, also where all was decoded for good."""
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


def test_what_came_stays_as_it_came() -> None:
    """Edits never change the entries of the message, nor the list that was given out."""
    headers = a_view(Headers, [("a", "1"), ("b", "2")])
    before = headers.pairs()
    headers["a"] = "3"
    headers.add("c", "4")
    del headers["b"]
    assert before == [("a", "1"), ("b", "2")]
    assert headers.pairs() == [("a", "3"), ("c", "4")]
