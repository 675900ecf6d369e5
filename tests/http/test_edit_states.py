# SPDX-License-Identifier: Apache-2.0
"""Tests of `mark`, which shows whether a plugin has edited anything."""

from collections.abc import Callable

import pytest

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from tests.http.calls import a_request, a_response


def _assign(name: str, value: object) -> Callable[[object], None]:
    return lambda message: setattr(message, name, value)


@pytest.mark.parametrize(
    "edit",
    [
        _assign("path", "/b"),
        _assign("body", b"new"),
        lambda request: request.headers.update({"x-new": "1"}),
        lambda request: request.headers.pop("host"),
        lambda request: request.args.add("id", "2"),
        lambda request: request.args.clear(),
        lambda request: request.response_headers.update({"x-new": "1"}),
    ],
)
def test_edits_of_a_request(edit: Callable[[Request], object]) -> None:
    """Each kind of edit changes the mark. Without further edits it remains equal."""
    request = a_request("/a", [("id", "1")], [("host", "h")])
    before = request.mark()
    edit(request)

    assert before != request.mark()
    assert request.mark() == request.mark()


def test_a_second_edit_of_the_same_header() -> None:
    """Setting the same value again is not an edit, and setting another value is one."""
    request = a_request("/a", [], [("host", "h")])
    request.headers["x"] = "1"
    before = request.mark()
    request.headers["x"] = "1"
    assert request.mark() == before
    request.headers["x"] = "2"

    assert before != request.mark()


def test_edits_before_and_after_iterating() -> None:
    """Iterating over a view does not change the mark."""
    request = a_request("/a", [], [("host", "h"), ("a", "1"), ("b", "1")])
    request.headers["x"] = "1"
    del request.headers["a"]
    before = request.mark()
    assert dict(request.headers) == {"host": "h", "b": "1", "x": "1"}
    assert request.mark() == before
    del request.headers["b"]

    assert before != request.mark()


@pytest.mark.parametrize(
    "edit",
    [
        _assign("status", 404),
        _assign("body", b"new"),
        lambda response: response.headers.add("a", "2"),
        lambda response: response.headers.pop("a"),
    ],
)
def test_edits_of_a_response(edit: Callable[[Response], object]) -> None:
    """Each kind of edit changes the mark."""
    response = a_response([("a", "1")])
    before = response.mark()
    edit(response)

    assert before != response.mark()


def test_reading_is_not_an_edit() -> None:
    """Reading and iterating do not change the mark."""
    request = a_request("/a", [("id", "1")], [("host", "h")])
    response = a_response([("a", "1")], status=404)
    before = request.mark(), response.mark()
    assert (request.path, request.headers["host"], response.status) == ("/a", "h", 404)
    assert (list(request.headers.items()), list(request.args.items())) == ([("host", "h")], [("id", "1")])
    assert dict(request.response_headers) == {}
    assert list(response.headers.items()) == [("a", "1")]

    assert (request.mark(), response.mark()) == before
