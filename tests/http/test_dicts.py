# SPDX-License-Identifier: Apache-2.0
"""A HeaderDict is a dict in every respect but the case of its names."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisix.runner.http.dicts import HeaderDict

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
