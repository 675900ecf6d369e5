# SPDX-License-Identifier: Apache-2.0
"""The forms of a body, and the one error where it has not that form."""

import pytest

from apisix.runner.errors import BodyError
from apisix.runner.http.bodies import MAX_FORM_FIELDS, body_form, body_json, body_text

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"\xc3\xbc", "", "ü"),
        (b"\xc3\xbc", "text/plain", "ü"),
        (b"\xfc", "text/plain; charset=ISO-8859-1", "ü"),
        (b"\xfc", 'text/plain; a=b; Charset = "latin1"', "ü"),
        (b"x", "text/plain; charset=", "x"),
        (b"", "text/plain; charset=utf-8", ""),
    ],
)
def test_text(body: bytes, content_type: str, text: str) -> None:
    """The charset is the content-type's, UTF-8 by default."""
    assert text == body_text(body, content_type)


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (b"ab\xff", "", "no utf-8 text, at byte 2"),
        (b"x", "text/plain; charset=klingon", "'klingon' is unknown"),
        (b"x", "text/plain; charset=hex", "'hex' is unknown"),
        (b"x", "text/plain; charset=undefined", "'undefined' is unknown"),
        (b"x", "text/plain; charset=a\0b", "is unknown"),
    ],
)
def test_no_text(body: bytes, content_type: str, why: str) -> None:
    """Bytes that are no text raise, rather than being replaced and lost; so do Python's codecs that are no charset."""
    with pytest.raises(BodyError, match=why):
        body_text(body, content_type)


def test_json() -> None:
    """JSON is parsed, also with a byte order mark."""
    assert {"a": [1, None]} == body_json(b'{"a": [1, null]}')
    assert {"a": 1} == body_json(b'\xef\xbb\xbf{"a": 1}')


@pytest.mark.parametrize(
    ("body", "why"), [(b"{", "no JSON"), (b"\xff\xff\xff", "no JSON"), (b"", "there is no body"), (b"[" * 200_000, "no JSON|too deeply")]
)
def test_no_json(body: bytes, why: str) -> None:
    """What is none raises, also what nests without end, and the error is a ValueError too."""
    with pytest.raises(BodyError, match=why) as caught:
        body_json(body)
    assert isinstance(caught.value, ValueError)


def test_form() -> None:
    """Repeats, empty values and any bytes survive."""
    fields = body_form(b"a=1&a=2&e=&flag&b=%FF+x", f"{FORM}; charset=utf-8")
    assert [("a", "1"), ("a", "2"), ("e", ""), ("flag", ""), ("b", "\udcff x")] == list(fields.items())
    assert [] == list(body_form(b"", "multipart/form-data").items())


def test_no_form() -> None:
    """Another content-type raises, as does a flood of fields."""
    with pytest.raises(BodyError, match="the body is multipart/form-data"):
        body_form(b"x", "multipart/form-data; boundary=x")
    assert MAX_FORM_FIELDS == len(body_form(b"&".join([b"a=1"] * MAX_FORM_FIELDS), FORM))
    with pytest.raises(BodyError, match="more than 10000 fields"):
        body_form(b"&".join([b"a=1"] * (MAX_FORM_FIELDS + 1)), FORM)
