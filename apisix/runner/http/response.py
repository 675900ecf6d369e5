# SPDX-License-Identifier: Apache-2.0
"""An upstream's response, as plugins see and edit it."""

from functools import partial
from typing import Any, Final, Never

from multidict import MultiDictProxy

from apisix.runner.errors import BodyError, WrongContext
from apisix.runner.http.bodies import IN_COROUTINE_BYTES, IN_PLACE_BYTES, checked_body
from apisix.runner.http.cookies import response_cookies
from apisix.runner.http.encodings import DEFAULT_MAX_DECOMPRESSED_BYTES, BodyTooLong, decode_body_or_error
from apisix.runner.http.exchange import Exchange, unsupported
from apisix.runner.http.headers import Headers
from apisix.runner.http.info_requests import Asking
from apisix.runner.http.phase import Phase
from apisix.runner.http.redaction import names_shown
from apisix.runner.http.reply import TEXT_TYPE, Reply, checked_status, replacement_message
from apisix.runner.wire.call_messages import HTTPRespCallReq, HTTPRespCallResp, resp_call_resp
from apisix.runner.wire.entries import TextEntries, entries_of, names
from apisix.runner.wire.messages import RespBody

# Source: gateway contract, 7.
_HOP_BY_HOP: Final = names("connection", "keep-alive", "transfer-encoding")
_HOP_BY_HOP_AND_LENGTH: Final = names("connection", "keep-alive", "transfer-encoding", "content-length")


