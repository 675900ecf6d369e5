# SPDX-License-Identifier: Apache-2.0
"""A Reply holds what can be sent, or raises where it is made."""

from dataclasses import dataclass

import pytest
from multidict import CIMultiDict

from apisix.runner.http.headers import Headers
from apisix.runner.http.reply import Reply


def test_defaults() -> None:
    """Without arguments it is an empty 200."""
    reply = Reply()
    assert (200, b"", []) == (reply.status, reply.body, list(reply.headers.items()))


def test_it_can_be_raised() -> None:
    """It is an exception, so that it can end a chain from anywhere below a hook."""
    with pytest.raises(Reply, match="reply 401 with a body of 2 bytes") as caught:
        raise Reply(401, "no")
    assert 401 == caught.value.status
    assert "Reply(401, b'no', [('content-type', 'text/plain; charset=utf-8')])" == repr(caught.value)


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
    assert (expected, content_type) == (reply.body, reply.headers.get("content-type"))
    assert isinstance(reply.body, bytes)


def test_json() -> None:
    """JSON is encoded, of anything that msgspec knows, with its content-type."""

    @dataclass
    class Answer:
        error: str

    reply = Reply(400, json=Answer("ü"))
    assert (b'{"error":"\xc3\xbc"}', "application/json") == (reply.body, reply.headers["Content-Type"])
    assert b"[]" == Reply(json=[]).body
    with pytest.raises(TypeError, match="either a body or json"):
        Reply(200, "x", json={})


@pytest.mark.parametrize(
    "given", [{"Content-Type": "text/html"}, [("CONTENT-TYPE", "text/html")], CIMultiDict({"content-type": "text/html"})]
)
def test_own_content_type(given: dict[str, str]) -> None:
    """The author's content-type is left alone, in whatever spelling and container it comes."""
    for reply in (Reply(200, "x", given), Reply(200, json={}, headers=given)):
        assert ["text/html"] == reply.headers.getall("content-type")


def test_headers() -> None:
    """Repeats survive, and what was given is not held on to."""
    pairs = [("Set-Cookie", "a"), ("set-cookie", "b")]
    came = Headers()
    came.extend(pairs)
    for given in (pairs, iter(pairs), CIMultiDict(pairs), came):
        assert pairs == list(Reply(headers=given).headers.items())
    given = CIMultiDict({"a": "1"})
    reply = Reply(headers=given)
    given["a"] = "2"
    assert "1" == reply.headers["A"]


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
    assert (200, 999) == (Reply(200).status, Reply(999).status)


@pytest.mark.parametrize("body", [None, 5, {"a": 1}, ["x"]])
def test_body_of_another_type(body: bytes) -> None:
    """Data as a body raises, and the error names the way."""
    with pytest.raises(TypeError, match=r"must be bytes or str, got .*Reply\(json=\.\.\.\)"):
        Reply(200, body)
