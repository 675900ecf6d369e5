# SPDX-License-Identifier: Apache-2.0
"""Paths and queries as nginx reads and writes them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisix.gateway.http import uris


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/", "/"),
        ("/a//b///c", "/a/b/c"),
        ("/a/./b/.", "/a/b/"),
        ("/a/../b/..", "/"),
        ("/a/b/", "/a/b/"),
        ("/%ff", "/\udcff"),
        ("/%2F%25", "/%"),
        ("/a%20b+c", "/a b+c"),
        ("/a/%2e%2e/b", "/b"),
    ],
)
def test_normalise_path(raw: str, path: str) -> None:
    """nginx decodes, merges slashes and resolves dots."""
    assert uris.normalise_path(raw) == path


@pytest.mark.parametrize("raw", ["/..", "/a/../..", "/a%00b", "*", ""])
def test_bad_target(raw: str) -> None:
    """nginx answers these with 400."""
    with pytest.raises(uris.BadTarget):
        uris.normalise_path(raw)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/a?b=c", ("/a", "b=c")),
        ("/a", ("/a", None)),
        ("/a?", ("/a", "")),
        ("/a?b#c", ("/a", "b")),
        ("http://host:80/a?b", ("/a", "b")),
        ("http://host", ("/", None)),
    ],
)
def test_split_target(target: str, parts: tuple[str, str | None]) -> None:
    """The query is the part after the first `?`. The scheme, the authority and the fragment are removed."""
    assert uris.split_target(target) == parts


@pytest.mark.parametrize(
    ("query", "args"),
    [
        ("", {}),
        ("a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("flag&empty=", {"flag": [None], "empty": [""]}),
        ("a=x=y", {"a": ["x=y"]}),
        ("sp=a+b%20c", {"sp": ["a b c"]}),
        ("&&=v&x", {"x": [None]}),
        ("%ff=%fe", {"\udcff": ["\udcfe"]}),
    ],
)
def test_parse_args(query: str, args: uris.Args) -> None:
    """`?flag` has no value, `?flag=` has an empty one, and an entry without a name is ignored."""
    assert uris.parse_args(query) == args


@settings(max_examples=30)  # each is a whole query
@given(st.dictionaries(st.text(min_size=1, max_size=9), st.lists(st.none() | st.text(max_size=9), min_size=1, max_size=4), max_size=6))
def test_args_round_trip(args: uris.Args) -> None:
    """Arguments that are written and read again are equal."""
    assert uris.parse_args(uris.build_query(args)) == args


@given(st.text())
def test_escaped_path_round_trip(path: str) -> None:
    """A path that a plugin sets reaches the upstream unchanged, whatever characters it contains."""
    normal = "/" + path.replace("\0", "").replace("/", "").replace(".", "")
    assert uris.normalise_path(uris.split_target(uris.escape_path(normal))[0]) == normal


def test_escape_path() -> None:
    """nginx escapes little in a path."""
    assert uris.escape_path("/a b/%41/?q/ü/\udcff/&+:;=@$,!'()*~#\"") == "/a%20b/%2541/%3Fq/%C3%BC/%FF/&+:;=@$,!'()*~%23%22"
