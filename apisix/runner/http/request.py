# SPDX-License-Identifier: Apache-2.0
"""A client's request, as plugins see and edit it."""

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, Final, Never
from urllib.parse import unquote_to_bytes

from multidict import MultiDictProxy

from apisix.runner.errors import InfoUnavailable
from apisix.runner.http.body.transfer import checked_body
from apisix.runner.http.cookies import request_cookies
from apisix.runner.http.header_rules import check_text
from apisix.runner.http.headers import ClientHeaders, RequestHeaders
from apisix.runner.http.info_requests import CallIO, Info
from apisix.runner.http.message import HTTPMessage, created_by_runner, unsupported
from apisix.runner.http.multidict_view import begin
from apisix.runner.http.phase import Phase
from apisix.runner.http.query import Args, one_argument, query_text
from apisix.runner.http.redaction import names_shown
from apisix.runner.http.reply import Reply, stop_message
from apisix.runner.wire.call_messages import HTTPReqCallReq, HTTPReqCallResp, Rewrite
from apisix.runner.wire.entries import NO_ENTRIES, owned_entries
from apisix.runner.wire.messages import ReqBody

_PRE_REQ: Final = Phase.PRE_REQ  # looking up a member of an enum is expensive
_REQ_BODY: Final = ReqBody()
_UPSTREAM_URI: Final = "upstream_uri"
_HAVE_BODIES: Final = frozenset({"POST", "PUT", "PATCH"})
_FAMILIES = {4: AF_INET, 16: AF_INET6}
_NONE: Final[Any] = None  # the default of arguments that only the runner can pass