class Response(Exchange):
    """
    An upstream's response.

    Assign attributes and edit `headers` in place. Assigning a body deletes the headers content-length and content-encoding. If the new
    body is compressed, set content-encoding afterwards.

    Args:
        message: the message from the gateway.
        asking: the I/O for info requests.
        route_key: the key of the route configuration; None if the gateway does not send it.
        phase: the phase of the call.
        max_decompressed_bytes: the length limit for a decompressed body.
    """

    __slots__ = ("_headers", "_max_decompressed_bytes", "_message", "_phase", "_route_key", "_status")

    _kind = "response"
    _body_info = RespBody()

    def __init__(
        self,
        message: HTTPRespCallReq,
        asking: Asking,
        route_key: str | None = None,
        phase: Phase = Phase.POST_RESP,
        max_decompressed_bytes: int = DEFAULT_MAX_DECOMPRESSED_BYTES,
    ) -> None:
        self._begin(asking)
        self._message = message
        self._phase = phase
        self._route_key = route_key
        self._max_decompressed_bytes = max_decompressed_bytes
        self._headers: Headers | None = None  # made when first touched
        self._status = 0

    @property
    def id(self) -> int:
        """The gateway's number of the call, from 0."""
        return self._message.id

    @id.setter
    def id(self, value: Never) -> None:
        raise unsupported("response.id", "it is the gateway's number of the call")

    @property
    def phase(self) -> Phase:
        """`"ext-plugin-post-resp"`."""
        return self._phase

    @phase.setter
    def phase(self, value: Never) -> None:
        raise unsupported("response.phase", "it says when this happens")

    @property
    def route_key(self) -> str | None:
        """The key of the route configuration, such as `route#1#ext-plugin-post-resp#42`."""
        return self._route_key

    @route_key.setter
    def route_key(self, value: Never) -> None:
        raise unsupported("response.route_key", "it says which configuration runs")

    @property
    def status(self) -> int:
        """
        The status.

        Raises: on assignment, TypeError if it is not an int, and ValueError if it is not between 200 and 999.
        """
        return self._status or self._message.status

    @status.setter
    def status(self, status: int) -> None:
        self._status = checked_status(status)

    @property
    def headers(self) -> Headers:
        """The headers, a case-insensitive dict in which a name can have several values. Names have the case that the upstream sent."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(self._message.came_headers())
        return headers

    @headers.setter
    def headers(self, value: Never) -> None:
        raise unsupported("response.headers", 'edit them in place, as in response.headers["x-a"] = "1" or response.headers.update(...)')

    @property
    def cookies(self) -> MultiDictProxy[str]:
        """The cookies that the current headers set, without their attributes, as a read-only dict."""
        return response_cookies(self.headers.getall("set-cookie", ()))

    @cookies.setter
    def cookies(self, value: Never) -> None:
        raise unsupported("response.cookies", 'add a header, as in response.headers.add("set-cookie", "a=1; Path=/")')

    @property
    def body(self) -> bytes:
        """
        The body: the assigned one, or the result of `read()`.

        Raises: WrongContext and BodyError, as `read()`. On assignment, UnsupportedEdit if it is empty or too long, and TypeError if it
            is not bytes.
        """
        return self.read()

    @body.setter
    def body(self, body: bytes) -> None:
        checked = checked_body("response", body, self._came_empty)
        # If another one was assigned before, its encoding has to go from the headers.
        if checked is None or (self._body is None and self._came_as(checked)):
            self._body = None
            return
        headers = self.headers
        headers.popall("content-length", None)
        # One that was set before the first body was assigned can only be meant for that body.
        if self._body is not None or not headers.changed("content-encoding"):
            headers.popall("content-encoding", None)
        self._body = checked

    def read(self, *, decode: bool = True) -> bytes:
        """
        Return the body, b"" if there is none. It is decompressed according to its content-encoding, unless `decode` is False.

        Raises:
            WrongContext: the body has not been fetched, and this is a coroutine. Use `await aread()`.
            BodyError: the body is too long to be transferred or decompressed, or its content-encoding is unknown.
        """
        return self._plain("read") if decode else self._raw("read")

    async def aread(self, *, decode: bool = True) -> bytes:
        """Same as `read`, but for coroutines."""
        return await (self._aplain() if decode else self._araw())

    def _plain(self, accessor: str) -> bytes:
        body = self._raw(accessor)
        codings = self._codings(body)
        if not codings:
            return body
        plain = self._short(body, codings, IN_PLACE_BYTES)
        if plain is None:
            try:
                plain = self._asking.offload(partial(decode_body_or_error, body, codings, self._max_decompressed_bytes))
            except WrongContext as error:
                plain = self._short(body, codings, IN_COROUTINE_BYTES)
                if plain is None:
                    raise self._long_in_coroutine(accessor, error) from None
        return self._kept(plain)

    async def _aplain(self) -> bytes:
        body = await self._araw()
        codings = self._codings(body)
        if not codings:
            return body
        plain = self._short(body, codings, IN_PLACE_BYTES)
        if plain is None:
            plain = await self._asking.aoffload(partial(decode_body_or_error, body, codings, self._max_decompressed_bytes))
        return self._kept(plain)

    def _codings(self, body: bytes) -> str:
        """Return the content-encoding of a body; "" if there is none."""
        if not body:
            return ""
        # What came is described by the headers that came, what was assigned by those that are set now.
        headers = Headers(self._message.headers) if self._body is None else self.headers
        return ",".join(headers.getall("content-encoding", ()))

    def _short(self, body: bytes, codings: str, max_bytes: int) -> bytes | BodyError | None:
        """Return what came of decompressing a body, if that is known or if both have at most `max_bytes`; else None."""
        if self._body is None:
            known = self._cache().decompressed
            if known is not None:
                return known
        if len(body) > max_bytes:
            return None
        max_bytes = min(max_bytes, self._max_decompressed_bytes)
        plain = decode_body_or_error(body, codings, max_bytes)
        return None if isinstance(plain, BodyTooLong) and max_bytes < self._max_decompressed_bytes else plain

    def _kept(self, plain: bytes | BodyError) -> bytes:
        """Keep what came of decompressing a body, and return or raise it."""
        if self._body is None:
            self._cache().decompressed = plain
        if isinstance(plain, BodyError):
            raise BodyError(str(plain))
        return plain

    def _came_empty(self) -> bool:
        if self._message.status in (204, 304):
            return True
        answers = self._answers
        if answers is not None and self._body_info in answers:
            return not answers.get(self._body_info, self._kind) or answers.decompressed == b""
        return self._content_length() == "0"

    def _content_length(self) -> str | None:
        return Headers(self._message.headers).get("content-length")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}, headers: {names_shown(self.headers)}>"

    # The runner's side.

    def mark(self) -> tuple[Any, ...]:
        """Return the state of all that can be edited, to be compared with what this returns later."""
        return (self._status, self._body, None if self._headers is None else self._headers.mark())

    def copy(self) -> "Response":
        """Return a detached twin with the same edits so far. Both share `context` and the answers that were fetched."""
        twin = Response.__new__(Response)
        twin._message = self._message
        twin._asking = self._asking
        twin._phase = self._phase
        twin._route_key = self._route_key
        twin._max_decompressed_bytes = self._max_decompressed_bytes
        twin._status = self._status
        twin._body = self._body
        twin._answers = self._cache()
        twin._context = self.context
        twin._headers = None if self._headers is None else self._headers.copy()
        return twin

    def to_message(self, reply: Reply | None = None) -> HTTPRespCallResp:
        """
        Return what the gateway is told.

        Always the complete list of headers: with an empty one the gateway copies the upstream's, less content-type,
        content-encoding and others. Source: gateway contract, 7.

        Raises: TypeError, ValueError: a header of the reply can't be sent.
        """
        message = self._message
        if reply is not None:
            return replacement_message(message.id, reply)
        status = 0 if self._status == message.status else self._status
        return resp_call_resp(message.id, status, self._complete_headers(), self._body or b"")

    def _complete_headers(self) -> TextEntries:
        came = self._message.came_headers()
        headers = self._headers
        if headers is None:
            complete = came.edited({}, _HOP_BY_HOP)
        # A length that an author made up would cut the body short or leave the client waiting.
        elif self._body is not None or headers.changed("content-length"):
            complete = headers.complete(_HOP_BY_HOP_AND_LENGTH)
        else:
            complete = headers.complete(_HOP_BY_HOP)
        if not complete.size() and came.size():
            # An empty list would bring back all of the upstream's. This one is nginx's default anyway.
            return entries_of([("content-type", TEXT_TYPE)])
        return complete
