# SPDX-License-Identifier: Apache-2.0
"""The forms of a body: text, JSON, form. Checks of what an author assigns as one."""

import json
from typing import Any, Final
from urllib.parse import parse_qsl

from multidict import MultiDict

from apisix.runner.errors import BodyError, UnsupportedEdit
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES

MAX_BODY_BYTES: Final = MAX_PAYLOAD_BYTES - 27
"""
The longest body that an info reply can carry: its other fields take 24 bytes, and the body is padded to a multiple of 4.

A frame with a new body has at least as many bytes besides it. Source: gateway contract, 6.
"""

MAX_FORM_FIELDS: Final = 10_000
"""A body of 16 MiB can hold 8 million fields, which would take gigabytes as objects."""

_INSTEAD_OF_EMPTY: Final = {
    "request": 'assign one that means nothing, such as b"{}", or answer with a Reply',
    "response": "answer with a Reply, which gets a short body of its own",
}


def body_text(body: bytes, content_type: str) -> str:
    """
    Return a body as text, by the charset of its content-type, UTF-8 by default.

    Raises: BodyError: the charset is unknown, or the bytes are none of its text.
    """
    charset = _parameter(content_type, "charset") or "utf-8"
    try:
        return body.decode(charset)
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is no {charset} text, at byte {error.start}: read() gives its bytes") from None
    except (LookupError, ValueError):  # a few of Python's own codecs raise the latter
        raise BodyError(f"the body's charset {charset!r} is unknown: read() gives its bytes") from None


def body_json(body: bytes) -> Any:
    """
    Return what a JSON body says.

    Raises: BodyError: it is no JSON.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise BodyError(f"the body is no JSON: {error}" if body else "there is no body, so no JSON") from None
    except RecursionError:
        raise BodyError("the body is JSON that nests too deeply") from None


def body_form(body: bytes, content_type: str) -> MultiDict[str]:
    """
    Return the fields of an `application/x-www-form-urlencoded` body, repeats and empty values included.

    Raises: BodyError: the content-type says something else, or there are too many fields.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if body and kind not in ("", "application/x-www-form-urlencoded"):
        raise BodyError(f"form() reads application/x-www-form-urlencoded, and the body is {kind}: read() gives its bytes")
    text = body.decode("utf-8", "surrogateescape")
    try:
        return MultiDict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_FORM_FIELDS))
    except ValueError:
        raise BodyError(f"the form has more than {MAX_FORM_FIELDS} fields") from None


def checked_body(owner: str, body: object) -> bytes:
    """
    Return an assigned body as bytes.

    Raises: TypeError: it is none. UnsupportedEdit: it is empty, or too long to be sent.
    """
    if isinstance(body, bytearray | memoryview):
        body = bytes(body)
    if not isinstance(body, bytes):
        hint = ", write .encode() behind it" if isinstance(body, str) else ""
        raise TypeError(f"{owner}.body must be bytes, got {type(body).__name__}{hint}")
    if not body:
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


def _parameter(content_type: str, name: str) -> str | None:
    for parameter in content_type.split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return None
