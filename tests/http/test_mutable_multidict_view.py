# SPDX-License-Identifier: Apache-2.0
"""Tests of edits: after any operations, a view is equal to a multidict, and `changes` returns the differences."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict, MutableMultiMapping

from apisix.runner.http.headers import Headers
from apisix.runner.http.mutable_multidict_view import MutableMultidictView
from apisix.runner.http.query import Args
from tests.http.multidicts import RECEIVED, Operation, a_view, operations_on_a_multidict


def _outcome(operation: Operation, mapping: MutableMultiMapping[str]) -> object:
    try:
        return operation(mapping)
    except KeyError:
        return KeyError


@pytest.mark.parametrize(("kind", "real"), [(Headers, CIMultiDict), (Args, MultiDict)])
@settings(max_examples=400, deadline=None)
@given(received=RECEIVED, operations=st.lists(operations_on_a_multidict(), max_size=12))
def test_same_as_a_multidict(
    kind: type[MutableMultidictView],
    real: type[MultiDict[str]],
    received: list[tuple[str, str | None]],
    operations: list[Operation],
) -> None:
    """Each operation has the same outcome as with a multidict, including order, repeated names and spelling."""
    before = real([(name, value or "") for name, value in received])
    view, expected = a_view(kind, received), before.copy()
    for operation in operations:
        pairs = view.pairs()
        try:
            outcome = _outcome(operation, view)
        except ValueError:  # a name that no header can have, which changes nothing
            assert (kind, view.pairs()) == (Headers, pairs)
            continue
        assert outcome == _outcome(operation, expected)
    copied = view.copy()
    assert _by_name(view.changes()) == _changes(before, expected, fold=kind is Headers)
    assert view.pairs() == list(expected.items())
    assert list(view.items()) == list(expected.items())
    assert list(copied.items()) == list(expected.items())
    assert view == expected
    assert view == copied
    assert len(view) == len(expected)
    assert _by_name(view.changes()) == _changes(before, expected, fold=kind is Headers)
    for name in {name for name, _ in received}:
        assert (expected.getall(name, []) != before.getall(name, [])) == view.changed(name)


def _changes(before: MultiDict[str], after: MultiDict[str], *, fold: bool) -> dict[str, list[str | None]]:
    """Return what has to be sent, by comparing two multidicts."""
    names = {name.lower() if fold else str(name) for name in [*before, *after]}
    return {name: list(after.getall(name, [])) or [None] for name in names if before.getall(name, []) != after.getall(name, [])}


def _by_name(changes: list[tuple[str, str | None]]) -> dict[str, list[str | None]]:
    grouped: dict[str, list[str | None]] = {}
    for name, value in changes:
        grouped.setdefault(name, []).append(value)
    return grouped


def test_views_as_arguments() -> None:
    """Repeated names are kept if one view is the argument of another's method."""
    args = a_view(Args, [("a", "1"), ("a", "2")])
    other = Args()
    other.extend(args)
    assert other.pairs() == [("a", "1"), ("a", "2")]
    other.update(args)
    assert other.pairs() == [("a", "1"), ("a", "2")]


@pytest.mark.parametrize("kind", [Headers, Args])
def test_names_must_be_text(kind: type[MutableMultidictView]) -> None:
    """A name of another type raises TypeError, except with `in`."""
    view = a_view(kind, [("a", "1")])
    ways: Iterator[Callable[[], object]] = iter(
        (
            lambda: view[1],  # type: ignore[index]
            lambda: view.get(1),  # type: ignore[arg-type]
            lambda: view.getall(1),  # type: ignore[arg-type]
            lambda: view.pop(1, None),  # type: ignore[arg-type]
            lambda: view.add(1, "x"),  # type: ignore[arg-type]
            lambda: view.update([(1, "x")]),  # type: ignore[list-item]
        )
    )
    for way in ways:
        with pytest.raises(TypeError):
            way()
    with pytest.raises(TypeError):
        view.setdefault("b")
    assert view.pairs() == [("a", "1")]


def test_an_update_that_fails_changes_nothing() -> None:
    """If one of several pairs can't be sent, none of them takes effect."""
    headers = a_view(Headers, [("a", "1")])
    for bad in ({"b": "2", "c": "a\nb"}, {"b": "2", "c": 3}):
        for name in ("extend", "update", "merge"):
            with pytest.raises((TypeError, ValueError)):
                getattr(headers, name)(bad)
    assert headers.pairs() == [("a", "1")]


def _set_again(headers: MutableMultidictView) -> None:
    headers.discard("a")
    headers["A"] = "2"


EDITS: list[Callable[[MutableMultidictView], object]] = [
    lambda headers: headers.update({"A": "2", "c": "3"}),
    lambda headers: headers.update([("A", "2"), ("A", "3")]),
    lambda headers: headers.extend({"c": "3"}),
    lambda headers: headers.merge({"c": "3"}),
    _set_again,
    lambda headers: headers.popitem(),
]


@pytest.mark.parametrize("edit", EDITS)
def test_names_are_plain_strings(edit: Callable[[MutableMultidictView], object]) -> None:
    """After any edit, names are str, not a class of multidict, which for example msgspec refuses to encode as JSON."""
    headers = a_view(Headers, [("a", "1"), ("b", "2"), ("B", "3")])
    edit(headers)
    names = [*headers, *headers.keys(), *(name for name, _ in headers.items()), *headers.to_dict(), *headers.copy(), headers.popitem()[0]]

    assert {type(name) for name in names} == {str}


def test_popitem_of_nothing() -> None:
    """It raises KeyError."""
    with pytest.raises(KeyError, match="no args are left"):
        Args().popitem()


@pytest.mark.parametrize("iterated", [False, True])
def test_discard(iterated: bool) -> None:
    """`discard` deletes all values of a name, and does nothing if there are none."""
    for kind in (Headers, Args):
        view = a_view(kind, [("a", "1"), ("r", "1"), ("r", "2")])
        if iterated:
            view._materialize()
        view["new"] = "1"
        for name in ("r", "new", "nope", "nope"):
            view.discard(name)
        assert list(view.items()) == [("a", "1")]
        assert view.changes() == [("r", None)]


def test_deleting_a_missing_name() -> None:
    """`del` raises KeyError, as in a dict, and the error names `discard`."""
    for kind in (Headers, Args):
        with pytest.raises(KeyError, match=r"no 'x-a' to delete.*discard\('x-a'\)"):
            del a_view(kind, [])["x-a"]
