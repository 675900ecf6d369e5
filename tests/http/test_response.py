# SPDX-License-Identifier: Apache-2.0
"""Tests of the message that is sent for a response. There is a test for each sentence of gateway contract, 7."""

import asyncio
import gzip
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from apisix.runner.errors import BodyError, UnsupportedEdit, WrongContext
from apisix.runner.http.body.parsing import IN_COROUTINE_BYTES, IN_PLACE_BYTES
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.http.response import Response
from apisix.runner.wire.entries import WrittenEntries
from apisix.runner.wire.messages import RespBody
from tests.http.calls import FakeGateway, Pairs, a_response, answered
from tests.http.multidicts import NAMES, VALUES, Operation, operations_on_a_multidict

RECEIVED: list[tuple[str, str | None]] = [
    ("Content-Type", "text/html"),
    ("Content-Length", "5"),
    ("Set-Cookie", "a=1"),
    ("Set-Cookie", "b=2"),
    ("Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"),
    ("Transfer-Encoding", "chunked"),
]
# Operations that do not materialize the view. They are drawn more often than others.
_assignments = st.tuples(NAMES, VALUES).map(lambda pair: lambda headers: headers.__setitem__(*pair)) | NAMES.map(
    lambda name: lambda headers: headers.__delitem__(name)
)
KEPT = [("Content-Type", "text/html"), ("Content-Length", "5"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
WITHOUT_LENGTH = [pair for pair in KEPT if pair[0] != "Content-Length"]


def gzipped(text: bytes) -> FakeGateway:
    """Return a gateway that sends a compressed body."""
    return FakeGateway({RespBody(): gzip.compress(text)})


class TestHeaders:
    """The message always has the complete list of headers. Others do not reach the client."""

    def test_nothing_changed(self) -> None:
        """Without edits, all headers are sent, also repeated ones, except those of the connection."""
        reply = answered(a_response(RECEIVED, call_id=9))
        assert (reply.id, reply.status, list(reply.headers), reply.body) == (9, 0, KEPT, b"")

    def test_edits(self) -> None:
        """Edits are applied to the list. Set names have the plugin's spelling."""
        response = a_response(RECEIVED)
        response.headers["X-New"] = "1"
        response.headers["content-type"] = "text/plain"
        response.headers.add("set-cookie", "c=3")
        del response.headers["Content-Length"]
        expected = [("content-type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-New", "1"), ("set-cookie", "c=3")]
        assert list(answered(response).headers) == expected

    def test_headers_without_edits_are_not_decoded(self) -> None:
        """Received headers are copied as bytes, whether another one was set or not."""
        response = a_response([*RECEIVED, ("raw", "\udcff")])
        without_edits = response.to_message().headers
        response.headers["x-new"] = "1"
        for entries in (without_edits, response.to_message().headers):
            assert isinstance(entries, WrittenEntries)
        assert list(without_edits) == [*KEPT, ("raw", "\udcff")]

    def test_later_edits_do_not_change_a_message(self) -> None:
        """A message has the headers at the time when it was created."""
        response = a_response(RECEIVED)
        response.headers["a"] = "1"
        message = response.to_message()
        response.headers["a"] = "2"
        assert list(message.headers) == [*KEPT, ("a", "1")]

    def test_all_deleted(self) -> None:
        """If all headers were deleted, a content-type is sent: with an empty list, the gateway would send the upstream's."""
        response = a_response(RECEIVED)
        response.headers.clear()
        assert list(answered(response).headers) == [("content-type", "text/plain; charset=utf-8")]

    def test_no_received_headers(self) -> None:
        """If the upstream sent no headers, none are sent."""
        assert list(answered(a_response()).headers) == []

    def test_another_length(self) -> None:
        """A changed content-length is not sent: the body would be truncated, or the client would wait for more."""
        response = a_response(RECEIVED)
        response.headers["content-length"] = "4"
        assert list(answered(response).headers) == WITHOUT_LENGTH
        response.headers["content-length"] = "5"
        assert ("content-length", "5") in list(answered(response).headers)

    def test_header_injection(self) -> None:
        """A name or a value that can't be sent raises an error at once."""
        with pytest.raises(ValueError, match="must not contain control characters"):
            a_response().headers["x"] = "a\r\nset-cookie: b"


@settings(max_examples=300, deadline=None)
@given(
    received=st.lists(
        st.tuples(NAMES | st.sampled_from(["Connection", "keep-alive", "Transfer-Encoding"]), VALUES | st.none()), max_size=6
    ),
    operations=st.lists(operations_on_a_multidict() | _assignments, max_size=4),
)
def test_headers_same_as_a_multidict(received: list[tuple[str, str | None]], operations: list[Operation]) -> None:
    """The sent headers are those of a multidict after the same edits, except those of the connection, in both states of the view."""
    response = a_response(received)
    expected = CIMultiDict([(name, value or "") for name, value in received])
    for operation in operations:
        for headers in (response.headers, expected):
            try:
                operation(headers)
            except KeyError:
                continue
            except ValueError:  # a name that no header can have
                break
    sent = list(answered(response).headers)
    kept = [pair for pair in expected.items() if pair[0].lower() not in ("connection", "keep-alive", "transfer-encoding")]
    assert sent == (kept or ([("content-type", "text/plain; charset=utf-8")] if received else []))
    assert list(response.headers.items()) == list(expected.items())
    assert list(answered(response).headers) == sent


class TestBody:
    """A body can be replaced, but not emptied."""

    def test_replaced(self) -> None:
        """Assigning a body deletes the length and the encoding of the old one, for the gateway and for later plugins."""
        response = a_response([*RECEIVED, ("Content-Encoding", "gzip")], gateway=gzipped(b"old"))
        response.body = b"new"
        assert ("content-encoding" in response.headers, response.read()) == (False, b"new")
        reply = answered(response)
        assert (reply.body, list(reply.headers)) == (b"new", WITHOUT_LENGTH)

    @pytest.mark.parametrize("header_first", [False, True])
    def test_replaced_by_a_compressed_one(self, header_first: bool) -> None:
        """An encoding that is set for the new body is sent, and later plugins read the decompressed body."""
        response = a_response(RECEIVED)
        if header_first:
            response.headers["content-encoding"] = "gzip"
        response.body = gzip.compress(b"new")
        if not header_first:
            response.headers["content-encoding"] = "gzip"
        assert response.read() == b"new"
        assert ("content-encoding", "gzip") in list(answered(response).headers)

    def test_replaced_again(self) -> None:
        """The encoding of an assigned body is deleted when another body is assigned."""
        response = a_response(RECEIVED)
        response.body = gzip.compress(b"new")
        response.headers["content-encoding"] = "gzip"
        response.body = response.read() + b"er"
        assert (answered(response).body, list(answered(response).headers)) == (b"newer", WITHOUT_LENGTH)

    def test_a_length_beside_a_new_body(self) -> None:
        """A content-length that is set for a new body is not sent, since the gateway sets it."""
        response = a_response(RECEIVED)
        response.body = b"new"
        response.headers["content-length"] = "3"
        assert list(answered(response).headers) == WITHOUT_LENGTH

    def test_it_cannot_be_emptied(self) -> None:
        """Assigning an empty body raises an error that names a Reply: the gateway would send the upstream's body."""
        response = a_response()
        with pytest.raises(UnsupportedEdit, match=r"response\.body can't be emptied.*answer with a Reply"):
            response.body = b""
        with pytest.raises(TypeError, match=r"got str, append \.encode\(\)"):
            response.body = "x"  # type: ignore[assignment]

    @pytest.mark.parametrize(
        ("status", "headers", "body"),
        [
            (200, [("A", "1")], None),
            (200, [("A", "1")], b""),
            (204, [("A", "1")], None),
            (304, [("A", "1")], None),
            (200, [("Content-Encoding", "gzip"), ("Content-Length", "20")], gzip.compress(b"", mtime=0)),
        ],
    )
    def test_empty_over_empty(self, status: int, headers: Pairs, body: bytes | None) -> None:
        """Assigning an empty body to an empty one changes nothing, and keeps the headers."""
        gateway = FakeGateway({RespBody(): body})
        response = a_response(headers, status=status, gateway=gateway)
        response.body = response.text().replace("a", "b").encode()
        assert (response.assigned_body, response.read()) == (None, b"")
        assert list(answered(response).headers) == list(headers)

    @pytest.mark.parametrize(("status", "headers"), [(204, []), (304, []), (200, [("Content-Length", "0")])])
    def test_empty_over_what_must_be_empty(self, status: int, headers: Pairs) -> None:
        """If a response can't have a body, it does not have to be read first."""
        gateway = FakeGateway()
        response = a_response(headers, status=status, gateway=gateway)
        response.body = b""
        assert (answered(response).body, gateway.asked) == (b"", [])

    def test_emptied_after_reading(self) -> None:
        """A body that was read and is not empty can't be emptied."""
        response = a_response(gateway=FakeGateway({RespBody(): b"secret"}))
        with pytest.raises(UnsupportedEdit, match="can't be emptied"):
            response.body = response.read().replace(b"secret", b"")

    def test_the_received_body(self) -> None:
        """Assigning the received body changes nothing, and keeps its length and encoding."""
        packed = gzip.compress(b"old")
        headers = [("content-encoding", "gzip"), ("content-length", str(len(packed)))]
        response = a_response(headers, gateway=FakeGateway({RespBody(): packed}))
        response.body = response.read(decode=False)
        assert (answered(response).body, list(answered(response).headers)) == (b"", headers)

    def test_back_to_the_received_body(self) -> None:
        """If the received body is assigned after another one, the encoding of the other one is deleted."""
        response = a_response([("content-type", "text/plain")], gateway=FakeGateway({RespBody(): b"old"}))
        received = response.read()
        response.body = gzip.compress(b"new")
        response.headers["content-encoding"] = "gzip"
        response.body = received
        assert (response.read(), list(answered(response).headers)) == (b"old", [("content-type", "text/plain")])

    @pytest.mark.parametrize("body", [bytearray(b"xy"), memoryview(b"xayb")[::2], type("Bytes", (bytes,), {})(b"xy")])
    def test_other_kinds_of_bytes(self, body: bytes) -> None:
        """Any kind of bytes becomes bytes."""
        response = a_response()
        response.body = body
        assert (type(response.read()), answered(response).body) == (bytes, b"xy")

    def test_decompressed(self) -> None:
        """All accessors decompress the body by its content-encoding. With decode=False, `read` returns the received bytes."""
        gateway = gzipped(b'{"a": "\xc3\xbc"}')
        response = a_response([("Content-Type", "application/json"), ("Content-Encoding", "gzip")], gateway=gateway)
        text = b'{"a": "\xc3\xbc"}'
        assert (response.read(), response.body, response.text(), response.json()) == (text, text, text.decode(), {"a": "ü"})
        assert response.read(decode=False) == gateway.answers[RespBody()]
        assert gateway.asked == [[RespBody()]]

    async def test_decompressed_in_a_coroutine(self) -> None:
        """So do the async variants."""
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(b'{"a": 1}'))
        assert await response.aread() == b'{"a": 1}'
        assert await response.ajson() == {"a": 1}
        assert (await response.aread(decode=False))[:2] == b"\x1f\x8b"
        assert response.read() == b'{"a": 1}'

    def test_decode_is_a_keyword(self) -> None:
        response: Any = a_response()
        with pytest.raises(TypeError):
            response.read(False)

    def test_unknown_encoding(self) -> None:
        """An unknown encoding raises an error. With decode=False, `read` returns the bytes."""
        response = a_response([("Content-Encoding", "snappy")], gateway=FakeGateway({RespBody(): b"xyz"}))
        for accessor in (response.read, response.text, response.json, response.form):
            with pytest.raises(BodyError, match=r"'snappy' is unknown.*read\(decode=False\)"):
                accessor()
        assert response.read(decode=False) == b"xyz"

    def test_edited_encoding(self) -> None:
        """The received body is decompressed by the received content-encoding, also if the header was edited."""
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(b"text"))
        del response.headers["content-encoding"]
        assert response.read() == b"text"

    def test_limit(self) -> None:
        """A body whose decompressed form is too long raises an error."""
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(bytes(1001)), max_decompressed_bytes=1000)
        with pytest.raises(BodyError, match="longer than 1000 bytes"):
            response.read()

    def test_empty(self) -> None:
        """No body reads as b"", also if there is a content-encoding."""
        response = a_response([("Content-Encoding", "gzip")])
        assert (response.read(), response.text(), response.read(decode=False)) == (b"", "", b"")

    def test_too_long_to_be_transferred(self) -> None:
        """A body that is longer than a frame is not requested, since the gateway would end the call."""
        gateway = FakeGateway({RespBody(): b"x"})
        response = a_response([("Content-Length", str(2**24))], gateway=gateway)
        with pytest.raises(BodyError, match="16777216 bytes and can't be read"):
            response.read()
        assert gateway.asked == []


