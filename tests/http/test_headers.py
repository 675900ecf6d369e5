# SPDX-License-Identifier: Apache-2.0
"""Tests of headers: names ignore case, and a request sends each name once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from apisix.runner.http.headers import RequestHeaders
from tests.http.multidicts import RECEIVED, Operation, a_view, operations_on_a_multidict


@settings(max_examples=200, deadline=None)
@given(received=RECEIVED, operations=st.lists(operations_on_a_multidict(), max_size=8))
def test_request_headers_send_each_name_once(received: list[tuple[str, str | None]], operations: list[Operation]) -> None:
    """After any edits, at most one value is sent for each name. An edit that raises an error changes nothing."""
    view = a_view(RequestHeaders, received)
    for operation in operations:
        before = view.pairs()
        try:
            operation(view)
        except ValueError:
            assert view.pairs() == before
        except KeyError:
            continue
    changes = view.changes()
    assert len(changes) == len({name for name, _ in changes})
    assert [name.lower() for name, _ in changes] == [name for name, _ in changes]


def test_received_names_in_capitals() -> None:
    """Names ignore case even if a received name is not in lower case, as the gateway sends it."""
    headers = a_view(RequestHeaders, [("X-Up", "1")])
    assert headers["x-up"] == "1"
    headers["x-up"] = "1"
    assert headers.changes() == []
