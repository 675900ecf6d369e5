# SPDX-License-Identifier: Apache-2.0
"""The forms of a body: text, JSON, form. Checks of what an author assigns as one."""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from multidict import MultiDict

from apisix.runner.errors import BodyError, UnsupportedEdit
from apisix.runner.http import charsets
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES

MAX_BODY_BYTES: Final = MAX_PAYLOAD_BYTES - 27
"""
The longest body that an info reply can carry: its other fields take 24 bytes, and the body is padded to a multiple of 4.

A frame with a new body has at least as many bytes besides it. Source: gateway contract, 6.
"""

MAX_TEXT_BYTES: Final = MAX_PAYLOAD_BYTES
"""How long a body may be, decompressed, that is read as text, JSON or a form. `read()` may give more."""
MAX_FORM_FIELDS: Final = 10_000
"""How many fields a form may have. A body of 16 MiB can hold 8 million, which would take gigabytes as objects."""
MAX_JSON_VALUES: Final = 200_000
"""
How many values JSON may hold, names included; ten escaped characters count as one.

The parser can't be interrupted, and while it runs, nothing else does in its worker.
"""
IN_PLACE_BYTES: Final = 64 * 2**10
"""A body up to this length is decompressed and converted on the event loop, a longer one in a thread."""
IN_COROUTINE_BYTES: Final = 512 * 2**10
"""As `IN_PLACE_BYTES`, but for a coroutine that calls `json()` and not `ajson()`, so it can't wait for a thread."""
_SLICE_BYTES: Final = 64 * 2**10
_ESCAPES: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
_BYTE_BY_ESCAPE: Final = {b"%" + digits: bytes([byte]) for byte in range(256) for digits in (b"%02X" % byte, b"%02x" % byte)}

_INSTEAD_OF_EMPTY: Final = {
    "request": 'assign one that means nothing, such as b"{}", or answer with a Reply',
    "response": "answer with a Reply, which gets a short body of its own",
}


def body_text(body: bytes, content_type: str) -> str:
    """
    Return a body as text, by the charset of its content-type, UTF-8 by default.

    Raises: BodyError: the charset is not in the table of `charsets`, or the bytes are none of its text.
    """
    _refuse_long_text(body, "text")
    return charsets.decoded(body, _parameter(content_type, "charset") or "utf-8")


def body_json(body: bytes, content_type: str) -> Any:
    """
    Return what a JSON body says, in the charset of its content-type, UTF-8 by default.

    Raises: BodyError: it is no JSON, holds more than `MAX_JSON_VALUES`, or is no text of its charset.
    """
    if not body:
        raise BodyError("there is no body, so no JSON")
    _refuse_long_text(body, "json")
    text = body_text(body, content_type).removeprefix("\ufeff")
    if len(text) <= IN_PLACE_BYTES:
        return _json_of(text)
    values = sum(map(text.count, ",:[{")) + text.count("\\") // 10
    if values > MAX_JSON_VALUES:
        raise BodyError(f"the JSON holds about {values} values, json() reads {MAX_JSON_VALUES} at most: read() gives its bytes")
    return _json_of(text, parse_int=_int, parse_float=_float)


def _json_of(text: str, **hooks: Any) -> Any:
    try:
        return json.loads(text, **hooks)
    except ValueError as error:
        raise BodyError(f"the body is no JSON: {error}") from None
    except RecursionError:
        raise BodyError("the body is JSON that nests too deeply") from None


def _int(digits: str) -> int:
    """Convert a number in Python and not in C: long ones take long, and in here others can have the interpreter."""
    return int(digits)


def _float(digits: str) -> float:
    """Convert a number in Python, as `_int`."""
    return float(digits)


