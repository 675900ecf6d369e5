# SPDX-License-Identifier: Apache-2.0
"""Headers and Args behave as CIMultiDict and MultiDict do, whatever is done to them in whatever order; and say what changed."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict, MutableMultiMapping

from apisix.runner.http.edits import EditableEntries
from apisix.runner.http.headers import Args, Headers, RequestHeaders
from apisix.runner.wire.messages import HTTPReqCallReq

NAMES = st.sampled_from(["a", "A", "b", "B", "x-c", "X-c", "ä", "Ä", "\udcff", "nope"])
VALUES = st.sampled_from(["", "1", "2", "ü", "\udcfe"])
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
CAME = st.lists(st.tuples(NAMES, VALUES | st.none()), max_size=5)

Operation = Callable[[Any], object]


def _named(text: str, operation: Operation) -> Operation:
    """Give an operation the name that hypothesis shows when it finds a difference."""
    operation.__name__ = operation.__qualname__ = text
    return operation


def _operations() -> st.SearchStrategy[Operation]:
    """Everything that the interface has, on names that are there, that are not, and that repeat."""

    def read(name: str) -> st.SearchStrategy[Operation]:
        return NAMES.map(lambda key: _named(f"{name}({key!r})", lambda md: getattr(md, name)(key)))

    def read_default(name: str) -> st.SearchStrategy[Operation]:
        return NAMES.map(lambda key: _named(f"{name}({key!r}, 7)", lambda md: getattr(md, name)(key, 7)))

    def write(name: str) -> st.SearchStrategy[Operation]:
        return st.tuples(NAMES, VALUES).map(lambda pair: _named(f"{name}{pair}", lambda md: getattr(md, name)(*pair)))

    def write_many(name: str) -> st.SearchStrategy[Operation]:
        return PAIRS.map(lambda pairs: _named(f"{name}({pairs})", lambda md: getattr(md, name)(pairs)))

    def write_mapping(name: str) -> st.SearchStrategy[Operation]:
        return PAIRS.map(lambda pairs: _named(f"{name}({dict(pairs)}, b=...)", lambda md: getattr(md, name)(dict(pairs), b="kw")))

    def write_multidict(name: str) -> st.SearchStrategy[Operation]:
        return PAIRS.map(lambda pairs: _named(f"{name}(MultiDict({pairs}))", lambda md: getattr(md, name)(MultiDict(pairs))))

    def whole(name: str) -> st.SearchStrategy[Operation]:
        return st.just(_named(f"{name}()", lambda md: list(getattr(md, name)())))

    return st.one_of(
        *(read(name) for name in ("__getitem__", "__contains__", "get", "getone", "getall", "pop", "popone", "popall", "__delitem__")),
        *(read_default(name) for name in ("get", "getone", "getall", "pop", "popone", "popall")),
        *(write(name) for name in ("__setitem__", "__setitem__", "add", "setdefault")),
        *(write_many(name) for name in ("extend", "update", "merge")),
        *(write_mapping(name) for name in ("extend", "update", "merge")),
        *(write_multidict(name) for name in ("extend", "update", "merge")),
        *(whole(name) for name in ("__iter__", "keys", "values", "items", "popitem")),
        st.just(_named("clear()", lambda md: md.clear())),
        st.just(_named("len()", lambda md: len(md))),
        st.just(_named("bool()", lambda md: bool(md))),
    )


def _outcome(operation: Operation, mapping: MutableMultiMapping[str]) -> object:
    try:
        return operation(mapping)
    except KeyError:
        return KeyError


def _view(kind: type[EditableEntries], came: list[tuple[str, str | None]]) -> EditableEntries:
    """Make a view on a message that has crossed the wire."""
    return kind(HTTPReqCallReq.decode(HTTPReqCallReq(headers=came).encode()).headers)


@pytest.mark.parametrize(("kind", "real"), [(Headers, CIMultiDict), (Args, MultiDict)])
@settings(max_examples=400, deadline=None)
@given(came=CAME, operations=st.lists(_operations(), max_size=12))
def test_as_the_real_multidict(
    kind: type[EditableEntries],
    real: type[MultiDict[str]],
    came: list[tuple[str, str | None]],
    operations: list[Operation],
) -> None:
    """Each operation returns or raises the same and leaves the same behind: order, repeats and spelling included."""
    before = real([(name, value or "") for name, value in came])
    view, expected = _view(kind, came), before.copy()
    for operation in operations:
        assert _outcome(operation, expected) == _outcome(operation, view)
    twin = view.copy()
    assert _changes(before, expected, fold=kind is Headers) == _by_name(view.changes())
    assert list(expected.items()) == view.pairs()
    assert list(expected.items()) == list(view.items())
    assert list(expected.items()) == list(twin.items())
    assert view == expected
    assert view == twin
    assert len(expected) == len(view)
    assert _changes(before, expected, fold=kind is Headers) == _by_name(view.changes())
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


@settings(max_examples=200, deadline=None)
@given(came=CAME, operations=st.lists(_operations(), max_size=8))
def test_request_headers_never_repeat_what_is_sent(came: list[tuple[str, str | None]], operations: list[Operation]) -> None:
    """Whatever is tried on request headers, what is sent has one value a name, or none; and an edit that raises changes nothing."""
    view = _view(RequestHeaders, came)
    for operation in operations:
        before = view.pairs()
        try:
            operation(view)
        except ValueError:
            assert before == view.pairs()
        except KeyError:
            continue
    changes = view.changes()
    assert len(changes) == len({name for name, _ in changes})
    assert [name.lower() for name, _ in changes] == [name for name, _ in changes]


class _Untouchable(Headers):
    """Headers that must not be decoded as a whole."""

    __slots__ = ()

    def _materialise(self) -> MultiDict[str]:
        raise AssertionError("everything was decoded")


def test_one_name_decodes_nothing_else() -> None:
    """Looking up, setting and deleting single names, and what is sent of it, leave the frame alone."""
    entries = HTTPReqCallReq.decode(HTTPReqCallReq(headers=[("a", "1"), ("b", "2"), ("r", "1"), ("r", "2")]).encode()).headers
    headers = _Untouchable(entries)
    assert ("1", "1", None, ["1", "2"]) == (headers["A"], headers.get("a"), headers.get("nope"), headers.getall("R"))
    assert (True, False, False, 4) == ("a" in headers, "nope" in headers, headers.__contains__(5), len(headers))
    headers["a"] = "3"
    headers["New"] = "4"
    headers.add("other", "5")
    headers.setdefault("more", "6")
    headers.update({"r": "7"}, b="8")
    del headers["b"]
    assert "3" == headers.pop("a")
    twin = headers.copy()
    expected = [("a", None), ("new", "4"), ("other", "5"), ("more", "6"), ("r", "7"), ("b", None)]
    assert expected == headers.changes()
    assert expected == twin.changes()


def test_headers_that_came_in_capitals() -> None:
    """Names are found without case even where a message breaks the rule that they come in lower case."""
    headers = _view(RequestHeaders, [("X-Up", "1")])
    assert "1" == headers["x-up"]
    headers["x-up"] = "1"
    assert [] == headers.changes()


def test_copies_are_detached() -> None:
    """An edit of a copy is none of the original, before and after everything was decoded."""
    headers = _view(Headers, [("a", "1")])
    for twin in (headers.copy(), copy.copy(headers)):
        twin["a"] = "2"
        twin.add("a", "3")
    assert ([("a", "1")], []) == (headers.pairs(), headers.changes())
    twin = headers.copy()
    twin.clear()
    assert "1" == headers["a"]


def test_multidicts_that_are_given() -> None:
    """Repeats survive where one view is poured into another."""
    args = _view(Args, [("a", "1"), ("a", "2")])
    other = Args()
    other.extend(args)
    assert [("a", "1"), ("a", "2")] == other.pairs()
    other.update(args)
    assert [("a", "1"), ("a", "2")] == other.pairs()


@pytest.mark.parametrize("kind", [Headers, Args])
def test_names_must_be_text(kind: type[EditableEntries]) -> None:
    """A name of another type raises in every way in, except for `in`."""
    view = _view(kind, [("a", "1")])
    ways: Iterator[Callable[[], object]] = iter(
        (
            lambda: view[1],  # type: ignore[index]
            lambda: view.get(1),  # type: ignore[call-overload]
            lambda: view.getall(1),  # type: ignore[call-overload]
            lambda: view.pop(1, None),  # type: ignore[call-overload]
            lambda: view.add(1, "x"),  # type: ignore[arg-type]
            lambda: view.update([(1, "x")]),  # type: ignore[list-item]
        )
    )
    for way in ways:
        with pytest.raises(TypeError):
            way()
    with pytest.raises(TypeError):
        view.setdefault("b")
    assert [("a", "1")] == view.pairs()


def test_nothing_is_taken_of_a_bad_update() -> None:
    """Where one of several pairs can't be sent, none takes effect."""
    headers = _view(Headers, [("a", "1")])
    for bad in ({"b": "2", "c": "a\nb"}, {"b": "2", "c": 3}):
        for name in ("extend", "update", "merge"):
            with pytest.raises((TypeError, ValueError)):
                getattr(headers, name)(bad)
    assert [("a", "1")] == headers.pairs()


def test_it_is_a_mutable_multimapping() -> None:
    """Code that asks for the interface gets it: isinstance, repr, to_dict, no hash."""
    headers = _view(Headers, [("a", "1"), ("A", "2"), ("b", "3")])
    assert isinstance(headers, MutableMultiMapping)
    assert isinstance(headers, Mapping)
    assert "<Headers('a': '1', 'A': '2', 'b': '3')>" == repr(headers)
    assert {"a": ["1", "2"], "b": ["3"]} == headers.to_dict()
    assert headers != {"a": "1"}
    assert headers != 5
    with pytest.raises(TypeError):
        hash(headers)


def test_popitem_of_nothing() -> None:
    """There is an error that says so."""
    with pytest.raises(KeyError, match="no args are left"):
        Args().popitem()
