# SPDX-License-Identifier: Apache-2.0
"""The forms in which a secret can occur in a text: as it is, and with the escapes of URLs, JSON, XML and base64."""

import re
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from html import escape
from typing import Final
from urllib.parse import quote, quote_plus

import msgspec

from apisix.runner.records.format import printable

_UNQUOTED: Final = re.compile(r"[A-Za-z0-9_.~-]*")
"""Matches a text that is the same in JSON, in a path and in a query."""


def forms(value: str) -> tuple[str, ...]:
    """Return the forms in which a value can occur: as it is, in JSON, in a path, in a query, in XML, and in base64."""
    if _UNQUOTED.fullmatch(value):
        return value, *_in_base64(value)
    quoted = quote(value, safe="", errors="surrogateescape"), quote_plus(value, errors="surrogateescape")
    escaped = msgspec.json.encode(value.encode("utf-8", "replace").decode()).decode()[1:-1]
    found = [value, printable(value), escaped, escaped.replace("/", "\\/"), escape(value), escape(value, quote=False), *quoted]
    found += [re.sub("%..", lambda match: match[0].lower(), form) for form in quoted]
    return tuple(dict.fromkeys([*found, *map(quote, quoted), *_in_base64(value)]))


def _in_base64(value: str) -> Iterable[str]:
    """Return what is always in the base64 of a text that contains a value, which can begin at three places in a group of bytes."""
    data = value.encode("utf-8", "surrogateescape")
    for before in range(3):
        encoded = b64encode(bytes(before) + data)[-(-8 * before // 6) : 8 * (before + len(data)) // 6].decode()
        yield encoded
        if "+" in encoded or "/" in encoded:
            yield encoded.translate({ord("+"): "-", ord("/"): "_"})


@lru_cache(4096)
def in_text(value: str) -> tuple[bytes, ...]:
    """Return the forms in a body in UTF-8, or in a binary one."""
    return tuple(form.encode("utf-8", "surrogateescape") for form in forms(value))


def in_utf_16(value: str, codec: str) -> list[bytes]:
    """Return the forms in a body in UTF-16. Args: codec: "utf-16-le" or "utf-16-be"."""
    return [form.encode(codec, "surrogatepass") for form in forms(value)]


@lru_cache(4096)
def in_json(value: str) -> tuple[bytes, ...]:
    """Return the forms in a string of JSON, without its quotes."""
    found = []
    for form in forms(value):
        with suppress(UnicodeEncodeError):
            found.append(msgspec.json.encode(form)[1:-1])
    return tuple(dict.fromkeys(found))
