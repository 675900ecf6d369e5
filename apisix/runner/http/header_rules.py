# SPDX-License-Identifier: Apache-2.0
"""
What a header or an argument may contain, and which headers plugins can't set or delete.

There are three tables, one for each kind of message that has headers: a request that continues to the upstream, a Stop, and the client's
response to a request that continues. `headers.py` applies them to edits, and `reply.py` to the headers of a reply.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from apisix.runner import primitives

STOP_DROPS: Final = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "te", "upgrade"})
"""
The headers that are removed from a reply in the request phase, because framing is up to the gateway, which does not filter them.

A plugin may set them without an error: the sample of the founding article returns the request's own headers. Source: gateway contract, 5.
"""

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
"""The headers that the gateway ignores in `Rewrite.resp_headers`. Source: gateway contract, 5.4."""


class FramingRule(NamedTuple):
    """
    Which edits of one header of a request are possible.

    Attributes:
        can_be_set: whether a new value is sent. If not, setting one raises UnsupportedEdit.
        sends_deletion: whether a deletion is sent to the gateway. If not, later plugins do not see the header, but the upstream gets it.
        reason: why the header can't be set, or has to remain, as the end of a sentence.
    """

    can_be_set: bool
    sends_deletion: bool
    reason: str


_ONE_CONNECTION: Final = "it belongs to the client's connection to the gateway (RFC 9110, 7.6.1)"

MOST_HEADERS: Final = 100
"""How many headers of a request most releases of the gateway send at most. Source: gateway contract, 4."""

# The gateway applies edits of headers before it reads the client's body. If a plugin could change `content-length`, the gateway would
# run the rest of the body as a second request of the same client, which no plugin has seen.
REQUEST_FRAMING: Final[dict[str, FramingRule]] = {
    "content-length": FramingRule(
        False,
        False,
        "the gateway would read only so much of the client's body and run the rest as a second request; it counts the body by itself",
    ),
    "transfer-encoding": FramingRule(False, True, "the gateway decides how it sends the body"),
    "host": FramingRule(True, False, "an HTTP/1.1 request must have one (RFC 9112, 3.2)"),
    "connection": FramingRule(False, True, _ONE_CONNECTION),
    "keep-alive": FramingRule(False, True, _ONE_CONNECTION),
    "proxy-connection": FramingRule(False, True, _ONE_CONNECTION),
    "te": FramingRule(False, True, _ONE_CONNECTION),
    "trailer": FramingRule(False, True, "the gateway sends no trailers"),
    "upgrade": FramingRule(False, True, "only the client can ask for another protocol on its connection"),
    "expect": FramingRule(False, True, "the gateway answers `100 Continue` by itself"),
}
"""
The headers of a request that frame the message or belong to one connection, by name in lower case. All others can be set and deleted.

Source: gateway contract, 5.2, 7 and 9.
"""


def check_text(what: str, text: object) -> None:
    """
    Raise an error if a name or value of a header or an argument can't be sent.

    Args:
        what: the subject of the error message, such as "a header's value".
    Raises:
        TypeError: it is not a str.
        ValueError: it contains a surrogate that does not represent a byte.
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
    Raise an error if a header can't be sent, or would be sent as two headers.

    A name is a token. A value may contain all characters except control characters other than tab. Characters that are not ASCII are
    sent as UTF-8. White space around a value is accepted, since recipients remove it.

    Raises:
        TypeError: name or value is not a str.
        ValueError: name or value contains a character that is not allowed.
    Source: RFC 9110, 5.1 and 5.5.
    """
    if primitives.is_token(name) and primitives.is_plain(value):
        return
    check_text("a header's name", name)
    check_text(f"the value of header {name!r}", value)
    assert isinstance(name, str)  # noqa: S101  for the type checker: check_text raises otherwise
    assert isinstance(value, str)  # noqa: S101
    if not name:
        raise ValueError("a header's name can't be empty")
    if not primitives.is_token(name):
        raise ValueError(f"{name!r} can't be the name of a header: it may contain only ASCII letters, digits and !#$%&'*+-.^_`|~")
    for place, character in enumerate(value):
        if (character < " " and character != "\t") or character == "\x7f":
            # The value is not shown: it may be a secret, and errors end up in logs.
            raise ValueError(f"the value of header {name!r} must not contain control characters, it has {character!r} at index {place}")


# STOP_DROPS by the length of the names, so that most names need no comparison.
_DROPPED: Final[list[tuple[str, ...]]] = [
    tuple(name for name in sorted(STOP_DROPS) if len(name) == size) for size in range(1 + max(map(len, STOP_DROPS)))
]


def check_headers(headers: list[tuple[str, str]]) -> bool:
    """
    Check each header as `check_header` does, and return True if STOP_DROPS has one of them.

    Raises:
        TypeError, ValueError: same as `check_header`.
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
    """Return True if checked headers have one with the name `wanted`, which is in lower case."""
    found = False
    for name, _ in headers:
        found = found or primitives.is_name(name, wanted)
    return found


def sendable_headers(headers: Iterable[tuple[str, str]], drop: frozenset[str] = STOP_DROPS) -> list[tuple[str, str]]:
    """
    Return the headers of a reply that may be sent, after checking all of them.

    Args:
        drop: the names to leave out, in lower case.
    Raises:
        TypeError, ValueError: same as `check_header`.
    """
    kept = []
    for name, value in headers:
        check_header(name, value)
        if name.lower() not in drop:
            kept.append((name, value))
    return kept
