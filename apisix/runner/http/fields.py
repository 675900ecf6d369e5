# SPDX-License-Identifier: Apache-2.0
"""What may stand in a header or an argument, and which headers may not be sent on."""

from collections.abc import Iterable
from typing import Final

from apisix.runner import primitives

# Framing belongs to the gateway. It filters none of these from a Stop, and the article's own sample echoes the request's
# content-length. Source: design, 5.
STOP_DROPS: Final = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "te", "upgrade"})

# The ten that the gateway ignores in `Rewrite.resp_headers`. Source: gateway contract, 5.4.
REWRITE_IGNORES: Final = frozenset(
    {
        "connection",
        "content-length",
        "transfer-encoding",
        "location",
        "server",
        "www-authenticate",
        "content-encoding",
        "content-type",
        "content-location",
        "content-language",
    }
)


def check_text(what: str, text: object) -> None:
    """
    Refuse what can't be sent as a name or a value of a header or an argument.

    Args: what: how the error names it, such as "a header's value".
    Raises: TypeError: it is no str. ValueError: it holds a surrogate that stands for no byte.
    """
    if not isinstance(text, str):
        hint = f", write str({text!r})" if isinstance(text, int | float) else ", decode it" if isinstance(text, bytes) else ""
        raise TypeError(f"{what} must be a str, got {type(text).__name__}{hint}")
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} can't be sent: {error}") from None


def check_header(name: object, value: object) -> None:
    """
    Refuse what can't be sent as a header, or would become two.

    A name is a token. A value may hold any character but control characters other than tab; what is not ASCII is sent as UTF-8.
    White space around a value is let through, since whoever reads it leaves it out. Source: RFC 9110, 5.1 and 5.5.

    Raises: TypeError: name or value is no str. ValueError: one holds what may not be in it.
    """
    if primitives.is_token(name) and primitives.is_plain(value):
        return
    check_text("a header's name", name)
    check_text(f"the value of header {name!r}", value)
    assert isinstance(name, str)  # noqa: S101  for the type checker: check_text has made sure
    assert isinstance(value, str)  # noqa: S101
    if not name:
        raise ValueError("a header's name can't be empty")
    if not primitives.is_token(name):
        raise ValueError(f"{name!r} can't be the name of a header: it may hold ASCII letters, digits and !#$%&'*+-.^_`|~ only")
    for place, character in enumerate(value):
        if (character < " " and character != "\t") or character == "\x7f":
            # The value is not shown: it may be a secret, and errors end up in logs.
            raise ValueError(f"the value of header {name!r} must not contain control characters, it has {character!r} at index {place}")


# The headers that a Stop drops, by the length of their names: most names have none to be compared with.
_DROPPED: Final[list[tuple[str, ...]]] = [
    tuple(name for name in sorted(STOP_DROPS) if len(name) == size) for size in range(1 + max(map(len, STOP_DROPS)))
]


def check_headers(headers: list[tuple[str, str]]) -> bool:
    """
    Check each header as `check_header` does, and return True if STOP_DROPS has one of them.

    Raises: TypeError, ValueError: as check_header.
    """
    dropped = False
    for name, value in headers:
        if not (primitives.is_token(name) and primitives.is_plain(value)):
            check_header(name, value)
        size = len(name)
        if size < len(_DROPPED):
            for known in _DROPPED[size]:
                dropped = dropped or primitives.is_name(name, known)
    return dropped


def has_header(headers: list[tuple[str, str]], wanted: str) -> bool:
    """Return True if checked headers have one of that name. Args: wanted: the name, in lower case."""
    found = False
    for name, _ in headers:
        found = found or primitives.is_name(name, wanted)
    return found


def sendable_headers(headers: Iterable[tuple[str, str]], drop: frozenset[str] = STOP_DROPS) -> list[tuple[str, str]]:
    """
    Return the headers of an answer to the client that may be sent, checked.

    Raises: TypeError, ValueError: as check_header; a plain multidict lets everything in.
    """
    kept = []
    for name, value in headers:
        check_header(name, value)
        if name.lower() not in drop:
            kept.append((name, value))
    return kept
