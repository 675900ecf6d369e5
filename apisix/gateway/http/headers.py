# SPDX-License-Identifier: Apache-2.0
"""Header fields in the order and case in which they were received, edited as nginx edits them."""

from collections.abc import Iterable
from itertools import islice

from multidict import CIMultiDict

# `ngx.req.get_headers()` reads no more than this many. Source: gateway contract, 4.
MAX_ENTRIES = 100

Headers = CIMultiDict[str]


def grouped(headers: Headers, limit: int = MAX_ENTRIES) -> list[tuple[str, str]]:
    """Return at most `limit` entries with names in lower case, the values of one name together, as a Lua table holds them."""
    groups: dict[str, list[str]] = {}
    for name, value in islice(headers.items(), limit):
        groups.setdefault(name.lower(), []).append(value)
    return [(name, value) for name, values in groups.items() for value in values]


def replace(headers: Headers, name: str, value: str | None) -> None:
    """
    Set a request header to one value, keeping its position and case; delete it if the value is None or empty.

    Source: `ngx.req.set_header`; an empty value deletes the header (gateway contract, 5.2).
    """
    if not value:
        headers.popall(name, None)
        return
    present = next((key for key in headers if key.lower() == name.lower()), name)
    headers[present] = value


def set_all(headers: Headers, entries: Iterable[tuple[str, str | None]]) -> None:
    """
    Set response headers from `entries`: the first value of a name replaces present values, further values are added.

    Names become lower case; an entry without a value has no effect. Source: gateway contract, 5 (observed).
    """
    seen: set[str] = set()
    for name, value in entries:
        key = name.lower()
        if value is None:
            continue
        if key not in seen:
            headers.popall(key, None)
            seen.add(key)
        headers.add(key, value)
