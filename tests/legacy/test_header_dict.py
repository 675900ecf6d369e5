# SPDX-License-Identifier: Apache-2.0
"""A HeaderDict is a dict in every respect but the case of its names."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import istr

from apisix.runner.http.headers import Headers
from apisix.runner.legacy.edits import read_back
from apisix.runner.legacy.header_dict import HeaderDict, header_dict
from apisix.runner.wire.entries import entries_of

NAMES = st.sampled_from(["a", "A", "x-b", "X-B", "X-b", "c"])
PAIRS = st.lists(st.tuples(NAMES, st.integers(0, 3)), max_size=4)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("__setitem__"), NAMES, st.integers(0, 3)),
        st.tuples(st.just("setdefault"), NAMES, st.integers(0, 3)),
        st.tuples(st.sampled_from(["__getitem__", "__delitem__", "__contains__", "get", "pop"]), NAMES),
        st.tuples(st.sampled_from(["get", "pop"]), NAMES, st.just("default")),
        st.tuples(st.sampled_from(["update", "__ior__"]), PAIRS.map(dict)),
        st.tuples(st.sampled_from(["popitem", "clear"])),
    ),
    max_size=10,
)


@settings(max_examples=300, deadline=None)
@given(came=PAIRS, operations=OPERATIONS)
def test_as_a_dict_of_lower_case_names(came: list[tuple[str, int]], operations: list[tuple[Any, ...]]) -> None:
    """Whatever is done, it holds what a plain dict holds whose user lower-cases every name."""
    plain, headers = {name.lower(): value for name, value in came}, HeaderDict(came)
    for name, *args in operations:
        if name == "popitem":
            if plain:
                key, _ = headers.popitem()
                plain.pop(key.lower())
            continue
        folded = [{key.lower(): value for key, value in arg.items()} if isinstance(arg, dict) else arg for arg in args]
        if folded and isinstance(folded[0], str):
            folded[0] = folded[0].lower()
        outcome, expected = (_outcome(getattr(target, name), given) for target, given in ((headers, args), (plain, folded)))
        if name != "__ior__":
            assert expected == outcome
        assert plain == {key.lower(): value for key, value in headers.items()}
        assert len(plain) == len(headers)
    for twin in (headers.copy(), copy.copy(headers), copy.deepcopy(headers), pickle.loads(pickle.dumps(headers))):  # noqa: S301  our own bytes
        assert headers == twin
        assert all(name.upper() in twin and name.lower() in twin for name in headers)


def _outcome(method: Callable[..., object], args: list[Any]) -> object:
    try:
        return method(*args)
    except KeyError:
        return KeyError


def test_spelling() -> None:
    """A name keeps the spelling that it was set with last."""
    headers = HeaderDict([("user-agent", "x"), ("b", "1")])
    headers["User-Agent"] = "y"
    assert [("b", "1"), ("User-Agent", "y")] == list(headers.items())
    headers["user-agent"] = "z"
    assert ["b", "user-agent"] == list(headers)


def test_it_is_a_dict() -> None:
    """Code that wants a dict gets one: isinstance, json, ==, **, |."""
    headers = HeaderDict({"a": "1"}, B="2")
    assert isinstance(headers, dict)
    assert '{"a": "1", "B": "2"}' == json.dumps(headers)
    assert {"a": "1", "B": "2"} == {**headers} == headers
    assert {"B": "2", "A": "3"} == headers | {"A": "3"}
    assert {"a": "1", "B": "2"} == {"A": "3"} | headers
    assert "2" == (headers | {"c": "4"})["b"]
    with pytest.raises(TypeError):
        _ = headers | [("a", "1")]
    with pytest.raises(TypeError):
        _ = [("a", "1")] | headers


def test_names_of_other_types() -> None:
    """They are not there, as in any dict, and can be."""
    headers: dict[Any, Any] = HeaderDict({"a": "1"})
    assert 5 not in headers
    headers[5] = "x"
    assert "x" == headers.pop(5)
    with pytest.raises(KeyError):
        headers.pop(5)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 19])
def test_capitals_at_every_place(size: int) -> None:
    """A name that is not in lower case is found in any case, wherever its capitals stand and whatever else is in it."""
    for other in "az-_@[`{09~ü\x7f\x80ÜİßΣ€":
        for place in range(size):
            for capital in "AMZ":
                name = other * place + capital + other * (size - place - 1)
                for headers in (header_dict([("b", "0"), (name, "1")]), HeaderDict([(name, "1")])):
                    assert "1" == headers[name.lower()] == headers.get(name)
                    headers[name.lower()] = "2"
                    assert "2" == headers[name]
                    assert 1 == len(headers) - ("b" in headers)


def test_names_of_a_subclass() -> None:
    """A multidict may give names out as its own kind of str."""
    headers = header_dict([(istr("X-A"), "1"), (istr("b"), "2")])
    assert ("1", "2") == (headers["x-a"], headers["B"])


ENTRIES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["1", "2", "long value"])), max_size=5)
DONE = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "A", "b", "C", "e", "E"]), st.sampled_from(["1", "2", "long value", "", None])),
        st.tuples(st.sampled_from(["a", "B", "c", "e"])),
    ),
    max_size=4,
)


@example(came=[("a", "2")], done=[("A", "1"), ("a",), ("a", "2")], deletes=False, plain=True)
@settings(max_examples=300, deadline=None)
@given(came=ENTRIES, done=DONE, deletes=st.booleans(), plain=st.booleans())
def test_reading_back(came: list[tuple[str, str]], done: list[tuple[Any, ...]], deletes: bool, plain: bool) -> None:
    """Whatever was done to a dict, the entries end as the dict says; what it says nothing of, or nothing new, stays as it came."""
    entries = Headers(entries_of(came))
    shown = entries.pairs()
    given_out: dict[str, Any] = dict(shown) if plain else header_dict(shown)
    for name, *value in done:
        if value:
            given_out[name] = value[0]
        else:
            given_out.pop(name, None)
    read_back(entries, given_out, shown, "plugin", deletes)
    expected = Headers(entries_of(came))
    for name in {name for name, _ in came} if deletes else ():
        if name not in given_out:
            expected.popall(name, None)
    for name, value in given_out.items():
        if value is None:
            expected.popall(name, None)
        elif expected.getall(name, [None])[-1] != value:
            expected[name] = value
    assert sorted(expected.changes()) == sorted(entries.changes())