class Request(HTTPMessage):
    """
    A client's request.

    Assign attributes and edit `headers` and `args` in place. Only changes are sent to the gateway. If an edit can't be sent, the line
    that makes it raises UnsupportedEdit.

    Args:
        message: the message from the gateway.
        io: the I/O of the call.
        phase: the phase of the call; None if the gateway does not send it.
        route_key: the key of the route configuration; None if the gateway does not send it.
        first: true if nothing rewrites the path before ext-plugin-pre-req, so that no info request is needed to find out.
    """

    __slots__ = ("_adapters", "_args", "_first", "_headers", "_message", "_path", "_phase", "_response_headers", "_route_key")

    _kind = "request"

    def __init__(
        self,
        message: HTTPReqCallReq = _NONE,
        io: CallIO = _NONE,
        phase: Phase | None = None,
        route_key: str | None = None,
        first: bool = False,
    ) -> None:
        if not isinstance(message, HTTPReqCallReq):
            raise created_by_runner("Request")
        self._begin(io)
        self._first = first
        self._message = message
        self._phase = phase
        self._route_key = route_key
        # Created on first use.
        self._headers: RequestHeaders | None = None
        self._args: Args | None = None
        self._response_headers: ClientHeaders | None = None
        self._path: str | None = None
        # Objects through which plugins of other APIs see this request, by the name of the API. The plugins of a chain share them.
        self._adapters: dict[str, Any] | None = None

    # Received values.

    @property
    def id(self) -> int:
        """The gateway's number of the call, from 0. It is not a request id: that is `var("request_id")`."""
        return self._message.id

    @id.setter
    def id(self, value: Never) -> None:
        raise unsupported("request.id", "it is the gateway's number of the call")

    @property
    def method(self) -> str:
        """The method, in upper case."""
        return self._message.method

    @method.setter
    def method(self, value: Never) -> None:
        raise unsupported("request.method", "the protocol can't change a request's method")

    @property
    def remote_addr(self) -> str:
        """The address of the client that connected to the gateway, IPv4 or IPv6. "" if the gateway does not send it."""
        return printable_address(self._message.src_ip)

    @remote_addr.setter
    def remote_addr(self, value: Never) -> None:
        raise unsupported(
            "request.remote_addr", "the protocol can't change the client's address; a header such as x-forwarded-for can be set"
        )

    @property
    def phase(self) -> Phase | None:
        """`"ext-plugin-pre-req"` or `"ext-plugin-post-req"`. None before APISIX 2.9."""
        return self._phase

    @phase.setter
    def phase(self, value: Never) -> None:
        raise unsupported("request.phase", "it is the phase in which the gateway sent the request")

    @property
    def route_key(self) -> str | None:
        """The key of the route configuration, such as `route#1#ext-plugin-pre-req#42`. None before APISIX 2.9."""
        return self._route_key

    @route_key.setter
    def route_key(self, value: Never) -> None:
        raise unsupported("request.route_key", "it identifies the configuration that runs; the protocol can't choose another route")

    @property
    def conf_token(self) -> int:
        """The token of the route configuration."""
        return self._message.conf_token

    @conf_token.setter
    def conf_token(self, value: Never) -> None:
        raise unsupported("request.conf_token", "the gateway chose it")

    # Values that can be edited.

    @property
    def path(self) -> str:
        """
        The path, without the query. It is decoded and normalized. If something has rewritten it before this call, such as proxy-
        rewrite, it is percent-encoded. Assign it in the form in which you read it.

        Raises: TypeError on assignment if it is not a str; ValueError if it does not begin with "/".
        """
        return self._message.path if self._path is None else self._path

    @path.setter
    def path(self, path: str) -> None:
        check_text("request.path", path)
        if not path.startswith("/"):
            raise ValueError(f'request.path must begin with "/", got {path!r}')
        self._path = path

    @property
    def headers(self) -> RequestHeaders:
        """
        The headers, a case-insensitive dict in which a name can have several values. Names are in lower case. `host` is the host that
        the upstream gets.
        """
        headers = self._headers
        if headers is None:
            headers = self._headers = begin(RequestHeaders.__new__(RequestHeaders), self._message.received_headers())
        return headers

    @headers.setter
    def headers(self, value: Never) -> None:
        raise unsupported("request.headers", 'edit them in place, as in request.headers["x-a"] = "1" or request.headers.update(...)')

    @property
    def args(self) -> Args:
        """
        The decoded arguments of the query, a dict in which a name can have several values. An argument without a value (`?flag`) is "".
        """
        args = self._args
        if args is None:
            args = self._args = begin(Args.__new__(Args), self._message.received_args())
        return args

    @args.setter
    def args(self, value: Never) -> None:
        raise unsupported("request.args", 'edit them in place, as in request.args["a"] = "1" or request.args.update(...)')

    @property
    def query(self) -> str:
        """
        The query: the current arguments, percent-encoded. "" if there are none. The text that the client sent, which can differ in its
        encoding, is the variable `args`.
        """
        return query_text(self._message.args, self._args)

    @query.setter
    def query(self, value: Never) -> None:
        raise unsupported("request.query", 'edit the arguments, as in request.args["a"] = "1" or request.args.update(...)')

    @property
    def host(self) -> str:
        """
        The header `host`, "" if it is missing. This is the host that the upstream gets. The host that the client requested is the
        variable `host`.
        """
        return self.headers.get("host", "")

    @host.setter
    def host(self, value: Never) -> None:
        raise unsupported("request.host", 'set the header, as in request.headers["host"] = "example.com"')

    @property
    def cookies(self) -> MultiDictProxy[str]:
        """The cookies of the current headers, a read-only dict in which a name can have several values. Values are not decoded."""
        return request_cookies(self.headers.getall("cookie", ()))

    @cookies.setter
    def cookies(self, value: Never) -> None:
        raise unsupported("request.cookies", 'set the header, as in request.headers["cookie"] = "a=1; b=2"')

    @property
    def response_headers(self) -> ClientHeaders:
        """Headers to set on the client's response if the request continues. Edit them in place."""
        headers = self._response_headers
        if headers is None:
            headers = self._response_headers = ClientHeaders()
        return headers

    @response_headers.setter
    def response_headers(self, value: Never) -> None:
        raise unsupported("request.response_headers", 'edit them in place, as in request.response_headers["x-a"] = "1"')

    @property
    def body(self) -> bytes:
        """
        The body: the assigned one, or the result of `read()`.

        Raises: WrongContext and BodyError, as `read()`. On assignment, UnsupportedEdit if it is empty or too long, and TypeError if it
            is not bytes.
        """
        return self._raw("read")

    @body.setter
    def body(self, body: bytes) -> None:
        checked = checked_body("request", body, self._is_received_empty)
        self._body = None if checked is not None and checked == self._received_body() else checked

    def _body_info(self) -> Info:
        return _REQ_BODY

    def _content_length(self) -> str | None:
        entries = self._message.received_headers()
        index = entries.find("content-length", 0, True)
        return None if index < 0 else entries.value(index)

    def _may_be_withheld(self) -> bool:
        if self._message.method not in _HAVE_BODIES:
            return False
        entries = self._message.received_headers()
        return entries.find("content-length", 0, True) < 0 and entries.find("transfer-encoding", 0, True) < 0

    def undo_path(self) -> None:
        """Discard an assigned path."""
        self._path = None

    def undo_body(self) -> None:
        """Discard an assigned body."""
        self._body = None

    def __repr__(self) -> str:
        headers, args = names_shown(self.headers), names_shown(self.args)
        return f"<{type(self).__name__} {self.method} {self.path!r}, arguments: {args}; headers: {headers}>"

    # For the runner.

    def received(self) -> HTTPReqCallReq:
        """Return the message of the gateway."""
        return self._message

    def mark(self) -> tuple[Any, ...]:
        """Return the edits so far, for comparison."""
        headers, args, response_headers = self._headers, self._args, self._response_headers
        return (
            self._path,
            self._body,
            None if headers is None else headers.mark(),
            None if args is None else args.mark(),
            None if response_headers is None else response_headers.mark(),
        )

    def copy(self) -> "Request":
        """
        Return an independent copy with the same edits. Both share `context` and the info replies.

        Calls continue with the copy if a plugin fails, so that its edits are lost, even if a thread that hangs makes more of them.
        """
        copied = Request.__new__(Request)
        copied._message = self._message
        copied._io = self._io
        copied._phase = self._phase
        copied._route_key = self._route_key
        copied._first = self._first
        copied._adapters = self._adapters  # this dict is replaced, never changed
        copied._path = self._path
        copied._body = self._body
        copied._replies = self._info_replies()
        copied._context = self.context
        copied._headers = None if self._headers is None else self._headers.copy()
        copied._args = None if self._args is None else self._args.copy()
        copied._response_headers = None if self._response_headers is None else self._response_headers.copy()
        return copied

    def reply_may_need_info(self) -> bool:
        """Return True if `to_message` may have to send an info request."""
        if self._first and self._phase is _PRE_REQ:
            return False
        path = self._path
        if path is not None and path != self._message.path:
            return "%" in path
        return self._args is not None and bool(self._args.changes())

    def to_message(self, reply: Reply | None = None) -> HTTPReqCallResp:
        """
        Return the message for the gateway: the reply, or the edits if there are any.

        If arguments were changed, or a path that contains a percent sign, this may request a variable.

        Raises:
            TypeError, ValueError: a header of the reply can't be sent.
        Source: gateway contract, 5.
        """
        call_id = self._message.id
        if reply is not None:
            return stop_message(call_id, reply)
        headers = args = client_headers = None
        if self._headers is not None:
            headers = self._headers.changes()
        if self._args is not None:
            args = self._args.changes()
        if self._response_headers is not None:
            client_headers = self._response_headers.pairs()
        path = self._path
        if path is not None and path == self._message.path:
            path = None
        if path is not None or args:
            path, args = self._path_and_args(path, args)
        body = self._body
        if path is None and body is None and not headers and not args and not client_headers:
            return _reply_message(call_id, None)
        rewrite = Rewrite.__new__(Rewrite)  # as in `_reply_message`
        rewrite.path = path
        rewrite.headers = owned_entries(headers) if headers else NO_ENTRIES
        rewrite.args = owned_entries(args) if args else NO_ENTRIES
        rewrite.resp_headers = owned_entries(client_headers) if client_headers else NO_ENTRIES
        rewrite.body = body or b""
        return _reply_message(call_id, rewrite)

    def _path_and_args(self, path: str | None, args: Any) -> tuple[str | None, Any]:
        # If something has rewritten the path, it is percent-encoded. The gateway encodes the path that it gets, so this one must be
        # decoded before. If only arguments changed, the gateway ignores them unless the path is sent too. A path without "%" is the
        # same in both forms.
        if (path is None or "%" in path) and self._was_rewritten():
            path = _percent_decoded(self._message.path if path is None else path)
        if path is not None and not args:
            args = one_argument(self._message.args)
        return path, args

    def _was_rewritten(self) -> bool:
        """Return True if something has rewritten the path before this call. Source: gateway contract, 5.1."""
        if self._first and self._phase is _PRE_REQ:
            return False
        try:
            return bool(self.var(_UPSTREAM_URI))
        except InfoUnavailable:  # before 2.9 there is no way to find out, so this assumes the common case
            return False


def _reply_message(call_id: int, action: Rewrite | None) -> HTTPReqCallResp:
    """Same as the constructor of HTTPReqCallResp, but C calls it directly."""
    self = HTTPReqCallResp.__new__(HTTPReqCallResp)
    self.id = call_id
    self.action = action
    return self


def printable_address(address: bytes) -> str:
    """Return an IP address as text. Args: address: 4 or 16 bytes; other lengths give ""."""
    family = _FAMILIES.get(len(address))
    return "" if family is None else inet_ntop(family, address)


def _percent_decoded(path: str) -> str:
    return unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