class TestLongBodies:
    """A long body is decompressed in a thread, which a coroutine can only wait for with `aread`, and only once."""

    async def aread(self, response: Response) -> bytes:
        return await response.aread()

    @pytest.mark.parametrize(
        ("size", "packed_size", "offloaded"),
        [
            (IN_PLACE_BYTES, 1000, 0),
            (IN_PLACE_BYTES + 1, 1000, 1),
            (10, IN_PLACE_BYTES, 0),
            (10, IN_PLACE_BYTES + 1, 1),
        ],
    )
    @pytest.mark.parametrize("is_coroutine", [False, True])
    def test_a_body_is_long_if_one_of_its_forms_is(self, size: int, packed_size: int, offloaded: int, is_coroutine: bool) -> None:
        gateway = gzipped(bytes(size))
        gateway.answers[RespBody()] = (gateway.answers[RespBody()] or b"").ljust(packed_size, b"\0")
        response = a_response([("Content-Encoding", "gzip")], gateway=gateway)
        read = asyncio.run(self.aread(response)) if is_coroutine else response.read()

        assert (read, gateway.offloaded) == (bytes(size), offloaded)
        assert (response.read(), gateway.offloaded) == (bytes(size), offloaded)

    def test_the_limit_of_a_short_body_is_not_decompressed_again(self) -> None:
        gateway = gzipped(bytes(1001))
        response = a_response([("Content-Encoding", "gzip")], gateway=gateway, max_decompressed_bytes=1000)

        for _ in range(2):
            with pytest.raises(BodyError, match="longer than 1000 bytes"):
                response.read()
        assert gateway.offloaded == 0

    @pytest.mark.parametrize("size", [IN_PLACE_BYTES + 1, IN_COROUTINE_BYTES])
    async def test_a_coroutine_can_read_a_body_that_is_not_too_long(self, size: int) -> None:
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(bytes(size)))
        await response.aread(decode=False)

        assert response.read() == bytes(size)

    async def test_a_coroutine_cannot_read_a_longer_one_without_await(self) -> None:
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(bytes(IN_COROUTINE_BYTES + 1)))
        await response.aread(decode=False)

        with pytest.raises(WrongContext, match=r"`await response\.aread\(\)`"):
            response.read()
        assert await response.aread() == bytes(IN_COROUTINE_BYTES + 1)

    def test_an_assigned_body_replaces_a_decompressed_one(self) -> None:
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(b"old"))
        before = response.read()
        response.body = gzip.compress(b"new")
        response.headers["content-encoding"] = "gzip"

        assert (before, response.read(), response.read()) == (b"old", b"new", b"new")


