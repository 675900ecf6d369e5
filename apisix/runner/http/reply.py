# SPDX-License-Identifier: Apache-2.0
"""`Reply`: a plugin's own response to the client."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from apisix.runner import primitives
from apisix.runner.http.header_rules import check_headers, has_header, sendable_headers
from apisix.runner.http.headers import Headers
from apisix.runner.wire.call_messages import HTTPReqCallResp, HTTPRespCallResp, Stop
from apisix.runner.wire.entries import entries_of

TEXT_TYPE = "text/plain; charset=utf-8"
JSON_TYPE = "application/json"
_BYTES_TYPE: Final = "application/octet-stream"
_PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}


class Reply(Exception):
    """
    A reply to the client. Return it from a hook, or raise it from a function that the hook calls. It ends the chain.

    In a request phase, the upstream does not get the request. If the body is empty and the status is 300 or more, the gateway sends its
    own error page. In the response phase, the reply replaces the whole response.

    Args:
        status: 200 to 999.
        body: bytes, or a str, which is sent as UTF-8 with the content-type text/plain unless `headers` has a content-type.
        headers: a mapping or pairs. A name can be repeated. The gateway sets framing headers such as content-length.
        json: a value that is sent as JSON instead of a body: anything that msgspec can encode, or a pydantic model.
    Raises:
        ValueError: the status is out of range, or a header can't be sent.
        TypeError: an argument has the wrong type, or both body and json are given.
    """

    def __init__(
        self,
        status: int = 200,
        body: bytes | str = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        *,
        json: object = None,
    ) -> None:
        self._status = checked_status(status)
        # The view is created on first use, since most replies are only sent.
        self._headers: Headers | None = None
        pairs = _pairs_of(headers) if headers else []
        self._has_framing = check_headers(pairs)
        content_type = None
        if json is not None:
            if body:
                raise TypeError("a Reply has either a body or json, not both")
            self._body: bytes = msgspec.json.encode(json, enc_hook=_model_fields)
            content_type = JSON_TYPE
        elif type(body) is bytes:
            self._body = body
        else:
            self._body = _bytes_of(body)
            content_type = TEXT_TYPE if body and isinstance(body, str) else None
        if content_type is not None and not has_header(pairs, "content-type"):
            pairs.append(("content-type", content_type))
        self._pairs = pairs

    @property
    def status(self) -> int:
        """The status. Assigning it raises TypeError if it is not an int, and ValueError if it is not between 200 and 999."""
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        self._status = checked_status(status)

    @property
    def body(self) -> bytes:
        """The body. A str can be assigned too, as in the constructor. Assigning anything else raises TypeError."""
        return self._body

    @body.setter
    def body(self, body: bytes | str) -> None:
        self._body = _bytes_of(body)
        if body and isinstance(body, str):
            self.headers.setdefault("content-type", TEXT_TYPE)

    @property
    def headers(self) -> Headers:
        """
        The headers, which can be edited. A mapping or pairs can be assigned too. A header that can't be sent raises TypeError or
        ValueError.
        """
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(entries_of(self._pairs))
        return headers

    @headers.setter
    def headers(self, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        pairs = _pairs_of(headers)
        check_headers(pairs)
        self._headers = Headers(entries_of(pairs))

    def sendable(self) -> list[tuple[str, str]]:
        """
        Return the headers that may be sent.

        Raises: TypeError, ValueError: a header that was set after the constructor can't be sent.
        """
        headers = self._headers
        if headers is not None:
            return sendable_headers(headers.pairs())
        return sendable_headers(self._pairs) if self._has_framing else self._pairs

    def __str__(self) -> str:
        return f"reply {self.status} with a body of {len(self.body)} bytes"

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.body!r}, {list(self.headers.items())!r})"


def checked_status(status: object) -> int:
    """
    Return a status that can be sent.

    Raises: TypeError: it is not an int. ValueError: it is not between 200 and 999.
    """
    if type(status) is int and 200 <= status <= 999:
        return status
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"a status must be an int, got {type(status).__name__}")
    if not 200 <= status <= 999:
        raise ValueError(f"a status must be between 200 and 999, got {status}")
    return int(status)


def stop_message(call_id: int, reply: Reply) -> HTTPReqCallResp:
    """
    Return the message for the gateway in a request phase.

    Raises: TypeError, ValueError: a header can't be sent.
    """
    # Without the constructors, which get their arguments in Python objects.
    stop = Stop.__new__(Stop)
    stop.status = reply._status
    stop.headers = entries_of(reply.sendable())
    stop.body = reply._body
    message = HTTPReqCallResp.__new__(HTTPReqCallResp)
    message.id = call_id
    message.action = stop
    return message


def replacement_message(call_id: int, reply: Reply) -> HTTPRespCallResp:
    """
    Return the message for the gateway in the response phase. Its body and its headers are never empty.

    If they were, the gateway would send those of the upstream. Source: gateway contract, 7.

    Raises: TypeError, ValueError: a header can't be sent.
    """
    status = reply._status
    body = reply._body
    headers = reply.sendable()
    if not body:
        body = f"{status} {_PHRASES.get(status, 'status')}\n".encode()
        headers = [pair for pair in headers if pair[0].lower() not in ("content-type", "content-encoding")]
        headers.append(("content-type", TEXT_TYPE))
    elif "content-type" not in [name.lower() for name, _ in headers]:
        headers = [*headers, ("content-type", _BYTES_TYPE)]
    return HTTPRespCallResp(call_id, status, headers, body)


def _bytes_of(body: object) -> bytes:
    """Return a body as immutable bytes. Raise TypeError if it is neither bytes nor str."""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape")  # so text that was received is sent as the same bytes
    if isinstance(body, (bytes, bytearray, memoryview)):  # not a union, which would be created again for each reply
        return bytes(memoryview(body))  # also of a subclass, whatever it overrides
    raise TypeError(f"a Reply's body must be bytes or str, got {type(body).__name__}; for data, write Reply(json=...)")


def _pairs_of(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return headers as a new list. Raise TypeError or ValueError if they are neither a mapping nor pairs."""
    # The common types are checked first, because `isinstance` takes longer for an abstract class.
    if type(headers) is dict:
        return primitives.dict_items(headers)
    # Iterating over a mapping would return its names only.
    pairs = headers.items() if type(headers) is not list and isinstance(headers, Mapping) else headers
    if not isinstance(pairs, Iterable):
        raise TypeError(f"a Reply's headers must be a mapping, or pairs of name and value, got {type(headers).__name__}")
    return [(name, value) for name, value in pairs]


def _model_fields(value: object) -> object:
    """Return the fields of a pydantic model, which is recognised by its method, because the runner does not import pydantic."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"Reply(json=...) can't encode {type(value).__name__}")
    return dump(mode="json")
