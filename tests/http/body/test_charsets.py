# SPDX-License-Identifier: Apache-2.0
"""Tests of the table of charsets, and of decoding a body in slices."""

import codecs
import encodings
from typing import Any, cast

import pytest

from apisix.runner.errors import BodyError
from apisix.runner.http.body.charsets import CODECS, decoded

NOT_LINEAR_OR_NO_CHARSET = {"punycode", "idna", "utf_7", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
LONG = {
    "utf_16": "aü漢\U0001f600",
    "utf_16_le": "aü漢\U0001f600",
    "utf_16_be": "aü漢\U0001f600",
    "utf_8": "aü漢\U0001f600",
    "gb18030": "aü漢\U0001f600",
    "big5hkscs": "a字\u00ca\u0304漢",
    "euc_jp": "a字あ",
    "iso2022_jp": "a字あ",
    "cp932": "a字あｱ",
    "cp949": "a한",
}


@pytest.mark.parametrize("codec", sorted(set(CODECS.values())))
def test_slices(codec: str) -> None:
    """A long body, which is decoded in slices, has the same text as with Python's decoder, wherever a character is split."""
    label = next(label for label, name in CODECS.items() if name == codec)
    for shift in range(4):
        text = "a" * shift + (LONG.get(codec) or "ab") * 30_000
        assert decoded(text.encode(codec), label) == text


def test_labels() -> None:
    """Each label is in lower case, and its codec is for text and needs linear time."""
    assert [label for label in CODECS if label != label.lower()] == []
    assert set(CODECS.values()) & NOT_LINEAR_OR_NO_CHARSET == set()
    assert [codec for codec in set(CODECS.values()) if not cast("Any", codecs.lookup(codec))._is_text_encoding] == []


@pytest.mark.parametrize(
    "charset", ["punycode", "utf-7", "idna", "hex", "utf-32", "x-user-defined", "replacement", "", "a\0b", "klingon" * 9]
)
def test_what_is_not_in_the_table(charset: str) -> None:
    """A charset that is not in the table raises an error. Its name is not looked up by Python, which would cache it."""
    known = len(cast("Any", encodings)._cache)
    with pytest.raises(BodyError, match=r"charset .* is unknown"):
        decoded(b"x", charset)
    assert len(cast("Any", encodings)._cache) == known


def test_byte_order_mark() -> None:
    """`utf-16` without a mark is little-endian, on every machine."""
    assert [decoded(body, "UTF-16") for body in (b"\xff\xfea\0", b"\xfe\xff\0a", b"a\0")] == ["a", "a", "a"]


@pytest.mark.parametrize(
    ("charset", "start", "broken"),
    [
        ("utf-8", b"a", b"\xff"),
        ("utf-8", b"\xc3\xbc", b"\xff"),
        ("ascii", b"a", b"\xff"),
        ("gbk", b"\x81\x30\x81\x30", b"\xff\xff"),
        ("euc-jp", b"\xa4\xa2", b"\xff\xff"),
    ],
)
@pytest.mark.parametrize("length", [0, 65_535, 65_536, 131_072, 150_000])
def test_position_of_invalid_text(charset: str, start: bytes, broken: bytes, length: int) -> None:
    """The error has the position of the invalid byte in the body."""
    whole = start * (length // len(start))
    with pytest.raises(BodyError, match=f"not valid {charset} text, at byte {len(whole)}:"):
        decoded(whole + broken + b"a" * 100, charset)


def test_truncated_text() -> None:
    """An incomplete character at the end is an error, in a long body and in a short one."""
    for length in (0, 200_000):
        with pytest.raises(BodyError, match=f"not valid utf-8 text, at byte {length}:"):
            decoded(b"a" * length + b"\xc3", "utf-8")
