# SPDX-License-Identifier: Apache-2.0
"""Tests of Reply: it can be sent, or its constructor raises an error."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import pytest
from multidict import CIMultiDict

from apisix.runner.http.header_rules import check_header
from apisix.runner.http.headers import Headers
from apisix.runner.http.reply import Reply, replacement_message, stop_message
from apisix.runner.wire.messages import HTTPReqCallResp, Stop


def test_defaults() -> None:
    """A reply without arguments has the status 200 and an empty body."""
    reply = Reply()
    assert (reply.status, reply.body, list(reply.headers.items())) == (200, b"", [])


def test_it_can_be_raised() -> None:
    """A reply is an exception, so that a function that a hook calls can end the chain."""
    with pytest.raises(Reply, match="reply 401 with a body of 2 bytes") as caught:
        raise Reply(401, "no")
    assert caught.value.status == 401
    assert repr(caught.value) == "Reply(401, b'no', [('content-type', 'text/plain; charset=utf-8')])"


@pytest.mark.parametrize(
    ("body", "expected", "content_type"),
    [
        ("ü", b"\xc3\xbc", "text/plain; charset=utf-8"),
        ("\udcff", b"\xff", "text/plain; charset=utf-8"),
        ("", b"", None),
        (b"\xff", b"\xff", None),
        (bytearray(b"x"), b"x", None),
        (memoryview(b"x"), b"x", None),
    ],
)
def test_body(body: bytes | str, expected: bytes, content_type: str | None) -> None:
    """Bytes are kept. Text is encoded as UTF-8, and sets the content-type. Surrogates become the bytes that they represent."""
    reply = Reply(200, body)
    assert (reply.body, reply.headers.get("content-type")) == (expected, content_type)
    assert isinstance(reply.body, bytes)


def test_json() -> None:
    """JSON is encoded by msgspec, and sets the content-type."""

    @dataclass
    class Answer:
        error: str

    reply = Reply(400, json=Answer("ü"))
    assert (reply.body, reply.headers["Content-Type"]) == (b'{"error":"\xc3\xbc"}', "application/json")
    assert Reply(json=[]).body == b"[]"
    with pytest.raises(TypeError, match="either a body or json"):
        Reply(200, "x", json={})


@pytest.mark.parametrize(
    "given", [{"Content-Type": "text/html"}, [("CONTENT-TYPE", "text/html")], CIMultiDict({"content-type": "text/html"})]
)
def test_own_content_type(given: dict[str, str]) -> None:
    """A content-type that the plugin sets is kept, whatever its case and the kind of mapping."""
    for reply in (Reply(200, "x", given), Reply(200, json={}, headers=given)):
        assert reply.headers.getall("content-type") == ["text/html"]


def test_headers() -> None:
    """Repeated names are kept, and later edits of the argument do not change the reply."""
    pairs = [("Set-Cookie", "a"), ("set-cookie", "b")]
    received = Headers()
    received.extend(pairs)
    for given in (pairs, iter(pairs), CIMultiDict(pairs), received):
        assert list(Reply(headers=given).headers.items()) == pairs
    given = CIMultiDict({"a": "1"})
    reply = Reply(headers=given)
    given["a"] = "2"
    assert reply.headers["A"] == "1"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"a": "b\r\nc: d"}, ValueError),
        ({"a\n": "b"}, ValueError),
        ({"": "b"}, ValueError),
        ({"a": 1}, TypeError),
        ({"a": None}, TypeError),
    ],
)
def test_headers_that_cannot_be_sent(headers: dict[str, str], error: type[Exception]) -> None:
    """A header that can't be sent raises an error in the constructor."""
    with pytest.raises(error):
        Reply(headers=headers)


