# SPDX-License-Identifier: Apache-2.0
"""A Reply holds what can be sent, or raises where it is made."""

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
    """Without arguments it is an empty 200."""
    reply = Reply()
    assert (reply.status, reply.body, list(reply.headers.items())) == (200, b"", [])


def test_it_can_be_raised() -> None:
    """It is an exception, so that it can end a chain from anywhere below a hook."""
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
    """Bytes are kept, text becomes UTF-8 (or the bytes that it came from) and says so."""
    reply = Reply(200, body)
    assert (reply.body, reply.headers.get("content-type")) == (expected, content_type)
    assert isinstance(reply.body, bytes)


def test_json() -> None:
    """JSON is encoded, of anything that msgspec knows, with its content-type."""

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
    """The author's content-type is left alone, in whatever spelling and container it comes."""
    for reply in (Reply(200, "x", given), Reply(200, json={}, headers=given)):
        assert reply.headers.getall("content-type") == ["text/html"]


def test_headers() -> None:
    """Repeats survive, and what was given is not held on to."""
    pairs = [("Set-Cookie", "a"), ("set-cookie", "b")]
    came = Headers()
    came.extend(pairs)
    for given in (pairs, iter(pairs), CIMultiDict(pairs), came):
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
    """A header that would become another, or is no text, raises where the reply is made."""
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
    """A status that can't be sent raises, and the error says what came."""
    with pytest.raises(error, match=what):
        Reply(status)
    assert (Reply(200).status, Reply(999).status) == (200, 999)


@pytest.mark.parametrize("body", [None, 5, {"a": 1}, ["x"]])
def test_body_of_another_type(body: bytes) -> None:
    """Data as a body raises, and the error names the way."""
    with pytest.raises(TypeError, match=r"must be bytes or str, got .*Reply\(json=\.\.\.\)"):
        Reply(200, body)


class TestAssigning:
    """What is assigned later is checked and converted as in the constructor."""

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
        """Text becomes UTF-8 and says so, any kind of bytes becomes bytes."""
        reply = Reply(500, b"before")
        reply.body = body
        for message in (stop_message(1, reply), stop_message(1, Reply(500, body))):
            action = HTTPReqCallResp.decode(message.encode()).action
            assert isinstance(action, Stop)
            assert (action.body, dict(action.headers).get("content-type")) == (expected, content_type)
        assert type(reply.body) is bytes

    def test_text_beside_a_content_type(self) -> None:
        """A content-type that is there stays."""
        reply = Reply(headers={"Content-Type": "text/html"})
        reply.body = "<p>"
        assert reply.headers.getall("content-type") == ["text/html"]

    @pytest.mark.parametrize(
        ("status", "error"), [("404", TypeError), (None, TypeError), (404.0, TypeError), (True, TypeError), (99, ValueError)]
    )
    def test_status(self, status: int, error: type[Exception]) -> None:
        """A status that can't be sent raises, and the one before stays."""
        reply = Reply(401)
        with pytest.raises(error, match="a status must be"):
            reply.status = status
        assert reply.status == 401
        reply.status = HTTPStatus.NOT_FOUND
        assert (type(reply.status), reply.status) == (int, 404)

    @pytest.mark.parametrize("body", [None, 5, {"a": 1}, ["x"]])
    def test_body_of_another_type(self, body: bytes) -> None:
        """Data as a body raises, and the body before stays."""
        reply = Reply(200, "x")
        with pytest.raises(TypeError, match="must be bytes or str"):
            reply.body = body
        assert reply.body == b"x"

    def test_without_the_constructor(self) -> None:
        """A reply whose constructor did not run can't be sent: it raises, and is not half of a message."""
        with pytest.raises((AttributeError, TypeError)):
            stop_message(1, Reply.__new__(Reply)).encode()


class TestSending:
    """What becomes of a reply's headers."""

    @pytest.mark.parametrize("name", ["content-length", "Transfer-Encoding", "Connection", "keep-alive", "TE", "upgrade"])
    def test_framing_is_dropped(self, name: str) -> None:
        """Framing is the gateway's: in any spelling it is shown, and not sent."""
        reply = Reply(headers={"a": "1", name: "x"})
        assert reply.sendable() == [("a", "1")]
        assert reply.headers[name] == "x"
        assert reply.sendable() == [("a", "1")]

    def test_edited_until_it_is_sent(self) -> None:
        """What is done to `headers`, or assigned, is what is sent."""
        reply = Reply(200, "x", {"a": "1"})
        reply.headers["A"] = "2"
        reply.headers.add("upgrade", "x")
        assert list(stop_message(1, reply).action.headers) == [("A", "2"), ("content-type", "text/plain; charset=utf-8")]  # type: ignore[union-attr]
        reply.headers = CIMultiDict({"b": "3"})
        assert reply.sendable() == [("b", "3")]

    def test_edits_are_checked(self) -> None:
        """What is put into the headers later is checked at the line that does it, as in the constructor."""
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

    def test_sending_leaves_the_reply_alone(self) -> None:
        """A reply that is kept and returned again is sent as before."""
        reply = Reply(200, b"x", {"a": "1"})
        for _ in range(2):
            assert list(replacement_message(1, reply).headers) == [("a", "1"), ("content-type", "application/octet-stream")]
        assert list(reply.headers.items()) == [("a", "1")]

    @pytest.mark.parametrize("name", ["x" * 80, "CONTENT-type", "~", "X_Y"])
    def test_unusual_names(self, name: str) -> None:
        """Long names and unusual ones go on, once and again, and their values are looked at each time."""
        for _ in range(2):
            assert Reply(headers=[(name, "\xff")]).sendable() == [(name, "\xff")]
            with pytest.raises(ValueError, match="control characters"):
                Reply(headers={name: "\x7f"})

    @pytest.mark.parametrize("name", ["caf\xe9", "te\xdf", "a b"])
    def test_names_that_are_none(self, name: str) -> None:
        """What is no name is refused, once and again."""
        for _ in range(2):
            with pytest.raises(ValueError, match="can't be the name"):
                Reply(headers=[(name, "1")])


def test_subclasses() -> None:
    """Authors derive from it, with an `__init__` of their own, and edit what it made."""

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
    """Pairs may be of any kind; what is none raises where the reply is made."""
    assert Reply(headers=[["a", "1"]]).sendable() == [("a", "1")]  # type: ignore[list-item]
    assert Reply(headers=(("a", "1"),)).sendable() == [("a", "1")]
    assert Reply(headers=()).sendable() == []
    for wrong in (5, [5], [("a",)], [("a", "1", "2")], [(["a"], "1")]):
        with pytest.raises((TypeError, ValueError)):
            Reply(headers=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "headers"), [(b"", {}), (b"", {"content-type": "x", "content-encoding": "gzip", "a": "1"})])
def test_replacing_a_response_without_a_body(body: bytes, headers: dict[str, str]) -> None:
    """The phrase of the status stands in, as text: an empty body would bring the upstream's back."""
    message = replacement_message(3, Reply(404, body, headers))
    assert (message.id, message.status, message.body) == (3, 404, b"404 Not Found\n")
    assert dict(message.headers)["content-type"] == "text/plain; charset=utf-8"
    assert "content-encoding" not in dict(message.headers)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 16, 19])
def test_every_character_at_every_place(size: int) -> None:
    """What may stand in a header does not depend on where it stands, though eight characters are looked at together."""
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
