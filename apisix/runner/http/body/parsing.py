# SPDX-License-Identifier: Apache-2.0
"""Parse a body as text, JSON, or a form, with bounds on the work that a client can cause."""

import json
import re
from typing import Any, Final

from multidict import MultiDict

from apisix.runner.errors import BodyError
from apisix.runner.http.body.charsets import decoded
from apisix.runner.http.body.multipart_form import FormFile, multipart_fields, multipart_files
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES

MAX_TEXT_BYTES: Final = MAX_PAYLOAD_BYTES
"""The length up to which a decompressed body is read as text, JSON or a form. `read()` may return more."""
MAX_FORM_FIELDS: Final = 10_000
"""How many fields a form may have. A body of 16 MiB could have 8 million, whose objects would need gigabytes."""
_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
MAX_JSON_VALUES: Final = 200_000
"""
How many values JSON may have. Names count as values, and ten escaped characters count as one value.

The parser can't be interrupted, and nothing else in its worker runs until it returns.
"""
IN_PLACE_BYTES: Final = 64 * 2**10
"""The length up to which a body is decompressed and parsed on the event loop. A longer one is processed in a thread."""
IN_COROUTINE_BYTES: Final = 512 * 2**10
"""Same as `IN_PLACE_BYTES`, but for a coroutine that calls `json()` instead of `ajson()`, so that it can't wait for a thread."""
_SLICE_BYTES: Final = 64 * 2**10
_ESCAPES: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
_BYTE_BY_ESCAPE: Final = {b"%" + digits: bytes([byte]) for byte in range(256) for digits in (b"%02X" % byte, b"%02x" % byte)}


def body_text(body: bytes, content_type: str) -> str:
    """
    Return a body as text, decoded with the charset of its content-type. The default is UTF-8.

    Raises:
        BodyError: the body is longer than `MAX_TEXT_BYTES`, `charsets` does not have the charset, or the body is not valid in it.
    """
    _refuse_long_text(body, "text")
    return decoded(body, _parameter(content_type, "charset") or "utf-8")


def body_json(body: bytes, content_type: str) -> Any:
    """
    Return the parsed JSON of a body, decoded with the charset of its content-type. The default is UTF-8.

    Raises:
        BodyError: the body is not JSON, or has more than `MAX_JSON_VALUES` values; or same as `body_text`.
    """
    if not body:
        raise BodyError("the body is empty, so it is not JSON")
    _refuse_long_text(body, "json")
    text = body_text(body, content_type).removeprefix("\ufeff")
    if len(text) <= IN_PLACE_BYTES:
        return _json_of(text)
    values = sum(map(text.count, ",:[{")) + text.count("\\") // 10
    if values > MAX_JSON_VALUES:
        raise BodyError(f"the JSON has about {values} values, and json() accepts at most {MAX_JSON_VALUES}: read() returns its bytes")
    return _json_of(text, parse_int=_int, parse_float=_float)


def _json_of(text: str, **hooks: Any) -> Any:
    try:
        return json.loads(text, **hooks)
    except ValueError as error:
        raise BodyError(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise BodyError("the body is JSON that is nested too deeply") from None


def _int(digits: str) -> int:
    """Convert a number in Python instead of C: for a long one that takes long, and other threads can run in between."""
    return int(digits)


def _float(digits: str) -> float:
    """Convert a number in Python, for the same reason as `_int`."""
    return float(digits)


def body_form(body: bytes, content_type: str) -> MultiDict[str]:
    """
    Return the fields of a form, with repeated names and empty values. Of a `multipart/form-data` body, files are left out.

    Raises:
        BodyError: the content-type is not one of a form, there are more than `MAX_FORM_FIELDS` fields, or the body is longer than
            `MAX_TEXT_BYTES`; or same as `multipart_fields`.
    """
    _refuse_long_text(body, "form")
    if _form_kind(body, content_type, "form") == _MULTIPART:
        return multipart_fields(body, content_type)
    if body.count(b"&") >= MAX_FORM_FIELDS:
        raise BodyError(f"the form has more than {MAX_FORM_FIELDS} fields")
    fields = (field.partition(b"=") for field in body.split(b"&") if field)
    return MultiDict([(_unquoted(name), _unquoted(value)) for name, _, value in fields])


def body_files(body: bytes, content_type: str) -> MultiDict[FormFile]:
    """
    Return the files of a form. A form of the type `application/x-www-form-urlencoded` has none.

    Raises:
        BodyError: the content-type is not one of a form, or the body is longer than `MAX_TEXT_BYTES`; or same as `multipart_files`.
    """
    _refuse_long_text(body, "files")
    is_multipart = _form_kind(body, content_type, "files") == _MULTIPART
    return multipart_files(body, content_type) if is_multipart else MultiDict()


def _form_kind(body: bytes, content_type: str, accessor: str) -> str:
    """Return the type of a form, which is `_URLENCODED` also if the body is empty. Raise BodyError if the body is not a form."""
    kind = content_type.partition(";")[0].strip().lower()
    if not body or kind == "":
        return _URLENCODED
    if kind not in (_URLENCODED, _MULTIPART):
        raise BodyError(f"{accessor}() accepts {_URLENCODED} and {_MULTIPART}, and the body is {kind}: read() returns its bytes")
    return kind


def _unquoted(quoted: bytes) -> str:
    """Return a name or value of a form as text. Bytes that are not UTF-8 become surrogates."""
    quoted = quoted.replace(b"+", b" ")
    pieces: list[bytes] = []
    start = 0
    while start < len(quoted):  # in slices, so that other threads can run in between
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
        raise BodyError(f"the body has {len(body)} bytes, and {accessor}() accepts at most {MAX_TEXT_BYTES}: read() returns its bytes")


def _parameter(content_type: str, name: str) -> str | None:
    for parameter in content_type.split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == name:
            return value.strip().strip('"')
    return None
