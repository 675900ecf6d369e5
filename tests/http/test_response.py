# SPDX-License-Identifier: Apache-2.0
"""What the gateway is told about a response: each sentence of gateway contract, 7, is a test."""

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

CAME: list[tuple[str, str | None]] = [
    ("Content-Type", "text/html"),
    ("Content-Length", "5"),
    ("Set-Cookie", "a=1"),
    ("Set-Cookie", "b=2"),
    ("Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"),
    ("Transfer-Encoding", "chunked"),
]
# Mostly these, which decode nothing.
_assignments = st.tuples(NAMES, VALUES).map(lambda pair: lambda headers: headers.__setitem__(*pair)) | NAMES.map(
    lambda name: lambda headers: headers.__delitem__(name)
)
KEPT = [("Content-Type", "text/html"), ("Content-Length", "5"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
WITHOUT_LENGTH = [pair for pair in KEPT if pair[0] != "Content-Length"]


def gzipped(text: bytes) -> FakeGateway:
    """Make a gateway whose upstream compresses."""
    return FakeGateway({RespBody(): gzip.compress(text)})


class TestHeaders:
    """The complete list, always: what is not in it does not reach the client."""

    def test_nothing_changed(self) -> None:
        """An untouched response sends all headers back, repeats included, less those of the connection: so Content-Type is kept."""
        reply = answered(a_response(CAME, call_id=9))
        assert (reply.id, reply.status, list(reply.headers), reply.body) == (9, 0, KEPT, b"")

    def test_edits(self) -> None:
        """What is added, replaced, repeated and deleted is in the list, in the author's spelling and with the rest."""
        response = a_response(CAME)
        response.headers["X-New"] = "1"
        response.headers["content-type"] = "text/plain"
        response.headers.add("set-cookie", "c=3")
        del response.headers["Content-Length"]
        expected = [("content-type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-New", "1"), ("set-cookie", "c=3")]
        assert list(answered(response).headers) == expected

    def test_what_nobody_looks_at_is_not_decoded(self) -> None:
        """Entries go back as the bytes they came in, whether another one was set or none was touched."""
        response = a_response([*CAME, ("raw", "\udcff")])
        untouched = response.to_message().headers
        response.headers["x-new"] = "1"
        for entries in (untouched, response.to_message().headers):
            assert isinstance(entries, WrittenEntries)
        assert list(untouched) == [*KEPT, ("raw", "\udcff")]

    def test_what_is_edited_later_is_not_in_an_earlier_message(self) -> None:
        """A message holds the headers as they were when it was made."""
        response = a_response(CAME)
        response.headers["a"] = "1"
        message = response.to_message()
        response.headers["a"] = "2"
        assert list(message.headers) == [*KEPT, ("a", "1")]

    def test_all_deleted(self) -> None:
        """An empty list would bring the upstream's headers back, so a content-type goes alone."""
        response = a_response(CAME)
        response.headers.clear()
        assert list(answered(response).headers) == [("content-type", "text/plain; charset=utf-8")]

    def test_none_came(self) -> None:
        """Where the upstream sent none, none are sent."""
        assert list(answered(a_response()).headers) == []

    def test_a_length_that_is_made_up(self) -> None:
        """A content-length that is not the upstream's is not sent: the body would be cut, or the client would wait."""
        response = a_response(CAME)
        response.headers["content-length"] = "4"
        assert list(answered(response).headers) == WITHOUT_LENGTH
        response.headers["content-length"] = "5"
        assert ("content-length", "5") in list(answered(response).headers)

    def test_header_injection(self) -> None:
        """A name or a value that can't be sent raises at the line that tries."""
        with pytest.raises(ValueError, match="must not contain control characters"):
            a_response().headers["x"] = "a\r\nset-cookie: b"


@settings(max_examples=300, deadline=None)
@given(
    came=st.lists(st.tuples(NAMES | st.sampled_from(["Connection", "keep-alive", "Transfer-Encoding"]), VALUES | st.none()), max_size=6),
    operations=st.lists(operations_on_a_multidict() | _assignments, max_size=4),
)
def test_headers_as_the_real_multidict(came: list[tuple[str, str | None]], operations: list[Operation]) -> None:
    """What is sent is what a real multidict holds after the same edits, without those of the connection; whether it was decoded or not."""
    response = a_response(came)
    expected = CIMultiDict([(name, value or "") for name, value in came])
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
    assert (kept or ([("content-type", "text/plain; charset=utf-8")] if came else [])) == sent
    assert list(response.headers.items()) == list(expected.items())
    assert list(answered(response).headers) == sent


class TestBody:
    """Replaced or left, never emptied."""

    def test_replaced(self) -> None:
        """With a new body, the old one's length and encoding are gone, in what is sent and in what later plugins see."""
        response = a_response([*CAME, ("Content-Encoding", "gzip")], gateway=gzipped(b"old"))
        response.body = b"new"
        assert ("content-encoding" in response.headers, response.read()) == (False, b"new")
        reply = answered(response)
        assert (reply.body, list(reply.headers)) == (b"new", WITHOUT_LENGTH)

    @pytest.mark.parametrize("header_first", [False, True])
    def test_replaced_by_a_compressed_one(self, header_first: bool) -> None:
        """An encoding that the author sets for the new body is sent with it, and undone for later plugins."""
        response = a_response(CAME)
        if header_first:
            response.headers["content-encoding"] = "gzip"
        response.body = gzip.compress(b"new")
        if not header_first:
            response.headers["content-encoding"] = "gzip"
        assert response.read() == b"new"
        assert ("content-encoding", "gzip") in list(answered(response).headers)

    def test_replaced_again(self) -> None:
        """The encoding of a body that a plugin compressed goes with that body."""
        response = a_response(CAME)
        response.body = gzip.compress(b"new")
        response.headers["content-encoding"] = "gzip"
        response.body = response.read() + b"er"
        assert (answered(response).body, list(answered(response).headers)) == (b"newer", WITHOUT_LENGTH)

    def test_a_length_beside_a_new_body(self) -> None:
        """A content-length that is set for a new body is left to the gateway."""
        response = a_response(CAME)
        response.body = b"new"
        response.headers["content-length"] = "3"
        assert list(answered(response).headers) == WITHOUT_LENGTH

    def test_it_cannot_be_emptied(self) -> None:
        """An empty body would mean the upstream's, so it raises and names a Reply."""
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
        """Replacing something in a body that is empty changes nothing: the headers stay too."""
        gateway = FakeGateway({RespBody(): body})
        response = a_response(headers, status=status, gateway=gateway)
        response.body = response.text().replace("a", "b").encode()
        assert (response.assigned_body, response.read()) == (None, b"")
        assert list(answered(response).headers) == list(headers)

    @pytest.mark.parametrize(("status", "headers"), [(204, []), (304, []), (200, [("Content-Length", "0")])])
    def test_empty_over_what_must_be_empty(self, status: int, headers: Pairs) -> None:
        """A response that can't have a body need not be read first."""
        gateway = FakeGateway()
        response = a_response(headers, status=status, gateway=gateway)
        response.body = b""
        assert (answered(response).body, gateway.asked) == (b"", [])

    def test_emptied_after_reading(self) -> None:
        """A body that was read and is not empty can't be emptied."""
        response = a_response(gateway=FakeGateway({RespBody(): b"secret"}))
        with pytest.raises(UnsupportedEdit, match="can't be emptied"):
            response.body = response.read().replace(b"secret", b"")

    def test_the_body_that_came(self) -> None:
        """Assigning the body that came, as it came, changes nothing: its length and encoding stay."""
        packed = gzip.compress(b"old")
        headers = [("content-encoding", "gzip"), ("content-length", str(len(packed)))]
        response = a_response(headers, gateway=FakeGateway({RespBody(): packed}))
        response.body = response.read(decode=False)
        assert (answered(response).body, list(answered(response).headers)) == (b"", headers)

    def test_back_to_the_body_that_came(self) -> None:
        """After another one was assigned, the body that came is sent again without the encoding that the other one had."""
        response = a_response([("content-type", "text/plain")], gateway=FakeGateway({RespBody(): b"old"}))
        came = response.read()
        response.body = gzip.compress(b"new")
        response.headers["content-encoding"] = "gzip"
        response.body = came
        assert (response.read(), list(answered(response).headers)) == (b"old", [("content-type", "text/plain")])

    @pytest.mark.parametrize("body", [bytearray(b"xy"), memoryview(b"xayb")[::2], type("Bytes", (bytes,), {})(b"xy")])
    def test_other_kinds_of_bytes(self, body: bytes) -> None:
        """Any kind of bytes becomes bytes."""
        response = a_response()
        response.body = body
        assert (type(response.read()), answered(response).body) == (bytes, b"xy")

    def test_decompressed(self) -> None:
        """All forms of a body are decompressed by its content-encoding; decode=False gives what came."""
        gateway = gzipped(b'{"a": "\xc3\xbc"}')
        response = a_response([("Content-Type", "application/json"), ("Content-Encoding", "gzip")], gateway=gateway)
        text = b'{"a": "\xc3\xbc"}'
        assert (response.read(), response.body, response.text(), response.json()) == (text, text, text.decode(), {"a": "ü"})
        assert response.read(decode=False) == gateway.answers[RespBody()]
        assert gateway.asked == [[RespBody()]]

    async def test_decompressed_in_a_coroutine(self) -> None:
        """The twins do the same."""
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
        """An unknown encoding raises for what is decoded, and the bytes can still be had."""
        response = a_response([("Content-Encoding", "snappy")], gateway=FakeGateway({RespBody(): b"xyz"}))
        for accessor in (response.read, response.text, response.json, response.form):
            with pytest.raises(BodyError, match=r"'snappy' is unknown.*read\(decode=False\)"):
                accessor()
        assert response.read(decode=False) == b"xyz"

    def test_headers_that_were_edited(self) -> None:
        """What came is decoded by the headers that came, whatever was done to them."""
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(b"text"))
        del response.headers["content-encoding"]
        assert response.read() == b"text"

    def test_bound(self) -> None:
        """What would become too long raises instead of filling the memory."""
        response = a_response([("Content-Encoding", "gzip")], gateway=gzipped(bytes(1001)), max_decompressed_bytes=1000)
        with pytest.raises(BodyError, match="longer than 1000 bytes"):
            response.read()

    def test_empty(self) -> None:
        """No body reads as b"", also where a header says that it is compressed."""
        response = a_response([("Content-Encoding", "gzip")])
        assert (response.read(), response.text(), response.read(decode=False)) == (b"", "", b"")

    def test_too_long_to_cross(self) -> None:
        """A body over the limit of a frame is not asked for: the gateway would fail the call."""
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
    """Sent where it changed."""

    def test_kept(self) -> None:
        """0 keeps the upstream's."""
        response = a_response(status=404)
        response.status = 404
        assert (response.status, answered(response).status) == (404, 0)

    def test_changed(self) -> None:
        """A new one is sent."""
        response = a_response(status=404)
        response.status = 200
        assert (response.status, answered(response).status) == (200, 200)

    @pytest.mark.parametrize(
        ("status", "error"), [(199, ValueError), (1000, ValueError), ("200", TypeError), (True, TypeError), (None, TypeError)]
    )
    def test_what_is_none(self, status: int, error: type[Exception]) -> None:
        """What can't be sent raises at the line that assigns it."""
        with pytest.raises(error):
            a_response().status = status


class TestReply:
    """A reply leaves nothing of the upstream's response."""

    def test_in_full(self) -> None:
        """Status, headers and body are the reply's alone."""
        reply = answered(a_response(CAME, call_id=4), Reply(403, json={"no": 1}, headers={"X-A": "1"}))
        expected = (4, 403, [("X-A", "1"), ("content-type", "application/json")], b'{"no":1}')
        assert (reply.id, reply.status, list(reply.headers), reply.body) == expected

    @pytest.mark.parametrize(("status", "body"), [(403, b"403 Forbidden\n"), (204, b"204 No Content\n"), (799, b"799 status\n")])
    def test_without_a_body(self, status: int, body: bytes) -> None:
        """An empty body would leak the original one, so the status phrase stands in."""
        reply = answered(a_response(CAME), Reply(status, headers={"content-type": "application/json", "content-encoding": "br", "x": "1"}))
        assert (reply.body, list(reply.headers)) == (body, [("x", "1"), ("content-type", "text/plain; charset=utf-8")])

    def test_without_headers(self) -> None:
        """Without any header the upstream's would be copied, so a content-type is added."""
        reply = answered(a_response(CAME), Reply(200, b"\0\1"))
        assert (list(reply.headers), reply.body) == ([("content-type", "application/octet-stream")], b"\0\1")

    def test_framing_is_dropped(self) -> None:
        """Headers of the connection are not sent here either."""
        reply = answered(a_response(CAME), Reply(200, "x", {"Content-Length": "7", "TE": "x", "a": "b"}))
        assert list(reply.headers) == [("a", "b"), ("content-type", "text/plain; charset=utf-8")]

    def test_edits_are_dropped(self) -> None:
        """Edits that were made before are not sent."""
        response = a_response(CAME)
        response.body = b"edited"
        response.headers["x"] = "1"
        assert (answered(response, Reply(200, "reply")).body, "x" in dict(answered(response, Reply()).headers)) == (b"reply", False)


def test_copy() -> None:
    """A twin has the edits so far and none of the later ones; answers and context are shared."""
    gateway = FakeGateway({RespBody(): b"body"})
    response = a_response(CAME, gateway=gateway)
    response.headers["x"] = "1"
    response.context["user"] = "jack"
    twin = response.copy()
    response.headers["x"] = "2"
    response.status = 500
    response.body = b"new"
    assert (twin.read(), twin.headers["x"], twin.status, twin.context["user"]) == (b"body", "1", 200, "jack")
    assert gateway.asked == [[RespBody()]]
    assert (response.copy().read(), response.copy().status) == (b"new", 500)


async def test_body_in_a_coroutine() -> None:
    """The plain accessors raise in a coroutine, naming the twin, until the body is there."""
    response = a_response(gateway=FakeGateway({RespBody(): b"x"}))
    with pytest.raises(WrongContext, match=r"response\.read\(\) has to wait.*`await response\.aread\(\)`"):
        response.read()
    with pytest.raises(WrongContext, match=r"`await response\.aread\(\)`"):
        _ = response.body
    assert await response.aread() == b"x"
    assert response.body == b"x"


async def test_asked_only_once() -> None:
    """Two tasks that want the body get the one answer: a second question would break the response."""
    gateway = FakeGateway({RespBody(): b"x"})
    response = a_response(gateway=gateway)
    first, second, text = await asyncio.gather(response.aread(), response.aread(), response.atext())
    assert (first, second, text) == (b"x", b"x", "x")
    assert gateway.asked == [[RespBody()]]


async def test_a_wait_that_is_broken_off() -> None:
    """A body whose question is on its way can't be asked for again: reading it raises and says so."""
    gateway = FakeGateway({RespBody(): b"x"})
    gateway.let_answer = asyncio.Event()
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
    """Assigning it raises and says why."""
    with pytest.raises(UnsupportedEdit, match=rf"response\.{name} can't be assigned: .{{20,}}"):
        setattr(a_response(), name, "x")


def test_what_came() -> None:
    """The rest of the attributes are what the gateway sent."""
    response = a_response(call_id=3, status=201)
    assert (response.id, response.status, response.phase, response.route_key, response.context) == (3, 201, Phase.POST_RESP, None, {})
    with pytest.raises(AttributeError):
        response.satus = 200  # type: ignore[attr-defined]
