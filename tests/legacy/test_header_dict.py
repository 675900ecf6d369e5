# SPDX-License-Identifier: Apache-2.0
"""A HeaderDict behaves like a dict that ignores the case of names."""

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
@given(received=PAIRS, operations=OPERATIONS)
def test_as_a_dict_of_lower_case_names(received: list[tuple[str, int]], operations: list[tuple[Any, ...]]) -> None:
    """After any operations, it has the same content as a plain dict for which all names are converted to lower case."""
    plain, headers = {name.lower(): value for name, value in received}, HeaderDict(received)
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
            assert outcome == expected
        assert {key.lower(): value for key, value in headers.items()} == plain
        assert len(plain) == len(headers)
    for copied in (headers.copy(), copy.copy(headers), copy.deepcopy(headers), pickle.loads(pickle.dumps(headers))):  # noqa: S301  the bytes were pickled here
        assert headers == copied
        assert all(name.upper() in copied and name.lower() in copied for name in headers)


def _outcome(method: Callable[..., object], args: list[Any]) -> object:
    try:
        return method(*args)
    except KeyError:
        return KeyError


def test_spelling() -> None:
    """A name has the spelling with which it was last set."""
    headers = HeaderDict([("user-agent", "x"), ("b", "1")])
    headers["User-Agent"] = "y"
    assert list(headers.items()) == [("b", "1"), ("User-Agent", "y")]
    headers["user-agent"] = "z"
    assert list(headers) == ["b", "user-agent"]


def test_it_is_a_dict() -> None:
    """It works where a dict is expected: isinstance, json, ==, **, |."""
    headers = HeaderDict({"a": "1"}, B="2")
    assert isinstance(headers, dict)
    assert json.dumps(headers) == '{"a": "1", "B": "2"}'
    assert {"a": "1", "B": "2"} == {**headers} == headers
    assert headers | {"A": "3"} == {"B": "2", "A": "3"}
    assert {"A": "3"} | headers == {"a": "1", "B": "2"}
    assert (headers | {"c": "4"})["b"] == "2"
    with pytest.raises(TypeError):
        _ = headers | [("a", "1")]
    with pytest.raises(TypeError):
        _ = [("a", "1")] | headers


def test_names_of_other_types() -> None:
    """They are missing by default, and can be set, as in any dict."""
    headers: dict[Any, Any] = HeaderDict({"a": "1"})
    assert 5 not in headers
    headers[5] = "x"
    assert headers.pop(5) == "x"
    with pytest.raises(KeyError):
        headers.pop(5)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 19])
def test_capitals_at_every_index(size: int) -> None:
    """A name with a capital at any index is found in any spelling, with any other characters in it."""
    for other in "az-_@[`{09~ü\x7f\x80ÜİßΣ€":
        for place in range(size):
            for capital in "AMZ":
                name = other * place + capital + other * (size - place - 1)
                for headers in (header_dict([("b", "0"), (name, "1")]), HeaderDict([(name, "1")])):
                    assert "1" == headers[name.lower()] == headers.get(name)
                    headers[name.lower()] = "2"
                    assert headers[name] == "2"
                    assert len(headers) - ("b" in headers) == 1


def test_names_of_a_subclass() -> None:
    """A multidict can return names that are of a subclass of str."""
    headers = header_dict([(istr("X-A"), "1"), (istr("b"), "2")])
    assert (headers["x-a"], headers["B"]) == ("1", "2")


ENTRIES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["1", "2", "long value"])), max_size=5)
DONE = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "A", "b", "C", "e", "E"]), st.sampled_from(["1", "2", "long value", "", None])),
        st.tuples(st.sampled_from(["a", "B", "c", "e"])),
    ),
    max_size=4,
)


@example(received=[("a", "2")], done=[("A", "1"), ("a",), ("a", "2")], deletes=False, plain=True)
@settings(max_examples=300, deadline=None)
@given(received=ENTRIES, done=DONE, deletes=st.booleans(), plain=st.booleans())
def test_reading_back(received: list[tuple[str, str]], done: list[tuple[Any, ...]], deletes: bool, plain: bool) -> None:
    """After any changes of a dict, the entries are those of the dict. Names that are missing or unchanged in it are not edited."""
    entries = Headers(entries_of(received))
    shown = entries.pairs()
    given_out: dict[str, Any] = dict(shown) if plain else header_dict(shown)
    for name, *value in done:
        if value:
            given_out[name] = value[0]
        else:
            given_out.pop(name, None)
    read_back(entries, given_out, shown, "plugin", deletes)
    expected = Headers(entries_of(received))
    for name in {name for name, _ in received} if deletes else ():
        if name not in given_out:
            expected.popall(name, None)
    for name, value in given_out.items():
        if value is None:
            expected.popall(name, None)
        elif expected.getall(name, [None])[-1] != value:
            expected[name] = value
    assert sorted(entries.changes()) == sorted(expected.changes())
