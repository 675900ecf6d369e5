# SPDX-License-Identifier: Apache-2.0
"""Paths and queries, as the gateway reads and writes them. Text is decoded with surrogateescape, so that `/%ff` survives."""

from collections.abc import Iterable
from posixpath import normpath
from urllib.parse import quote_from_bytes, unquote_to_bytes

from apisix.runner.wire.messages import Pair

_ENCODING = ("utf-8", "surrogateescape")


def decoded(text: str) -> str:
    """Undo percent-encoding."""
    return unquote_to_bytes(text.encode(*_ENCODING)).decode(*_ENCODING)


def normal_path(raw_path: str) -> str:
    """
    Decode a path and resolve what the gateway resolves in it: `//`, `/./` and `/../`.

    Raises: ValueError: it does not begin with a slash.
    """
    path = decoded(raw_path)
    if not path.startswith("/"):
        raise ValueError(f"a path begins with a slash, got {raw_path!r}")
    is_directory = path.rpartition("/")[2] in ("", ".", "..")
    resolved = "/" + normpath(path).lstrip("/")
    return f"{resolved}/" if is_directory and resolved != "/" else resolved


def parsed_query(query: str) -> list[Pair]:
    """Read a query: `?flag` has no value, `+` is a space, entries without a name are dropped. Source: gateway contract, 4."""
    pairs: list[Pair] = []
    for entry in query.split("&"):
        name, mark, value = entry.replace("+", " ").partition("=")
        if name:
            pairs.append((decoded(name), decoded(value) if mark else None))
    return pairs


def written_query(pairs: Iterable[Pair]) -> str:
    """Write a query: only letters, digits and `-._~` stay as they are."""
    return "&".join(_escaped(name) if value is None else f"{_escaped(name)}={_escaped(value)}" for name, value in pairs)


def grouped(pairs: Iterable[Pair]) -> list[Pair]:
    """Put the values of one name side by side, as the gateway's tables do."""
    groups: dict[str, list[Pair]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append((name, value))
    return [pair for group in groups.values() for pair in group]


def _escaped(text: str) -> str:
    return quote_from_bytes(text.encode(*_ENCODING), safe="")
