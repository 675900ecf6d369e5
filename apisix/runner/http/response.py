# SPDX-License-Identifier: Apache-2.0
"""An upstream's response, as plugins see and edit it."""

from functools import partial
from typing import Any, Final, Never

from multidict import MultiDictProxy

from apisix.runner.errors import BodyError, WrongContext
from apisix.runner.http.body.content_encoding import DEFAULT_MAX_DECOMPRESSED_BYTES, BodyTooLong, decode_body_or_error
from apisix.runner.http.body.parsing import IN_COROUTINE_BYTES, IN_PLACE_BYTES
from apisix.runner.http.body.transfer import checked_body
from apisix.runner.http.cookies import response_cookies
from apisix.runner.http.headers import Headers
from apisix.runner.http.info_requests import CallIO, Info
from apisix.runner.http.message import HTTPMessage, created_by_runner, unsupported
from apisix.runner.http.multidict_view import begin
from apisix.runner.http.phase import Phase
from apisix.runner.http.redaction import names_shown
from apisix.runner.http.reply import TEXT_TYPE, Reply, checked_status, replacement_message
from apisix.runner.wire.call_messages import HTTPRespCallReq, HTTPRespCallResp, resp_call_resp
from apisix.runner.wire.entries import TextEntries, entries_of, names
from apisix.runner.wire.messages import RespBody

_RESP_BODY: Final = RespBody()

# Source: gateway contract, 7.
_HOP_BY_HOP: Final = names("connection", "keep-alive", "transfer-encoding")
_HOP_BY_HOP_AND_LENGTH: Final = names("connection", "keep-alive", "transfer-encoding", "content-length")
_NONE: Final[Any] = None  # the default of arguments that only the runner can pass