@pytest.mark.parametrize(
    ("status", "error", "what"),
    [
        (199, ValueError, "between 200 and 999, got 199"),
        (1000, ValueError, "between 200 and 999"),
        (0, ValueError, "between"),
        ("200", TypeError, "must be an int, got str"),
        (True, TypeError, "got bool"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_status(status: int, error: type[Exception], what: str) -> None:
    """A status that can't be sent raises an error, which contains it or its type."""
    with pytest.raises(error, match=what):
        Reply(status)
    assert (Reply(200).status, Reply(999).status) == (200, 999)


@pytest.mark.parametrize("body", [None, 5, {"a": 1}, ["x"]])
def test_body_of_another_type(body: bytes) -> None:
    """A body of another type raises TypeError, which names `Reply(json=...)`."""
    with pytest.raises(TypeError, match=r"must be bytes or str, got .*Reply\(json=\.\.\.\)"):
        Reply(200, body)


class TestAssigning:
    """Assigned values are checked and converted as in the constructor."""

    @pytest.mark.parametrize(
        ("body", "expected", "content_type"),
        [
            ("\xfc", b"\xc3\xbc", "text/plain; charset=utf-8"),
            ("", b"", None),
            (b"x", b"x", None),
            (bytearray(b"x"), b"x", None),
            (memoryview(b"xyz")[::2], b"xz", None),
            (type("Bytes", (bytes,), {"__len__": lambda self: 99})(b"x"), b"x", None),
        ],
    )
    def test_body(self, body: bytes | str, expected: bytes, content_type: str | None) -> None:
        """Text is encoded as UTF-8 and sets the content-type. Any kind of bytes becomes bytes."""
        reply = Reply(500, b"before")
        reply.body = body
        for message in (stop_message(1, reply), stop_message(1, Reply(500, body))):
            action = HTTPReqCallResp.decode(message.encode()).action
            assert isinstance(action, Stop)
            assert (action.body, dict(action.headers).get("content-type")) == (expected, content_type)
        assert type(reply.body) is bytes

    def test_text_beside_a_content_type(self) -> None:
        """A present content-type is not replaced."""
        reply = Reply(headers={"Content-Type": "text/html"})
        reply.body = "<p>"
        assert reply.headers.getall("content-type") == ["text/html"]

    @pytest.mark.parametrize(
        ("status", "error"), [("404", TypeError), (None, TypeError), (404.0, TypeError), (True, TypeError), (99, ValueError)]
    )
    def test_status(self, status: int, error: type[Exception]) -> None:
        """A status that can't be sent raises an error, and the status does not change."""
        reply = Reply(401)
        with pytest.raises(error, match="a status must be"):
            reply.status = status
        assert reply.status == 401
        reply.status = HTTPStatus.NOT_FOUND
        assert (type(reply.status), reply.status) == (int, 404)

    @pytest.mark.parametrize("body", [None, 5, {"a": 1}, ["x"]])
    def test_body_of_another_type(self, body: bytes) -> None:
        """A body of another type raises TypeError, and the body does not change."""
        reply = Reply(200, "x")
        with pytest.raises(TypeError, match="must be bytes or str"):
            reply.body = body
        assert reply.body == b"x"

    def test_without_the_constructor(self) -> None:
        """A reply whose constructor did not run can't be sent."""
        with pytest.raises((AttributeError, TypeError)):
            stop_message(1, Reply.__new__(Reply)).encode()


class TestSending:
    """The headers that are sent for a reply."""

    @pytest.mark.parametrize("name", ["content-length", "Transfer-Encoding", "Connection", "keep-alive", "TE", "upgrade"])
    def test_framing_is_dropped(self, name: str) -> None:
        """A framing header is shown in `headers`, but not sent, in any case."""
        reply = Reply(headers={"a": "1", name: "x"})
        assert reply.sendable() == [("a", "1")]
        assert reply.headers[name] == "x"
        assert reply.sendable() == [("a", "1")]

    def test_edits_are_sent(self) -> None:
        """Edits of `headers`, and assigned headers, are sent."""
        reply = Reply(200, "x", {"a": "1"})
        reply.headers["A"] = "2"
        reply.headers.add("upgrade", "x")
        assert list(stop_message(1, reply).action.headers) == [("A", "2"), ("content-type", "text/plain; charset=utf-8")]  # type: ignore[union-attr]
        reply.headers = CIMultiDict({"b": "3"})
        assert reply.sendable() == [("b", "3")]

    def test_edits_are_checked(self) -> None:
        """Edits of the headers are checked at once, as in the constructor."""
        reply = Reply(headers={"a": "1"})
        edits: list[tuple[type[Exception], Callable[[], object]]] = [
            (ValueError, lambda: reply.headers.add("x", "a\nb: c")),
            (ValueError, lambda: setattr(reply, "headers", {"x": "a\nb: c"})),
            (TypeError, lambda: setattr(reply, "headers", {"x": 1})),
            (TypeError, lambda: setattr(reply, "headers", None)),
            (TypeError, lambda: setattr(reply, "headers", 5)),
        ]
        for error, edit in edits:
            with pytest.raises(error):
                edit()
        assert list(reply.headers.items()) == [("a", "1")]

    def test_sending_does_not_change_the_reply(self) -> None:
        """A reply can be sent several times."""
        reply = Reply(200, b"x", {"a": "1"})
        for _ in range(2):
            assert list(replacement_message(1, reply).headers) == [("a", "1"), ("content-type", "application/octet-stream")]
        assert list(reply.headers.items()) == [("a", "1")]

    @pytest.mark.parametrize("name", ["x" * 80, "CONTENT-type", "~", "X_Y"])
    def test_unusual_names(self, name: str) -> None:
        """Long and unusual names are accepted, and their values are checked each time."""
        for _ in range(2):
            assert Reply(headers=[(name, "\xff")]).sendable() == [(name, "\xff")]
            with pytest.raises(ValueError, match="control characters"):
                Reply(headers={name: "\x7f"})

    @pytest.mark.parametrize("name", ["caf\xe9", "te\xdf", "a b"])
    def test_invalid_names(self, name: str) -> None:
        """An invalid name is refused each time."""
        for _ in range(2):
            with pytest.raises(ValueError, match="can't be the name"):
                Reply(headers=[(name, "1")])


def test_subclasses() -> None:
    """A subclass can have its own `__init__`, which edits the reply."""

    class Forbidden(Reply):
        def __init__(self, why: str) -> None:
            super().__init__(403, json={"why": why})
            self.why = why
            self.headers["x-why"] = why

    with pytest.raises(Reply) as caught:
        raise Forbidden("tired")
    assert caught.value.sendable() == [("content-type", "application/json"), ("x-why", "tired")]
    assert (caught.value.status, caught.value.body) == (403, b'{"why":"tired"}')


def test_headers_of_other_shapes() -> None:
    """Pairs may be lists or tuples. Anything else raises an error in the constructor."""
    assert Reply(headers=[["a", "1"]]).sendable() == [("a", "1")]  # type: ignore[list-item]
    assert Reply(headers=(("a", "1"),)).sendable() == [("a", "1")]
    assert Reply(headers=()).sendable() == []
    for wrong in (5, [5], [("a",)], [("a", "1", "2")], [(["a"], "1")]):
        with pytest.raises((TypeError, ValueError)):
            Reply(headers=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "headers"), [(b"", {}), (b"", {"content-type": "x", "content-encoding": "gzip", "a": "1"})])
def test_replacing_a_response_without_a_body(body: bytes, headers: dict[str, str]) -> None:
    """An empty body is replaced by the phrase of the status, since the gateway would send the upstream's body."""
    message = replacement_message(3, Reply(404, body, headers))
    assert (message.id, message.status, message.body) == (3, 404, b"404 Not Found\n")
    assert dict(message.headers)["content-type"] == "text/plain; charset=utf-8"
    assert "content-encoding" not in dict(message.headers)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 19])
def test_every_character_at_every_position(size: int) -> None:
    """A character is accepted or refused at any position. The implementation compares eight characters together."""
    for code in [*range(161), 0x20AC, 0xD7FF, 0xD800, 0xDC7F, 0xDC80, 0xDCFF, 0xDD00, 0x1F600]:
        for place in range(size):
            text = "a" * place + chr(code) + "~ " * ((size - place) // 2)
            for name, value in (("x-a", text), (text, "1")):
                try:
                    check_header(name, value)
                except ValueError:
                    with pytest.raises(ValueError, match=r"control characters|can't be (sent|the name)"):
                        Reply(headers={name: value})
                else:
                    assert Reply(headers={name: value}).sendable() == [(name, value)]