class TestStatus:
    """The status is sent if it changed."""

    def test_kept(self) -> None:
        """An unchanged status is sent as 0, with which the gateway keeps the upstream's."""
        response = a_response(status=404)
        response.status = 404
        assert (response.status, answered(response).status) == (404, 0)

    def test_changed(self) -> None:
        """A changed status is sent."""
        response = a_response(status=404)
        response.status = 200
        assert (response.status, answered(response).status) == (200, 200)

    @pytest.mark.parametrize(
        ("status", "error"), [(199, ValueError), (1000, ValueError), ("200", TypeError), (True, TypeError), (None, TypeError)]
    )
    def test_invalid_status(self, status: int, error: type[Exception]) -> None:
        """A status that can't be sent raises an error on assignment."""
        with pytest.raises(error):
            a_response().status = status


class TestReply:
    """A reply replaces the whole response."""

    def test_in_full(self) -> None:
        """Status, headers and body are those of the reply."""
        reply = answered(a_response(RECEIVED, call_id=4), Reply(403, json={"no": 1}, headers={"X-A": "1"}))
        expected = (4, 403, [("X-A", "1"), ("content-type", "application/json")], b'{"no":1}')
        assert (reply.id, reply.status, list(reply.headers), reply.body) == expected

    @pytest.mark.parametrize(("status", "body"), [(403, b"403 Forbidden\n"), (204, b"204 No Content\n"), (799, b"799 status\n")])
    def test_without_a_body(self, status: int, body: bytes) -> None:
        """An empty body is replaced by the phrase of the status, since the gateway would send the upstream's body."""
        reply = answered(
            a_response(RECEIVED), Reply(status, headers={"content-type": "application/json", "content-encoding": "br", "x": "1"})
        )
        assert (reply.body, list(reply.headers)) == (body, [("x", "1"), ("content-type", "text/plain; charset=utf-8")])

    def test_without_headers(self) -> None:
        """A content-type is added to a reply without headers, since the gateway would send the upstream's headers."""
        reply = answered(a_response(RECEIVED), Reply(200, b"\0\1"))
        assert (list(reply.headers), reply.body) == ([("content-type", "application/octet-stream")], b"\0\1")

    def test_framing_is_dropped(self) -> None:
        """Framing headers are not sent in the response phase either."""
        reply = answered(a_response(RECEIVED), Reply(200, "x", {"Content-Length": "7", "TE": "x", "a": "b"}))
        assert list(reply.headers) == [("a", "b"), ("content-type", "text/plain; charset=utf-8")]

    def test_edits_are_dropped(self) -> None:
        """Edits are not sent if there is a Reply."""
        response = a_response(RECEIVED)
        response.body = b"edited"
        response.headers["x"] = "1"
        assert (answered(response, Reply(200, "reply")).body, "x" in dict(answered(response, Reply()).headers)) == (b"reply", False)


