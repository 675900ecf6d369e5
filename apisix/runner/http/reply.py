# SPDX-License-Identifier: Apache-2.0
"""The answer that a plugin gives to the client itself."""

from collections.abc import Iterable, Mapping

import msgspec
from multidict import CIMultiDict

from apisix.runner.http.fields import check_header

TEXT_TYPE = "text/plain; charset=utf-8"
JSON_TYPE = "application/json"


class Reply(Exception):
    """
    Answer the client: return it from a hook, or raise it from anywhere below, and the chain ends.

    In the request phase the upstream never sees the request. The gateway takes an empty body for none: a status of 300
    or more then gets nginx's own page. In the response phase the reply takes the place of the whole response.

    Args:
        status: 200 to 999.
        body: bytes are sent as they are; a str as UTF-8, with a content-type that says so unless `headers` has one.
        headers: a mapping or pairs; a name may repeat. Framing headers such as content-length are the gateway's to set.
        json: anything that msgspec can encode, or pydantic's models, instead of a body.
    Raises:
        ValueError: the status is out of range, or a header holds CR, LF or NUL.
        TypeError: something is of the wrong type, or both body and json are given.
    """

    def __init__(
        self,
        status: int = 200,
        body: bytes | str = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        *,
        json: object = None,
    ) -> None:
        Exception.__init__(self, status)
        self.status = checked_status(status)
        # By items(): a multidict that is made of a mapping looks each key up, and loses repeated values.
        # A dict is known without asking the abstract class, which costs 0.3 us.
        given: CIMultiDict[str] = CIMultiDict(
            headers if type(headers) is dict else headers.items() if isinstance(headers, Mapping) else headers or ()
        )
        self.headers = given
        for name, value in given.items():
            check_header(name, value)
        content_type = None
        if json is not None:
            if body:
                raise TypeError("a Reply has either a body or json, not both")
            self.body: bytes = msgspec.json.encode(json, enc_hook=_model_fields)
            content_type = JSON_TYPE
        elif type(body) is bytes:
            self.body = body
        elif isinstance(body, str):
            # surrogateescape: text that came off the wire goes back byte for byte.
            self.body = body.encode("utf-8", "surrogateescape")
            content_type = TEXT_TYPE if body else None
        elif isinstance(body, (bytes, bytearray, memoryview)):  # a union would be made anew for each reply
            self.body = bytes(body)
        else:
            raise TypeError(f"a Reply's body must be bytes or str, got {type(body).__name__}; for data, write Reply(json=...)")
        if content_type is not None and "content-type" not in given:
            given["content-type"] = content_type

    def __str__(self) -> str:
        return f"reply {self.status} with a body of {len(self.body)} bytes"

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.body!r}, {list(self.headers.items())!r})"


def checked_status(status: object) -> int:
    """
    Return a status that can be sent.

    Raises: TypeError: it is no int. ValueError: it is not between 200 and 999.
    """
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"a status must be an int, got {type(status).__name__}")
    if not 200 <= status <= 999:
        raise ValueError(f"a status must be between 200 and 999, got {status}")
    return int(status)


def _model_fields(value: object) -> object:
    """Return the fields of a pydantic model, known by its method: the runner does not import pydantic."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"Reply(json=...) can't encode {type(value).__name__}")
    return dump(mode="json")
