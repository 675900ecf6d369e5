# SPDX-License-Identifier: Apache-2.0
"""Views behave as CIMultiDict and MultiDict do, whatever is done to them in whatever order; and say what changed."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict, MutableMultiMapping

from apisix.runner.http.headers import Headers
from apisix.runner.http.multidict_view import MutableMultidictView
from apisix.runner.http.query import Args
from tests.http.multidicts import CAME, Operation, a_view, operations_on_a_multidict


def _outcome(operation: Operation, mapping: MutableMultiMapping[str]) -> object:
    try:
        return operation(mapping)
    except KeyError:
        return KeyError


@pytest.mark.parametrize(("kind", "real"), [(Headers, CIMultiDict), (Args, MultiDict)])
@settings(max_examples=400, deadline=None)
@given(came=CAME, operations=st.lists(operations_on_a_multidict(), max_size=12))
def test_as_the_real_multidict(
    kind: type[MutableMultidictView],
    real: type[MultiDict[str]],
    came: list[tuple[str, str | None]],
    operations: list[Operation],
) -> None:
    """Each operation returns or raises the same and leaves the same behind: order, repeats and spelling included."""
    before = real([(name, value or "") for name, value in came])
    view, expected = a_view(kind, came), before.copy()
    for operation in operations:
        pairs = view.pairs()
        try:
            outcome = _outcome(operation, view)
        except ValueError:  # a name that no header can have, which changes nothing
            assert (kind, view.pairs()) == (Headers, pairs)
            continue
        assert outcome == _outcome(operation, expected)
    twin = view.copy()
    assert _by_name(view.changes()) == _changes(before, expected, fold=kind is Headers)
    assert view.pairs() == list(expected.items())
    assert list(view.items()) == list(expected.items())
    assert list(twin.items()) == list(expected.items())
    assert view == expected
    assert view == twin
    assert len(view) == len(expected)
    assert _by_name(view.changes()) == _changes(before, expected, fold=kind is Headers)
    for name in {name for name, _ in came}:
        assert (expected.getall(name, []) != before.getall(name, [])) == view.changed(name)


def _changes(before: MultiDict[str], after: MultiDict[str], *, fold: bool) -> dict[str, list[str | None]]:
    """Say from two real multidicts what has to be sent."""
    names = {name.lower() if fold else str(name) for name in [*before, *after]}
    return {name: list(after.getall(name, [])) or [None] for name in names if before.getall(name, []) != after.getall(name, [])}


def _by_name(changes: list[tuple[str, str | None]]) -> dict[str, list[str | None]]:
    grouped: dict[str, list[str | None]] = {}
    for name, value in changes:
        grouped.setdefault(name, []).append(value)
    return grouped


def test_multidicts_that_are_given() -> None:
    """Repeats survive where one view is poured into another."""
    args = a_view(Args, [("a", "1"), ("a", "2")])
    other = Args()
    other.extend(args)
    assert other.pairs() == [("a", "1"), ("a", "2")]
    other.update(args)
    assert other.pairs() == [("a", "1"), ("a", "2")]


@pytest.mark.parametrize("kind", [Headers, Args])
def test_names_must_be_text(kind: type[MutableMultidictView]) -> None:
    """A name of another type raises in every way in, except for `in`."""
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


def test_nothing_is_taken_of_a_bad_update() -> None:
    """Where one of several pairs can't be sent, none takes effect."""
    headers = a_view(Headers, [("a", "1")])
    for bad in ({"b": "2", "c": "a\nb"}, {"b": "2", "c": 3}):
        for name in ("extend", "update", "merge"):
            with pytest.raises((TypeError, ValueError)):
                getattr(headers, name)(bad)
    assert headers.pairs() == [("a", "1")]


def test_popitem_of_nothing() -> None:
    """There is an error that says so."""
    with pytest.raises(KeyError, match="no args are left"):
        Args().popitem()


@pytest.mark.parametrize("iterated", [False, True])
def test_discard(iterated: bool) -> None:
    """Deleting what may be missing removes all values of a name, and does nothing if there are none; no edit, no trace."""
    for kind in (Headers, Args):
        view = a_view(kind, [("a", "1"), ("r", "1"), ("r", "2")])
        if iterated:
            view._materialize()
        view["new"] = "1"
        for name in ("r", "new", "nope", "nope"):
            view.discard(name)
        assert list(view.items()) == [("a", "1")]
        assert view.changes() == [("r", None)]


def test_deleting_what_is_missing() -> None:
    """`del` raises as in a dict, and says what to write instead."""
    for kind in (Headers, Args):
        with pytest.raises(KeyError, match=r"no 'x-a' to delete.*discard\('x-a'\)"):
            del a_view(kind, [])["x-a"]
