# SPDX-License-Identifier: Apache-2.0
"""Tests of multidict views: single names are looked up in the frame, and the views are mappings."""

import copy
from collections.abc import Mapping
from typing import assert_type

import pytest
from multidict import MultiDict, MutableMultiMapping

from apisix.runner.http.headers import Headers
from apisix.runner.wire.messages import HTTPReqCallReq
from tests.http.multidicts import a_view


class _AlwaysOverlay(Headers):
    """Headers that must not be materialized."""

    __slots__ = ()

    def _materialize(self) -> MultiDict[str]:
        raise AssertionError("the view was materialized")


def test_edits_of_single_names_do_not_materialize() -> None:
    """Looking up, setting and deleting single names, and sending the changes, do not materialize the view."""
    entries = HTTPReqCallReq.decode(HTTPReqCallReq(headers=[("a", "1"), ("b", "2"), ("r", "1"), ("r", "2")]).encode()).headers
    headers = _AlwaysOverlay(entries)
    assert (headers["A"], headers.get("a"), headers.get("nope"), headers.getall("R")) == ("1", "1", None, ["1", "2"])
    assert ("a" in headers, "nope" in headers, headers.__contains__(5), len(headers)) == (True, False, False, 4)
    headers["a"] = "3"
    headers["New"] = "4"
    headers.add("other", "5")
    headers.setdefault("more", "6")
    headers.update({"r": "7"}, b="8")
    del headers["b"]
    assert headers.pop("a") == "3"
    everything = [("r", "7"), ("New", "4"), ("other", "5"), ("more", "6")]
    assert (list(headers.items()), len(headers)) == (everything, 4)
    assert list(headers) == ["r", "New", "other", "more"]
    assert list(headers.keys()) == ["r", "New", "other", "more"]
    copied = headers.copy()
    expected = [("a", None), ("new", "4"), ("other", "5"), ("more", "6"), ("r", "7"), ("b", None)]
    assert headers.changes() == expected
    assert copied.changes() == expected


def test_copies_are_independent() -> None:
    """Edits of a copy do not change the original, in both states."""
    headers = a_view(Headers, [("a", "1")])
    for copied in (headers.copy(), copy.copy(headers)):
        copied["a"] = "2"
        copied.add("a", "3")
    assert (headers.pairs(), headers.changes()) == ([("a", "1")], [])
    copied = headers.copy()
    copied.clear()
    assert headers["a"] == "1"


def test_it_is_a_mutable_multimapping() -> None:
    """A view is a MutableMultiMapping, has a representation, and is not hashable."""
    headers = a_view(Headers, [("a", "1"), ("A", "2"), ("b", "3")])
    assert isinstance(headers, MutableMultiMapping)
    assert isinstance(headers, Mapping)
    assert repr(headers) == "<Headers('a': '1', 'A': '2', 'b': '3')>"
    assert headers.to_dict() == {"a": ["1", "2"], "b": ["3"]}
    assert headers != {"a": "1"}
    assert headers != 5
    with pytest.raises(TypeError):
        hash(headers)


def test_types_of_the_methods() -> None:
    """The types are as precise as those of multidict, although each method has only one signature."""
    headers = a_view(Headers, [("a", "1")])
    mapping: Mapping[str, str] = headers
    assert mapping["a"] == "1"
    assert assert_type(headers.get("a"), str | None) == "1"
    assert assert_type(headers.get("a", ""), str) == "1"
    assert assert_type(headers.getone("a"), str) == "1"
    assert assert_type(headers.getone("b", None), str | None) is None
    assert assert_type(headers.getall("a"), list[str]) == ["1"]
    assert assert_type(headers.getall("b", 5), list[str] | int) == 5
    assert assert_type(headers.popall("a"), list[str]) == ["1"]
    assert assert_type(headers.pop("a", None), str | None) is None


def test_a_mapping_in_a_match_statement() -> None:
    """A view matches a mapping pattern."""
    match a_view(Headers, [("a", "1")]):
        case {"A": value}:
            assert value == "1"
        case _:
            raise AssertionError("the view is not a mapping")
