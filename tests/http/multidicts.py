# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for operations on multidicts, and views of messages to which they are applied."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from multidict import MultiDict

from apisix.runner.http.mutable_multidict_view import MutableMultidictView
from apisix.runner.wire.messages import HTTPReqCallReq

NAMES = st.sampled_from(["a", "A", "b", "B", "x-c", "X-c", "ä", "Ä", "\udcff", "nope"])
VALUES = st.sampled_from(["", "1", "2", "ü", "\udcfe"])
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
RECEIVED = st.lists(st.tuples(NAMES, VALUES | st.none()), max_size=5)

Operation = Callable[[Any], object]


def a_view(kind: type[MutableMultidictView], received: list[tuple[str, str | None]]) -> MutableMultidictView:
    """Return a view of a message that was encoded and decoded."""
    return kind(HTTPReqCallReq.decode(HTTPReqCallReq(headers=received).encode()).headers)


def _named(text: str, operation: Operation) -> Operation:
    """Set the name of an operation, which hypothesis prints when a test fails."""
    operation.__name__ = operation.__qualname__ = text
    return operation


def operations_on_a_multidict() -> st.SearchStrategy[Operation]:
    """Return all operations of the interface, with names that are present, missing and repeated."""

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
