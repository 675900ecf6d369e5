# SPDX-License-Identifier: Apache-2.0
"""
The charsets that a body can be decoded with: a fixed table.

The names are the labels of the WHATWG Encoding Standard, without those of its encodings that Python does not have (`replacement` and
`x-user-defined`), and with `latin-1`, Python's own spelling. The time that these codecs need is proportional to the length of the body.
That is not true of all of Python's codecs, and Python caches every name that is looked up.

A label selects the charset with that name, so iso-8859-1 is not windows-1252 as in a browser. Some charsets are decoded as a superset:
GB2312 and GBK as GB 18030, Big5 as Big5-HKSCS, and Shift_JIS and EUC-KR as the Windows variants.
"""

import codecs
from collections.abc import Iterator
from typing import Final

from apisix.runner.errors import BodyError

_SLICE_BYTES: Final = 64 * 2**10
"""A codec does not release the GIL, so a long body is decoded in slices. Other threads run in between."""

_LABELS: Final = {
    "utf_8": "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8",
    "utf_16": "utf-16 unicode csunicode ucs-2 iso-10646-ucs-2",
    "utf_16_le": "utf-16le unicodefeff",
    "utf_16_be": "utf-16be unicodefffe",
    "ascii": "ascii us-ascii ansi_x3.4-1968",
    "latin_1": "iso-8859-1 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 iso-ir-100 csisolatin1 latin1 latin-1 l1 cp819 ibm819",
    "iso8859_2": "iso-8859-2 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 iso-ir-101 csisolatin2 latin2 l2",
    "iso8859_3": "iso-8859-3 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 iso-ir-109 csisolatin3 latin3 l3",
    "iso8859_4": "iso-8859-4 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 iso-ir-110 csisolatin4 latin4 l4",
    "iso8859_5": "iso-8859-5 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988 iso-ir-144 csisolatincyrillic cyrillic",
    "iso8859_6": "iso-8859-6 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987 iso-ir-127 csisolatinarabic arabic asmo-708 ecma-114 "
    "iso-8859-6-e iso-8859-6-i csiso88596e csiso88596i",
    "iso8859_7": "iso-8859-7 iso8859-7 iso88597 iso_8859-7 iso_8859-7:1987 iso-ir-126 csisolatingreek greek greek8 ecma-118 elot_928 "
    "sun_eu_greek",
    "iso8859_8": "iso-8859-8 iso8859-8 iso88598 iso_8859-8 iso_8859-8:1988 iso-ir-138 csisolatinhebrew hebrew visual iso-8859-8-e "
    "csiso88598e iso-8859-8-i csiso88598i logical",
    "iso8859_9": "iso-8859-9 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 iso-ir-148 csisolatin5 latin5 l5",
    "iso8859_10": "iso-8859-10 iso8859-10 iso885910 iso-ir-157 csisolatin6 latin6 l6",
    "iso8859_11": "iso-8859-11 iso8859-11 iso885911 tis-620",
    "iso8859_13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859_14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859_15": "iso-8859-15 iso8859-15 iso885915 iso_8859-15 csisolatin9 l9",
    "iso8859_16": "iso-8859-16",
    "cp866": "ibm866 866 cp866 csibm866",
    "cp874": "windows-874 dos-874",
    "cp1250": "windows-1250 cp1250 x-cp1250",
    "cp1251": "windows-1251 cp1251 x-cp1251",
    "cp1252": "windows-1252 cp1252 x-cp1252",
    "cp1253": "windows-1253 cp1253 x-cp1253",
    "cp1254": "windows-1254 cp1254 x-cp1254",
    "cp1255": "windows-1255 cp1255 x-cp1255",
    "cp1256": "windows-1256 cp1256 x-cp1256",
    "cp1257": "windows-1257 cp1257 x-cp1257",
    "cp1258": "windows-1258 cp1258 x-cp1258",
    "koi8_r": "koi8-r koi8_r koi8 koi cskoi8r",
    "koi8_u": "koi8-u koi8-ru",
    "mac_roman": "macintosh mac x-mac-roman csmacintosh",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "gb18030": "gb18030 gbk x-gbk gb2312 gb_2312 gb_2312-80 chinese csgb2312 csiso58gb231280 iso-ir-58",
    "big5hkscs": "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    "euc_jp": "euc-jp x-euc-jp cseucpkdfmtjapanese",
    "iso2022_jp": "iso-2022-jp csiso2022jp",
    "cp932": "shift_jis shift-jis sjis x-sjis csshiftjis ms932 ms_kanji windows-31j",
    "cp949": "euc-kr cseuckr windows-949 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 csksc56011987 iso-ir-149",
}

CODECS: Final = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}
"""The names of Python's codecs, by label in lower case."""


def decoded(body: bytes, charset: str) -> str:
    """
    Return a body as text.

    Args:
        charset: a label of the table, in any case.
    Raises:
        BodyError: the label is not in the table, or the body is not valid in that charset.
    """
    codec = CODECS.get(charset.lower())
    if codec is None:
        raise BodyError(f"the body's charset {charset[:40]!r} is unknown: read() returns its bytes")
    if codec == "utf_16" and body[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        codec = "utf_16_le"
    if len(body) <= _SLICE_BYTES:
        try:
            return body.decode(codec)
        except UnicodeError as error:
            raise _no_text(charset, error, len(body)) from None
    return "".join(_pieces(body, charset, codec))


def _pieces(body: bytes, charset: str, codec: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(codec)()
    for start in range(0, len(body), _SLICE_BYTES):
        end = start + _SLICE_BYTES
        try:
            yield decoder.decode(body[start:end], end >= len(body))
        except UnicodeError as error:
            raise _no_text(charset, error, min(end, len(body))) from None


def _no_text(charset: str, error: UnicodeError, end: int) -> BodyError:
    # `object` begins with bytes of an earlier slice that the decoder has kept. Only UnicodeDecodeError has a position.
    at = f", at byte {end - len(error.object) + error.start}" if isinstance(error, UnicodeDecodeError) else ""
    return BodyError(f"the body is not valid {charset} text{at}: read() returns its bytes")
