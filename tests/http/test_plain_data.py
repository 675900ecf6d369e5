# SPDX-License-Identifier: Apache-2.0
"""Requests and responses as plain data, with the edits that are made in another process."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.errors import WrongContext
from apisix.runner.http.phase import Phase
from apisix.runner.http.plain_data import (
    PlainCall,
    PlainEdits,
    apply_edits,
    edits_of,
    encode_plain,
    from_plain,
    state_of,
    to_plain,
)
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPRespCallReq

NAMES = st.sampled_from(["a", "b", "x-a", "X-B", "flag"])
VALUES = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=4)
OPERATIONS = st.lists(st.tuples(st.sampled_from(["set", "discard", "add"]), NAMES, VALUES), max_size=6)


def request() -> Request:
    """Return a request with repeated and odd values."""
    message = HTTPReqCallReq(
        id=3,
        src_ip=b"\x7f\0\0\1",
        method="POST",
        path="/old",
        args=[("a", "1"), ("a", "2"), ("flag", None), ("b", "\udcff")],
        headers=[("host", "h"), ("x-a", "\udcff"), ("x-b", "1"), ("x-b", "2")],
    )
    return Request(message, None, Phase.PRE_REQ, "route#1")  # type: ignore[arg-type]  # nothing is requested


def response() -> Response:
    """Return a response with a repeated header."""
    headers = [("X-A", "1"), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("Content-Length", "5"), ("b", "")]
    return Response(HTTPRespCallReq(id=3, status=200, headers=headers), None, "route#1")  # type: ignore[arg-type]


def elsewhere(message: Request | Response, hook: Callable[[Any], Reply | None]) -> Reply | None:
    """Run a hook as in another process: everything that passes between both is encoded."""
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(to_plain(message)), type=PlainCall)
    copy = from_plain(plain, lambda names: pytest.fail(f"{names} were requested"))
    before = state_of(copy)
    edits = edits_of(plain, before, copy, hook(copy))
    return apply_edits(message, msgspec.msgpack.decode(msgspec.msgpack.encode(edits), type=PlainEdits))


def edited(message: Any, operations: list[tuple[str, str, str]], *views: str) -> None:
    """Edit views of a message."""
    for operation, name, value in operations:
        for view in views:
            if operation == "set":
                getattr(message, view)[name] = value
            elif operation == "discard":
                getattr(message, view).discard(name)
            elif view != "headers" or isinstance(message, Response):  # a request header can't be repeated
                getattr(message, view).add(name, value)


@given(OPERATIONS, OPERATIONS)
def test_edits_of_a_request_are_the_same_as_without_another_process(first: list[Any], second: list[Any]) -> None:
    """Edits of an earlier plugin, and then of a hook in another process, make the same message."""
    here, there = request(), request()
    for message in (here, there):
        edited(message, first, "headers", "args", "response_headers")
    edited(here, second, "headers", "args", "response_headers")
    elsewhere(there, lambda copy: edited(copy, second, "headers", "args", "response_headers"))

    for view in ("headers", "args", "response_headers"):
        assert getattr(there, view).to_dict() == getattr(here, view).to_dict()


@given(OPERATIONS, OPERATIONS)
def test_edits_of_a_response_are_the_same_as_without_another_process(first: list[Any], second: list[Any]) -> None:
    """The same for a response."""
    here, there = response(), response()
    for message in (here, there):
        edited(message, first, "headers")
    edited(here, second, "headers")
    elsewhere(there, lambda copy: edited(copy, second, "headers"))

    assert {name.lower(): values for name, values in there.headers.to_dict().items()} == {
        name.lower(): values for name, values in here.headers.to_dict().items()
    }


def test_a_hook_without_edits_changes_nothing() -> None:
    """The message is the same as before, and its mark too, so the metrics count no rewrite."""
    for message in (request(), response()):
        before = message.mark()

        assert elsewhere(message, lambda copy: (copy.headers.to_dict(), copy.context, None)[-1]) is None
        assert message.mark() == before


def test_received_values_are_passed() -> None:
    """The hook sees everything that the worker has received."""
    seen: list[object] = []
    elsewhere(
        request(),
        lambda copy: seen.extend([copy.method, copy.remote_addr, copy.phase, copy.route_key, copy.id, copy.query, copy.headers["x-a"]]),
    )

    assert seen == ["POST", "127.0.0.1", Phase.PRE_REQ, "route#1", 3, "a=1&a=2&flag&b=%FF", "\udcff"]


def test_a_body_of_a_response_replaces_its_length() -> None:
    """An assigned body deletes content-length, also if it was assigned in another process."""
    message = response()

    def hook(copy: Response) -> None:
        copy.status = 404
        copy.body = b"new"

    elsewhere(message, hook)

    assert (message.status, message.body, message.headers.get("content-length")) == (404, b"new", None)


def test_a_body_of_an_earlier_plugin_is_passed() -> None:
    """The hook reads the body that an earlier plugin has assigned."""
    message = request()
    message.body = b"assigned"
    seen = []
    elsewhere(message, lambda copy: seen.append(copy.read()))

    assert seen == [b"assigned"]
    assert message.body == b"assigned"


def test_a_reply_is_passed() -> None:
    """Status, body and repeated headers of a Reply are the same."""
    reply = elsewhere(request(), lambda _: Reply(418, "tea", [("set-cookie", "a"), ("set-cookie", "b")]))

    assert reply is not None
    assert (reply.status, reply.body) == (418, b"tea")
    assert reply.headers.getall("set-cookie") == ["a", "b"]
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_context_is_passed() -> None:
    """Changes of plain values are applied. Other values are left in place."""
    message = request()
    lock = object()
    message.context.update(count=1, names=["a"], gone=None, lock=lock)

    def hook(copy: Request) -> None:
        assert "lock" not in copy.context
        copy.context["names"].append("b")
        del copy.context["gone"]
        copy.context["new"] = {"x": b"y"}

    elsewhere(message, hook)

    assert message.context == {"count": 1, "names": ["a", "b"], "lock": lock, "new": {"x": b"y"}}


@pytest.mark.parametrize("value", [(1, 2), {1}, {1: 2}, object(), [object()], 1 << 70, "\udcff"])
def test_values_that_are_not_plain(value: object) -> None:
    """A value that would have another type in the other process is refused."""
    with pytest.raises((TypeError, ValueError, OverflowError)):
        encode_plain(value)


def test_metadata() -> None:
    """The metadata of a request can't be used in another process. The error names an alternative."""
    copy = from_plain(to_plain(request()), lambda names: [b"r1" for _ in names])
    with pytest.raises(WrongContext, match='runs_in = "process"'):
        copy.metadata()
