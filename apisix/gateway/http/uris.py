# SPDX-License-Identifier: Apache-2.0
"""
Paths and queries as nginx and its Lua module read and write them.

Text is `str` decoded with utf-8 and surrogateescape, as on the wire, so that `/%ff` survives.
"""

from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

ENCODING = ("utf-8", "surrogateescape")

# The names of a query in order of first appearance, each with its values; None is `?flag`, without `=`.
Args = dict[str, list[str | None]]

# nginx escapes these in a path whose text changed, and nothing else: `&`, `+` and `:` stay. Source: nginx 1.21.1, change log.
_PATH_SAFE = "".join(chr(byte) for byte in range(0x21, 0x7F) if chr(byte) not in '"#%<>?\\^`{|}')


class BadTarget(ValueError):
    """The request target is not one that nginx accepts: the client gets a 400."""


def encode(text: str) -> bytes:
    """Return the bytes that `text` stands for."""
    return text.encode(*ENCODING)


def decode(octets: bytes) -> str:
    """Return `octets` as text from which they can be had back."""
    return octets.decode(*ENCODING)


def escape_path(path: str) -> str:
    """Percent-encode a path as the gateway does with one that a plugin set."""
    return quote_from_bytes(encode(path), safe=_PATH_SAFE)


def escape_component(text: str) -> str:
    """Percent-encode a name or value of a query; only letters, digits, `-._~` stay."""
    return quote_from_bytes(encode(text), safe="")


def split_target(target: str) -> tuple[str, str | None]:
    """
    Split a request target into its raw path and its query, None where there is no `?`.

    The scheme and authority of an absolute target and a fragment are cut off, as in nginx.
    """
    target = target.partition("#")[0]
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, mark, query = target.partition("?")
    return path, query if mark else None


def normalise_path(raw_path: str) -> str:
    """
    Decode a raw path and resolve what nginx resolves in it: `//`, `/./` and `/../`.

    Raises: BadTarget: the path holds a NUL, does not start with a slash, or climbs above the root.
    """
    path = decode(unquote_to_bytes(encode(raw_path)))
    if not path.startswith("/") or "\0" in path:
        raise BadTarget(raw_path)
    kept: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "..":
            if not kept:
                raise BadTarget(raw_path)
            kept.pop()
        if segment in ("", ".", "..") and not last:
            continue
        kept.append("" if segment in (".", "..") else segment)
    return "/" + "/".join(kept)


def parse_args(query: str) -> Args:
    """Read a query as `ngx.decode_args` does: by name, `+` is a space, entries without a name are dropped."""
    args: Args = {}
    for entry in query.split("&"):
        name, mark, value = entry.partition("=")
        if name:
            args.setdefault(_unescape(name), []).append(_unescape(value) if mark else None)
    return args


def flatten(args: Args) -> Iterable[tuple[str, str | None]]:
    """Yield one pair a value, names in their order."""
    for name, values in args.items():
        for value in values:
            yield name, value


def build_query(args: Args) -> str:
    """Write a query as `ngx.encode_args` does. APISIX's own order of names is random here; ours is kept."""
    return "&".join(
        escape_component(name) if value is None else f"{escape_component(name)}={escape_component(value)}" for name, value in flatten(args)
    )


def _unescape(text: str) -> str:
    return decode(unquote_to_bytes(encode(text.replace("+", " "))))
