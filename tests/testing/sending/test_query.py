# SPDX-License-Identifier: Apache-2.0
"""Compare paths and queries with the development gateway, which reads them as nginx does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.gateway.http import uris
from apisix.testing.sending.query import grouped, normal_path, parsed_query, written_query

PIECES = st.lists(st.sampled_from(["a", "b", "=", "&", "+", "%20", "%ff", "%C3%BC", "ü", "%zz", "?"])).map("".join)


@given(PIECES)
def test_query(query: str) -> None:
    """Any query has the same arguments, and is written in the same way."""
    args = uris.parse_args(query)

    pairs = grouped(parsed_query(query))
    assert pairs == list(uris.flatten(args))
    assert written_query(pairs) == uris.build_query(args)


@given(st.lists(st.sampled_from(["/", "a", ".", "..", "%2e", "%2F", "b", "%ff"])).map(lambda parts: "/" + "".join(parts)))
def test_path(raw_path: str) -> None:
    """Any path that nginx accepts is normalized in the same way. A path above the root, which nginx refuses, becomes the root here."""
    try:
        expected = uris.normalise_path(raw_path)
    except uris.BadTarget:
        return
    assert normal_path(raw_path) == expected


def test_relative_path() -> None:
    """A path must begin with a slash."""
    with pytest.raises(ValueError, match="must begin with a slash, but it is 'users'"):
        normal_path("users")