def test_copy() -> None:
    """A copy has the edits so far, but not later ones. Both share the context and the info replies."""
    gateway = FakeGateway({RespBody(): b"body"})
    response = a_response(RECEIVED, gateway=gateway)
    response.headers["x"] = "1"
    response.context["user"] = "jack"
    copied = response.copy()
    response.headers["x"] = "2"
    response.status = 500
    response.body = b"new"
    assert (copied.read(), copied.headers["x"], copied.status, copied.context["user"]) == (b"body", "1", 200, "jack")
    assert gateway.asked == [[RespBody()]]
    assert (response.copy().read(), response.copy().status) == (b"new", 500)


async def test_body_in_a_coroutine() -> None:
    """In a coroutine, the plain accessors raise an error that names the async variant, unless the body was fetched."""
    response = a_response(gateway=FakeGateway({RespBody(): b"x"}))
    with pytest.raises(WrongContext, match=r"response\.read\(\) has to wait.*`await response\.aread\(\)`"):
        response.read()
    with pytest.raises(WrongContext, match=r"`await response\.aread\(\)`"):
        _ = response.body
    assert await response.aread() == b"x"
    assert response.body == b"x"


async def test_the_body_is_requested_once() -> None:
    """Two tasks that read the body share one info request, since a second one would break the response."""
    gateway = FakeGateway({RespBody(): b"x"})
    response = a_response(gateway=gateway)
    first, second, text = await asyncio.gather(response.aread(), response.aread(), response.atext())
    assert (first, second, text) == (b"x", b"x", "x")
    assert gateway.asked == [[RespBody()]]


async def test_a_cancelled_wait() -> None:
    """If waiting for the body was cancelled, the body can't be requested again, and reading it raises an error."""
    gateway = FakeGateway({RespBody(): b"x"})
    gateway.may_reply = asyncio.Event()
    response = a_response(gateway=gateway)
    reading = asyncio.ensure_future(response.aread())
    await gateway.arrived.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(BodyError, match="only once"):
        await response.aread()
    with pytest.raises(BodyError, match="only once"):
        response.read()
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("name", ["id", "phase", "route_key", "headers", "context"])
def test_what_cannot_be_assigned(name: str) -> None:
    """Assigning it raises an error with the reason."""
    with pytest.raises(UnsupportedEdit, match=rf"response\.{name} can't be assigned: .{{20,}}"):
        setattr(a_response(), name, "x")


def test_received_attributes() -> None:
    """The other attributes are those that the gateway sent."""
    response = a_response(call_id=3, status=201)
    assert (response.id, response.status, response.phase, response.route_key, response.context) == (3, 201, Phase.POST_RESP, None, {})
    with pytest.raises(AttributeError):
        response.satus = 200  # type: ignore[attr-defined]
