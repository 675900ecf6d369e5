# SPDX-License-Identifier: Apache-2.0
"""Read and write paths and queries as the gateway does. Text is decoded with surrogateescape, so that `/%ff` is kept."""

from collections.abc import Iterable
from posixpath import normpath
from urllib.parse import quote_from_bytes, unquote_to_bytes

from apisix.runner.wire.messages import Pair

_ENCODING = ("utf-8", "surrogateescape")


def decoded(text: str) -> str:
    """Return a text without its percent-encoding."""
    return unquote_to_bytes(text.encode(*_ENCODING)).decode(*_ENCODING)


def normal_path(raw_path: str) -> str:
    """
    Decode a path, and resolve `//`, `/./` and `/../` in it as the gateway does.

    Raises: ValueError: the path does not begin with a slash.
    """
    path = decoded(raw_path)
    if not path.startswith("/"):
        raise ValueError(f"the path must begin with a slash, but it is {raw_path!r}")
    is_directory = path.rpartition("/")[2] in ("", ".", "..")
    resolved = "/" + normpath(path).lstrip("/")
    return f"{resolved}/" if is_directory and resolved != "/" else resolved


def parsed_query(query: str) -> list[Pair]:
    """
    Return the arguments of a query.

    The value of `?flag` is None, `+` is a space, and arguments without a name are omitted. Source: gateway contract, 4.
    """
    pairs: list[Pair] = []
    for entry in query.split("&"):
        name, mark, value = entry.replace("+", " ").partition("=")
        if name:
            pairs.append((decoded(name), decoded(value) if mark else None))
    return pairs


def written_query(pairs: Iterable[Pair]) -> str:
    """Return the query for arguments. All characters except letters, digits and `-._~` are percent-encoded."""
    return "&".join(_escaped(name) if value is None else f"{_escaped(name)}={_escaped(value)}" for name, value in pairs)


def grouped(pairs: Iterable[Pair]) -> list[Pair]:
    """Return pairs grouped by their name, as in the gateway's tables."""
    groups: dict[str, list[Pair]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append((name, value))
    return [pair for group in groups.values() for pair in group]


def _escaped(text: str) -> str:
    return quote_from_bytes(text.encode(*_ENCODING), safe="")
