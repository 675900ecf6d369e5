# SPDX-License-Identifier: Apache-2.0
"""Header fields in the order and case in which they were received, edited as nginx edits them."""

import re
from collections.abc import Iterable
from itertools import islice
from urllib.parse import quote_from_bytes

from multidict import CIMultiDict

from apisix.gateway.http.uris import encode
from apisix.testing.results.response_headers import SINGLE

# `ngx.req.get_headers()` reads no more than this many. Source: gateway contract, 4.
MAX_ENTRIES = 100

Headers = CIMultiDict[str]

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def grouped(headers: Headers, limit: int = MAX_ENTRIES) -> list[tuple[str, str]]:
    """Return at most `limit` entries with names in lower case, the values of one name together, as in a Lua table."""
    groups: dict[str, list[str]] = {}
    for name, value in islice(headers.items(), limit):
        groups.setdefault(name.lower(), []).append(value)
    return [(name, value) for name, values in groups.items() for value in values]


def escape_name(name: str) -> str:
    """Percent-escape the characters that are not allowed in a header's name, as nginx's Lua module does."""
    return quote_from_bytes(encode(name), safe="!#$%&'*+-.^_`|~")


def escape_value(value: str) -> str:
    """Percent-escape control characters in a header's value, as nginx's Lua module does, so that a value can't add a line."""
    return _CONTROL.sub(lambda match: f"%{ord(match[0]):02X}", value)


def replace(headers: Headers, name: str, value: str | None) -> None:
    """
    Set a request header to one value, keeping its position and case; delete it if the value is None or empty.

    Source: `ngx.req.set_header`; an empty value deletes the header (gateway contract, 5.2).
    """
    if not value:
        headers.popall(name, None)
        return
    present = next((key for key in headers if key.lower() == name.lower()), escape_name(name))
    headers[present] = escape_value(value)


def set_all(headers: Headers, entries: Iterable[tuple[str, str | None]]) -> None:
    """
    Set response headers from `entries`: the first value of a name replaces present values, further values are added.

    New names are lower case. An entry without a value, or with an empty one, has no effect. nginx stores only one value of some headers,
    the last. Source: gateway contract, 5 and 9 (observed).
    """
    seen: set[str] = set()
    for name, value in entries:
        if value or (value is not None and name.lower() == "content-type"):  # an empty content type suppresses the default one
            set_one(headers, name.lower(), value, adds=name.lower() in seen and name.lower() not in SINGLE)
            seen.add(name.lower())


def set_one(headers: Headers, name: str, value: str, *, adds: bool = False) -> None:
    """Set a response header to one value, or add a value. A present header keeps its position and case when it is replaced."""
    value = escape_value(value)
    if adds:
        headers.add(escape_name(name), value)
        return
    present = next((key for key in headers if key.lower() == name.lower()), escape_name(name))
    headers[present] = value