class Response(HTTPMessage):
    """
    An upstream's response.

    Assign attributes and edit `headers` in place. Assigning a body deletes the headers content-length and content-encoding. If the new
    body is compressed, set content-encoding afterwards.

    Args:
        message: the message from the gateway.
        io: the I/O of the call.
        route_key: the key of the route configuration; None if the gateway does not send it.
        phase: the phase of the call.
        max_decompressed_bytes: the length limit for a decompressed body.
    """

    __slots__ = ("_headers", "_max_decompressed_bytes", "_message", "_phase", "_route_key", "_status")

    _kind = "response"

    def __init__(
        self,
        message: HTTPRespCallReq = _NONE,
        io: CallIO = _NONE,
        route_key: str | None = None,
        phase: Phase = Phase.POST_RESP,
        max_decompressed_bytes: int = DEFAULT_MAX_DECOMPRESSED_BYTES,
    ) -> None:
        if not isinstance(message, HTTPRespCallReq):
            raise created_by_runner("Response")
        self._begin(io)
        self._message = message
        self._phase = phase
        self._route_key = route_key
        self._max_decompressed_bytes = max_decompressed_bytes
        self._headers: Headers | None = None  # created on first use
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
        raise unsupported("response.phase", "it is the phase in which the gateway sent the response")

    @property
    def route_key(self) -> str | None:
        """The key of the route configuration, such as `route#1#ext-plugin-post-resp#42`."""
        return self._route_key

    @route_key.setter
    def route_key(self, value: Never) -> None:
        raise unsupported("response.route_key", "it identifies the configuration that runs")

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
            headers = self._headers = begin(Headers.__new__(Headers), self._message.received_headers())
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
        checked = checked_body("response", body, self._is_received_empty)
        # If another body was assigned before, its content-encoding has to be deleted.
        if checked is None or (self._body is None and checked == self._received_body()):
            self._body = None
            return
        headers = self.headers
        headers.popall("content-length", None)
        # A content-encoding that was set before the first body was assigned can only be meant for that body.
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
                plain = self._io.offload(partial(decode_body_or_error, body, codings, self._max_decompressed_bytes))
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
            plain = await self._io.aoffload(partial(decode_body_or_error, body, codings, self._max_decompressed_bytes))
        return self._kept(plain)

    def _codings(self, body: bytes) -> str:
        """Return the content-encoding of a body; "" if there is none."""
        if not body:
            return ""
        # The received headers describe the received body, the present ones describe an assigned body.
        headers = Headers(self._message.received_headers()) if self._body is None else self.headers
        return ",".join(headers.getall("content-encoding", ()))

    def _short(self, body: bytes, codings: str, max_bytes: int) -> bytes | BodyError | None:
        """Return the decompressed body, or the error, if that is known or if both forms have at most `max_bytes`. Otherwise None."""
        if self._body is None:
            known = self._info_replies().decompressed
            if known is not None:
                return known
        if len(body) > max_bytes:
            return None
        max_bytes = min(max_bytes, self._max_decompressed_bytes)
        plain = decode_body_or_error(body, codings, max_bytes)
        return None if isinstance(plain, BodyTooLong) and max_bytes < self._max_decompressed_bytes else plain

    def _kept(self, plain: bytes | BodyError) -> bytes:
        """Keep a decompressed body or the error, and return or raise it."""
        if self._body is None:
            self._info_replies().decompressed = plain
        if isinstance(plain, BodyError):
            raise BodyError(str(plain))
        return plain

    def _is_received_empty(self) -> bool:
        if self._message.status in (204, 304):
            return True
        return HTTPMessage._is_received_empty(self) or (self._replies is not None and self._replies.decompressed == b"")

    def _body_info(self) -> Info:
        return _RESP_BODY

    def _content_length(self) -> str | None:
        entries = self._message.received_headers()
        index = entries.find("content-length", 0, True)
        return None if index < 0 else entries.value(index)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}, headers: {names_shown(self.headers)}>"

    # For the runner.

    def received(self) -> HTTPRespCallReq:
        """Return the message of the gateway."""
        return self._message

    def mark(self) -> tuple[Any, ...]:
        """Return the edits so far, for comparison."""
        return (self._status, self._body, None if self._headers is None else self._headers.mark())

    def copy(self) -> "Response":
        """Return an independent copy with the same edits. Both share `context` and the info replies."""
        copied = Response.__new__(Response)
        copied._message = self._message
        copied._io = self._io
        copied._phase = self._phase
        copied._route_key = self._route_key
        copied._max_decompressed_bytes = self._max_decompressed_bytes
        copied._status = self._status
        copied._body = self._body
        copied._replies = self._info_replies()
        copied._context = self.context
        copied._headers = None if self._headers is None else self._headers.copy()
        return copied

    def to_message(self, reply: Reply | None = None) -> HTTPRespCallResp:
        """
        Return the message for the gateway: the reply, or the edits.

        The message contains all headers. If its list were empty, the gateway would copy the upstream's headers, except content-type,
        content-encoding and others.

        Raises:
            TypeError, ValueError: a header of the reply can't be sent.
        Source: gateway contract, 7.
        """
        message = self._message
        if reply is not None:
            return replacement_message(message.id, reply)
        status = 0 if self._status == message.status else self._status
        return resp_call_resp(message.id, status, self._complete_headers(), self._body or b"")

    def _complete_headers(self) -> TextEntries:
        received = self._message.received_headers()
        headers = self._headers
        if headers is None:
            complete = received.edited({}, _HOP_BY_HOP)
        # A length that a plugin sets would truncate the body, or the client would wait for more.
        elif self._body is not None or headers.changed("content-length"):
            complete = headers.complete(_HOP_BY_HOP_AND_LENGTH)
        else:
            complete = headers.complete(_HOP_BY_HOP)
        if not complete.size() and received.size():
            # With an empty list, the gateway would send all of the upstream's. This header is nginx's default anyway.
            return entries_of([("content-type", TEXT_TYPE)])
        return complete
