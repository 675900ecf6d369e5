# SPDX-License-Identifier: Apache-2.0
"""Headers ignore case, and those of a request never repeat in what is sent."""

from hypothesis import given, settings
from hypothesis import strategies as st

from apisix.runner.http.headers import RequestHeaders
from tests.http.multidicts import CAME, Operation, a_view, operations_on_a_multidict


@settings(max_examples=200, deadline=None)
@given(came=CAME, operations=st.lists(operations_on_a_multidict(), max_size=8))
def test_request_headers_never_repeat_what_is_sent(came: list[tuple[str, str | None]], operations: list[Operation]) -> None:
    """Whatever is tried on request headers, what is sent has one value a name, or none; and an edit that raises changes nothing."""
    view = a_view(RequestHeaders, came)
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


def test_headers_that_came_in_capitals() -> None:
    """Names are found without case even where a message breaks the rule that they come in lower case."""
    headers = a_view(RequestHeaders, [("X-Up", "1")])
    assert headers["x-up"] == "1"
    headers["x-up"] = "1"
    assert headers.changes() == []
