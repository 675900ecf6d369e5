# SPDX-License-Identifier: Apache-2.0
"""Tests of text, JSON and forms: a body is parsed, or BodyError is raised."""

import json
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import pytest

from apisix.runner.errors import BodyError
from apisix.runner.http.body.parsing import (
    IN_COROUTINE_BYTES,
    MAX_FORM_FIELDS,
    MAX_JSON_VALUES,
    MAX_TEXT_BYTES,
    body_files,
    body_form,
    body_json,
    body_text,
)

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
    """The charset is that of the content-type. The default is UTF-8."""
    assert body_text(body, content_type) == text


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (b"ab\xff", "", "not valid utf-8 text, at byte 2"),
        (b"x", "text/plain; charset=klingon", "'klingon' is unknown"),
        (b"x", "text/plain; charset=hex", "'hex' is unknown"),
        (b"x", "text/plain; charset=undefined", "'undefined' is unknown"),
        (b"x", "text/plain; charset=a\0b", "is unknown"),
    ],
)
def test_no_text(body: bytes, content_type: str, why: str) -> None:
    """Bytes that are invalid in the charset raise an error, and so do Python's codecs that are not charsets."""
    with pytest.raises(BodyError, match=why):
        body_text(body, content_type)


def test_json() -> None:
    """JSON is parsed. It may begin with a byte order mark."""
    assert body_json(b'{"a": [1, null]}', "") == {"a": [1, None]}
    assert body_json(b'\xef\xbb\xbf{"a": 1}', "") == {"a": 1}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "not JSON"),
        (b"\xff\xff\xff", "not valid utf-8 text"),
        (b"", "the body is empty"),
        (b"[" * 200_000, "not JSON|too deeply"),
    ],
)
def test_no_json(body: bytes, why: str) -> None:
    """A body that is not JSON, or is nested too deeply, raises an error, which is also a ValueError."""
    with pytest.raises(BodyError, match=why) as caught:
        body_json(body, "")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("charset", ["utf-16", "utf-16le", "utf-16be", "iso-8859-1"])
def test_json_in_another_charset(charset: str) -> None:
    """JSON is decoded with the charset of the content-type, as with text()."""
    assert body_json('["ü"]'.encode(charset), f"application/json; charset={charset}") == ["ü"]


def test_long_json() -> None:
    """Long JSON, for which other functions parse the numbers, has the same values."""
    value = {"a": ["x" * IN_COROUTINE_BYTES, -1, 2.5, 10**30, True, None, float("inf")]}
    assert body_json(json.dumps(value).encode(), "") == value


@pytest.mark.parametrize("unit", ["[],", "{},", '"a",', "1,"])
def test_json_of_too_many_values(unit: str) -> None:
    """The number of values is limited, since the parser blocks all other calls."""
    most = "[" + unit * (MAX_JSON_VALUES // 2 - 1) + "0]"
    assert len(body_json(most.encode(), "")) == MAX_JSON_VALUES // 2
    with pytest.raises(BodyError, match=f"json\\(\\) accepts at most {MAX_JSON_VALUES}"):
        body_json(("[" + unit * MAX_JSON_VALUES + "0]").encode(), "")


def test_json_of_too_many_escapes() -> None:
    """Escaped characters count too."""
    with pytest.raises(BodyError, match="values"):
        body_json(b'"' + b"\\n" * (10 * MAX_JSON_VALUES + 10) + b'"', "")


@pytest.mark.parametrize(("convert", "accessor"), [(body_text, "text"), (body_json, "json"), (body_form, "form"), (body_files, "files")])
def test_too_long_to_be_converted(convert: Callable[[bytes, str], object], accessor: str) -> None:
    """A decompressed body that is longer than a frame is not converted."""
    with pytest.raises(BodyError, match=rf"{accessor}\(\) accepts at most {MAX_TEXT_BYTES}"):
        convert(bytes(MAX_TEXT_BYTES + 1), "")


def test_long_form() -> None:
    """A long value, which is decoded in slices, is decoded correctly at any position of its escapes."""
    for shift in range(4):
        value = b"x" * shift + "ü +".encode() * 40_000
        assert body_form(b"a=" + quote_from_bytes(value).encode(), FORM)["a"] == value.decode()
    assert body_form(b"a=%4a%4A%fF%", FORM)["a"] == "JJ\udcff%"
    assert body_form(b"a=%" + b"%zz%" * 50_000 + b"%4", FORM)["a"] == "%" + "%zz%" * 50_000 + "%4"


def test_form() -> None:
    """A form may have repeated names, empty values, and any bytes."""
    fields = body_form(b"a=1&a=2&e=&flag&b=%FF+x", f"{FORM}; charset=utf-8")
    assert list(fields.items()) == [("a", "1"), ("a", "2"), ("e", ""), ("flag", ""), ("b", "\udcff x")]
    assert list(body_form(b"", "multipart/form-data").items()) == []


def test_no_form() -> None:
    """Another content-type, or too many fields, raise an error."""
    with pytest.raises(BodyError, match="the body is text/csv"):
        body_form(b"x", "text/csv")
    assert len(body_form(b"&".join([b"a=1"] * MAX_FORM_FIELDS), FORM)) == MAX_FORM_FIELDS
    with pytest.raises(BodyError, match="more than 10000 fields"):
        body_form(b"&".join([b"a=1"] * (MAX_FORM_FIELDS + 1)), FORM)
