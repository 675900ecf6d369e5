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
    assert ("1", "1", None, ["1", "2"]) == (headers["A"], headers.get("a"), headers.get("nope"), headers.getall("R"))
    assert (True, False, False, 4) == ("a" in headers, "nope" in headers, headers.__contains__(5), len(headers))
    headers["a"] = "3"
    headers["New"] = "4"
    headers.add("other", "5")
    headers.setdefault("more", "6")
    headers.update({"r": "7"}, b="8")
    del headers["b"]
    assert "3" == headers.pop("a")
    everything = [("r", "7"), ("New", "4"), ("other", "5"), ("more", "6")]
    assert (everything, 4) == (list(headers.items()), len(headers))
    assert ["r", "New", "other", "more"] == list(headers) == list(headers.keys())
    twin = headers.copy()
    expected = [("a", None), ("new", "4"), ("other", "5"), ("more", "6"), ("r", "7"), ("b", None)]
    assert expected == headers.changes()
    assert expected == twin.changes()


def test_copies_are_detached() -> None:
    """An edit of a copy is none of the original, before and after everything was decoded."""
    headers = a_view(Headers, [("a", "1")])
    for twin in (headers.copy(), copy.copy(headers)):
        twin["a"] = "2"
        twin.add("a", "3")
    assert ([("a", "1")], []) == (headers.pairs(), headers.changes())
    twin = headers.copy()
    twin.clear()
    assert "1" == headers["a"]


def test_it_is_a_mutable_multimapping() -> None:
    """Code that asks for the interface gets it: isinstance, repr, to_dict, no hash."""
    headers = a_view(Headers, [("a", "1"), ("A", "2"), ("b", "3")])
    assert isinstance(headers, MutableMultiMapping)
    assert isinstance(headers, Mapping)
    assert "<Headers('a': '1', 'A': '2', 'b': '3')>" == repr(headers)
    assert {"a": ["1", "2"], "b": ["3"]} == headers.to_dict()
    assert headers != {"a": "1"}
    assert headers != 5
    with pytest.raises(TypeError):
        hash(headers)


def test_what_a_type_checker_sees() -> None:
    """The types are as precise as those of multidict, though each method has one signature only."""
    headers = a_view(Headers, [("a", "1")])
    mapping: Mapping[str, str] = headers
    assert "1" == mapping["a"]
    assert "1" == assert_type(headers.get("a"), str | None)
    assert "1" == assert_type(headers.get("a", ""), str)
    assert "1" == assert_type(headers.getone("a"), str)
    assert assert_type(headers.getone("b", None), str | None) is None
    assert ["1"] == assert_type(headers.getall("a"), list[str])
    assert 5 == assert_type(headers.getall("b", 5), list[str] | int)
    assert ["1"] == assert_type(headers.popall("a"), list[str])
    assert assert_type(headers.pop("a", None), str | None) is None


def test_a_mapping_in_a_match_statement() -> None:
    """They are mappings to `match` too."""
    match a_view(Headers, [("a", "1")]):
        case {"A": value}:
            assert "1" == value
        case _:
            raise AssertionError("no mapping")
