# SPDX-License-Identifier: Apache-2.0
"""
Parse the body of a form with files (`multipart/form-data`), with bounds on the number of parts and on their headers.

The package `multipart` parses. It is imported on first use. A body that different parsers could read differently is refused, because the
upstream parses it too: a plugin that checks files must not miss a part that the upstream treats as one.

Source: RFC 7578; for the names of fields and files, the HTML standard.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from multidict import MultiDict

from apisix.runner.errors import BodyError
from apisix.runner.http.body.charsets import decoded

MAX_PARTS: Final = 1000
"""How many fields and files a form may have. Each part is parsed in Python, which takes longer than a field of the other kind of form."""
MAX_PART_HEADERS: Final = 8
MAX_PART_HEADER_BYTES: Final = 4096
"""The length of one header of a part. Browsers send the name of a field and the name of a file in it."""

_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_PARAMETER: Final = re.compile(r""";[ \t]*(name|filename)=("[^"]*(?<!\\)"|[^\s;,"\\]+)[ \t]*""", re.IGNORECASE)
_PARAMETERS: Final = (["name"], ["name", "filename"], ["filename", "name"])
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_ENCODED: Final = frozenset({"7bit", "8bit", "binary"})


@dataclass(frozen=True, slots=True)
class FormFile:
    """
    A file of a form. The client chooses all attributes: check the content, and do not use `filename` as a path.

    Attributes:
        filename: the name that the client sent. It can contain any characters, and is empty if no file was selected.
        content_type: the type that the client sent, in lower case and without parameters. "" if it sent none.
        data: the content as bytes. It is not part of the representation.
    """

    filename: str
    content_type: str
    data: bytes = field(repr=False)

    def __len__(self) -> int:
        """Return the number of bytes of the content."""
        return len(self.data)


def multipart_fields(body: bytes, content_type: str) -> MultiDict[str]:
    """
    Return the fields that are not files. Bytes that are not UTF-8 become surrogates, unless the part names another charset.

    Raises:
        BodyError: the body is not valid, or exceeds a limit.
    """
    return MultiDict([(part.name, _text(part, data)) for part, data in _parts(body, content_type) if part.filename is None])


def multipart_files(body: bytes, content_type: str) -> MultiDict[FormFile]:
    """
    Return the files by the name of their field.

    Raises:
        BodyError: the body is not valid, or exceeds a limit.
    """
    parts = _parts(body, content_type)
    return MultiDict(
        [(part.name, FormFile(part.filename, part.content_type or "", data)) for part, data in parts if part.filename is not None]
    )


def _parts(body: bytes, content_type: str) -> Iterator[tuple[Any, bytes]]:
    """Yield the header of each part, which is a `multipart.MultipartSegment`, and the content of the part."""
    from multipart import MultipartError, MultipartSegment, PushMultipartParser

    boundary = _boundary(content_type)
    parser = PushMultipartParser(
        boundary,
        max_header_size=MAX_PART_HEADER_BYTES,
        max_header_count=MAX_PART_HEADERS,
        max_segment_count=MAX_PARTS,
        strict=True,
    )
    part: Any = None
    pieces: list[bytes] = []
    try:
        with parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    _refuse_ambiguous(event.headerlist)
                    part, pieces = event, []
                elif event is None:
                    yield part, b"".join(pieces)
                else:
                    pieces.append(event)
    except MultipartError as error:
        raise BodyError(f"the body is not a valid form of the type multipart/form-data, or it exceeds a limit: {error}") from None


def _boundary(content_type: str) -> str:
    """Return the boundary of a content-type. Raise BodyError if it does not have exactly one."""
    parameters = (parameter.partition("=") for parameter in content_type.split(";")[1:])
    boundaries = [value.strip() for name, _, value in parameters if name.strip().lower().startswith("boundary")]
    boundary = re.sub(r'^"(.*)"$', r"\1", boundaries[0]) if len(boundaries) == 1 else ""
    if _BOUNDARY.fullmatch(boundary) is None:
        raise BodyError("the content-type of a form with files must have one boundary, of 1 to 70 characters that RFC 2046 allows")
    return boundary


def _refuse_ambiguous(headers: list[tuple[str, str]]) -> None:
    """Raise BodyError if parsers could disagree about the name of a part, about its content, or whether it is a file."""
    if any(_CONTROL.search(value) for _, value in headers):
        raise BodyError("a header of a part of the form contains a control character, such as a line feed without a carriage return")
    values = MultiDict((name.lower(), value) for name, value in headers)
    dispositions = values.getall("content-disposition", [])
    kind, semicolon, rest = "".join(dispositions).partition(";")
    names = [name.lower() for name, _ in _PARAMETER.findall(semicolon + rest)]
    is_plain = kind.strip().lower() == "form-data" and not _PARAMETER.sub("", semicolon + rest)
    if len(dispositions) != 1 or not is_plain or names not in _PARAMETERS:
        raise BodyError(
            "the content-disposition of a part must be form-data with one name, at most one filename, and no other parameters, "
            "such as filename*. A quotation mark in a name must be sent as %22"
        )
    if len(values.getall("content-type", [])) > 1:
        raise BodyError("a part of the form has two content-types")
    if not {value.strip().lower() for value in values.getall("content-transfer-encoding", [])} <= _NOT_ENCODED:
        raise BodyError("a part of the form has a content-transfer-encoding, which RFC 7578 does not allow")


def _text(part: Any, data: bytes) -> str:
    return decoded(data, part.charset) if part.charset else data.decode("utf-8", "surrogateescape")
