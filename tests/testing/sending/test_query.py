# SPDX-License-Identifier: Apache-2.0
"""Paths and queries, held against the development gateway, which reads them as nginx does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.gateway.http import uris
from apisix.testing.sending.query import grouped, normal_path, parsed_query, written_query

PIECES = st.lists(st.sampled_from(["a", "b", "=", "&", "+", "%20", "%ff", "%C3%BC", "ü", "%zz", "?"])).map("".join)


@given(PIECES)
def test_query_is_read_alike(query: str) -> None:
    """Any query has the same arguments, and is written the same way again."""
    args = uris.parse_args(query)

    pairs = grouped(parsed_query(query))
    assert list(uris.flatten(args)) == pairs
    assert uris.build_query(args) == written_query(pairs)


@given(st.lists(st.sampled_from(["/", "a", ".", "..", "%2e", "%2F", "b", "%ff"])).map(lambda parts: "/" + "".join(parts)))
def test_path_is_normalised_alike(raw_path: str) -> None:
    """Any path that nginx takes is normalised alike. What climbs above the root, which nginx refuses, stays at it here."""
    try:
        expected = uris.normalise_path(raw_path)
    except uris.BadTarget:
        return
    assert expected == normal_path(raw_path)


def test_relative_path() -> None:
    """A path begins with a slash."""
    with pytest.raises(ValueError, match="begins with a slash, got 'users'"):
        normal_path("users")
