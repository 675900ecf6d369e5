# SPDX-License-Identifier: Apache-2.0
"""Views leave the frame alone as long as one name decides, and are multidicts to whoever asks."""

import copy
from collections.abc import Mapping
from typing import assert_type

import pytest
from multidict import MultiDict, MutableMultiMapping

from apisix.runner.http.headers import Headers
from apisix.runner.wire.messages import HTTPReqCallReq
from tests.http.multidicts import a_view


class _Untouchable(Headers):
    """Headers that must not be decoded as a whole."""

    __slots__ = ()

    def _materialize(self) -> MultiDict[str]:
        raise AssertionError("everything was decoded")


def test_one_name_decodes_nothing_else() -> None:
    """Looking up, setting and deleting single names, and what is sent of it, leave the frame alone."""
    entries = HTTPReqCallReq.decode(HTTPReqCallReq(headers=[("a", "1"), ("b", "2"), ("r", "1"), ("r", "2")]).encode()).headers
    headers = _Untouchable(entries)
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
    assert ["r", "New", "other", "more"] == list(headers) == list(headers.keys())
    twin = headers.copy()
    expected = [("a", None), ("new", "4"), ("other", "5"), ("more", "6"), ("r", "7"), ("b", None)]
    assert headers.changes() == expected
    assert twin.changes() == expected


def test_copies_are_detached() -> None:
    """An edit of a copy is none of the original, before and after everything was decoded."""
    headers = a_view(Headers, [("a", "1")])
    for twin in (headers.copy(), copy.copy(headers)):
        twin["a"] = "2"
        twin.add("a", "3")
    assert (headers.pairs(), headers.changes()) == ([("a", "1")], [])
    twin = headers.copy()
    twin.clear()
    assert headers["a"] == "1"


def test_it_is_a_mutable_multimapping() -> None:
    """Code that asks for the interface gets it: isinstance, repr, to_dict, no hash."""
    headers = a_view(Headers, [("a", "1"), ("A", "2"), ("b", "3")])
    assert isinstance(headers, MutableMultiMapping)
    assert isinstance(headers, Mapping)
    assert repr(headers) == "<Headers('a': '1', 'A': '2', 'b': '3')>"
    assert headers.to_dict() == {"a": ["1", "2"], "b": ["3"]}
    assert headers != {"a": "1"}
    assert headers != 5
    with pytest.raises(TypeError):
        hash(headers)


def test_what_a_type_checker_sees() -> None:
    """The types are as precise as those of multidict, though each method has one signature only."""
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
    """They are mappings to `match` too."""
    match a_view(Headers, [("a", "1")]):
        case {"A": value}:
            assert value == "1"
        case _:
            raise AssertionError("no mapping")
