# SPDX-License-Identifier: Apache-2.0
"""
Paths and queries as nginx and its Lua module read and write them.

Text is decoded with utf-8 and surrogateescape, as on the wire, so that bytes such as those of `/%ff` are preserved.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

ENCODING = ("utf-8", "surrogateescape")

# The names of a query in order of first occurrence, each with its values. None represents `?flag`, without `=`.
Args = dict[str, list[str | None]]

# nginx escapes all other bytes in a path that was changed. `&`, `+` and `:` are not escaped. Source: nginx 1.21.1, change log.
_PATH_SAFE = "".join(chr(byte) for byte in range(0x21, 0x7F) if chr(byte) not in '"#%<>?\\^`{|}')


_AUTHORITY_END = re.compile("[/?#]")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


class BadTarget(ValueError):
    """nginx does not accept this request target and answers 400."""


def encode(text: str) -> bytes:
    """Return the bytes of `text`."""
    return text.encode(*ENCODING)


def decode(octets: bytes) -> str:
    """Return `octets` as text from which `encode` restores them."""
    return octets.decode(*ENCODING)


def escape_path(path: str) -> str:
    """Percent-encode a path as the gateway does if a plugin has set it."""
    return quote_from_bytes(encode(path), safe=_PATH_SAFE)


def escape_component(text: str) -> str:
    """Percent-encode a name or value of a query; only letters, digits and `-._~` are kept."""
    return quote_from_bytes(encode(text), safe="")


def split_target(target: str) -> tuple[str, str | None]:
    """
    Split a request target into its raw path and its query, which is None if there is no `?`.

    Scheme and authority of an absolute target, and a fragment, are removed, as in nginx.
    """
    path, mark, query = split_authority(target)[1].partition("#")[0].partition("?")
    return path, query if mark else None


def split_authority(target: str) -> tuple[str | None, str]:
    """Split an absolute target into its authority and the rest, which begins with a slash. Other targets have no authority."""
    if target.startswith("/") or "://" not in target:
        return None, target
    authority = _AUTHORITY_END.split(target.partition("://")[2], maxsplit=1)[0]
    rest = target.partition("://")[2][len(authority) :]
    return authority, rest if rest.startswith("/") else f"/{rest}"


def normalise_path(raw_path: str) -> str:
    """
    Decode a raw path and resolve `//`, `/./` and `/../`, as nginx does.

    Raises: BadTarget: the path contains a NUL or a malformed escape, does not start with a slash, or leads above the root.
    """
    path = decode(unquote_to_bytes(encode(raw_path)))
    if not path.startswith("/") or "\0" in path or _BAD_ESCAPE.search(raw_path):
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
    """Parse a query as `ngx.decode_args` does: `+` is a space, and entries without a name are ignored."""
    args: Args = {}
    for entry in query.split("&"):
        name, mark, value = entry.partition("=")
        if name:
            args.setdefault(_unescape(name), []).append(_unescape(value) if mark else None)
    return args


def flatten(args: Args) -> Iterable[tuple[str, str | None]]:
    """Yield one pair for each value, in the order of the names."""
    for name, values in args.items():
        for value in values:
            yield name, value


def build_query(args: Args) -> str:
    """Write a query as `ngx.encode_args` does. The order of names, which is random in APISIX, is kept here."""
    return "&".join(
        escape_component(name) if value is None else f"{escape_component(name)}={escape_component(value)}" for name, value in flatten(args)
    )


def _unescape(text: str) -> str:
    return decode(unquote_to_bytes(encode(text.replace("+", " "))))