def body_form(body: bytes, content_type: str) -> MultiDict[str]:
    """
    Return the fields of an `application/x-www-form-urlencoded` body, repeats and empty values included.

    Raises: BodyError: the content-type says something else, or there are too many fields.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if body and kind not in ("", "application/x-www-form-urlencoded"):
        raise BodyError(f"form() reads application/x-www-form-urlencoded, and the body is {kind}: read() gives its bytes")
    _refuse_long_text(body, "form")
    if body.count(b"&") >= MAX_FORM_FIELDS:
        raise BodyError(f"the form has more than {MAX_FORM_FIELDS} fields")
    fields = (field.partition(b"=") for field in body.split(b"&") if field)
    return MultiDict([(_unquoted(name), _unquoted(value)) for name, _, value in fields])


def _unquoted(quoted: bytes) -> str:
    """Return a name or value of a form as text, with surrogates for bytes that are not UTF-8."""
    quoted = quoted.replace(b"+", b" ")
    pieces: list[bytes] = []
    start = 0
    while start < len(quoted):  # in slices, so that others can have the interpreter in between
        end = start + _SLICE_BYTES
        cut = quoted.rfind(b"%", end - 2, end)
        if 0 <= cut < end < len(quoted):  # an escape must not be cut in two
            end = cut
        pieces.append(_ESCAPES.sub(_unescaped, quoted[start:end]))
        start = end
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def _unescaped(escapes: "re.Match[bytes]") -> bytes:
    return _BYTE_BY_ESCAPE.get(escapes[0]) or bytes.fromhex(escapes[0].replace(b"%", b"").decode())


def _refuse_long_text(body: bytes, accessor: str) -> None:
    if len(body) > MAX_TEXT_BYTES:
        raise BodyError(f"the body has {len(body)} bytes, {accessor}() takes {MAX_TEXT_BYTES} at most: read() gives its bytes")


def checked_body(owner: str, body: object, came_empty: Callable[[], bool]) -> bytes | None:
    """
    Return an assigned body as bytes that nobody else can change, or None if it changes nothing: if it is empty, as the one that came.

    Args: came_empty: whether that one is known to be empty.
    Raises: TypeError: it is no bytes. UnsupportedEdit: it would empty the body, or is too long to be sent.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        hint = ", write .encode() behind it" if isinstance(body, str) else ""
        raise TypeError(f"{owner}.body must be bytes, got {type(body).__name__}{hint}")
    if type(body) is not bytes:
        body = bytes(memoryview(body))  # of a subclass too, whatever it overrides
    if not body:
        if came_empty():
            return None
        instead = (
            "answer with a Reply instead"
            if owner == "response"
            else 'assign a body that means nothing, such as b"{}", or answer with a Reply'
        )
        raise UnsupportedEdit(f"{owner}.body can't be emptied, the gateway takes an empty body for no change: {instead}")
    if len(body) > MAX_BODY_BYTES:
        raise UnsupportedEdit(
            f"{owner}.body of {len(body)} bytes does not fit a frame, which has room for {MAX_BODY_BYTES} bytes of a body"
        )
    return body


def refuse_too_long(owner: str, content_length: str | None) -> None:
    """
    Refuse to ask for a body that can't cross: the gateway would fail the call. Source: gateway contract, 6.

    Raises: BodyError: the content-length says more than a frame holds.
    """
    # Only ASCII digits: str.isdigit knows others, and nginx has checked the header anyway.
    if content_length and content_length.isascii() and content_length.isdigit() and int(content_length[:20]) > MAX_BODY_BYTES:
        raise BodyError(
            f"the {owner}'s body has {content_length} bytes and can't be read: "
            f"the gateway hands over {MAX_BODY_BYTES} bytes at most (look at content-length first)"
        )


def refuse_withheld(protocol: bytes | None) -> None:
    """
    Refuse to call a body empty if the gateway may just not hand it over. Source: gateway contract, 10: 3.9 to 3.16.

    Args: protocol: the variable `server_protocol` of a request that says nothing of the length of its body.
    Raises: BodyError: the request came over HTTP/2 or later.
    """
    if protocol is not None and not protocol.startswith((b"HTTP/0", b"HTTP/1")):
        raise BodyError(
            f"the request's body can't be read: it came over {protocol[:20].decode(errors='replace')} without content-length, and then "
            f"APISIX 3.9 to 3.16 hands over no body, although the upstream gets one. The client must send content-length, 0 for no body"
        )


def _parameter(content_type: str, name: str) -> str | None:
    for parameter in content_type.split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return None
