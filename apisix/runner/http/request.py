# SPDX-License-Identifier: Apache-2.0
"""A client's request, as plugins see and edit it."""

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, Final, Never
from urllib.parse import quote, unquote_to_bytes

from multidict import MultiDictProxy

from apisix.runner.errors import InfoUnavailable
from apisix.runner.http.bodies import checked_body
from apisix.runner.http.cookies import request_cookies
from apisix.runner.http.exchange import Exchange, unsupported
from apisix.runner.http.fields import check_text
from apisix.runner.http.headers import Args, ClientHeaders, RequestHeaders, args_of, client_headers, request_headers_of
from apisix.runner.http.info_requests import Asking
from apisix.runner.http.phase import Phase
from apisix.runner.http.redaction import names_shown
from apisix.runner.http.reply import Reply, stop_message
from apisix.runner.wire.call_messages import HTTPReqCallReq, HTTPReqCallResp, Rewrite
from apisix.runner.wire.entries import NO_ENTRIES, TextEntries, owned_entries
from apisix.runner.wire.messages import ReqBody

_PRE_REQ: Final = Phase.PRE_REQ  # looking into an enum is expensive
_UPSTREAM_URI: Final = "upstream_uri"
_HAVE_BODIES: Final = frozenset({"POST", "PUT", "PATCH"})
_FAMILIES = {4: AF_INET, 16: AF_INET6}


class Request(Exchange):
    """
    A client's request.

    Assign attributes and edit `headers` and `args` in place. Only changes are sent to the gateway. If an edit can't be sent, the line
    that makes it raises UnsupportedEdit.

    Args:
        message: the message from the gateway.
        asking: the I/O for info requests.
        phase: the phase of the call; None if the gateway does not send it.
        route_key: the key of the route configuration; None if the gateway does not send it.
        first: true if nothing rewrites the path before ext-plugin-pre-req, so that no info request is needed to find out.
    """

    __slots__ = ("_args", "_first", "_headers", "_legacy", "_message", "_path", "_phase", "_response_headers", "_route_key")

    _kind = "request"
    _body_info = ReqBody()

    def __init__(
        self, message: HTTPReqCallReq, asking: Asking, phase: Phase | None = None, route_key: str | None = None, first: bool = False
    ) -> None:
        self._begin(asking)
        self._first = first
        self._message = message
        self._phase = phase
        self._route_key = route_key
        # Made when first touched.
        self._headers: RequestHeaders | None = None
        self._args: Args | None = None
        self._response_headers: ClientHeaders | None = None
        self._path: str | None = None
        # What several plugins of an earlier API share in one chain, by the name of that API.
        self._legacy: dict[str, Any] | None = None

    # What came.

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
        address = self._message.src_ip
        family = _FAMILIES.get(len(address))
        return "" if family is None else inet_ntop(family, address)

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
        raise unsupported("request.phase", "it says when this happens")

    @property
    def route_key(self) -> str | None:
        """The key of the route configuration, such as `route#1#ext-plugin-pre-req#42`. None before APISIX 2.9."""
        return self._route_key

    @route_key.setter
    def route_key(self, value: Never) -> None:
        raise unsupported("request.route_key", "it says which configuration runs, and the protocol can't choose another route or upstream")

    @property
    def conf_token(self) -> int:
        """The token of the route configuration, for the legacy APIs."""
        return self._message.conf_token

    @conf_token.setter
    def conf_token(self, value: Never) -> None:
        raise unsupported("request.conf_token", "the gateway chose it")

    # What can be edited.

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
            headers = self._headers = request_headers_of(self._message.came_headers())
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
            args = self._args = args_of(self._message.came_args())
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
        came = self._message.args.decoded()
        pairs = came
        if self._args is not None:
            flags = {name for name, value in came if value is None}
            args = self._args
            pairs = [(name, None if name in flags and not args.changed(name) else value) for name, value in args.items()]
        return "&".join([_quoted(name) if value is None else f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])

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
            headers = self._response_headers = client_headers()
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
        checked = checked_body("request", body, self._came_empty)
        self._body = None if checked is not None and self._came_as(checked) else checked

    def _content_length(self) -> str | None:
        entries = self._message.headers
        index = entries.find(b"content-length", ignore_case=True)
        return None if index < 0 else entries.value(index)

    def _may_be_withheld(self) -> bool:
        if self._message.method not in _HAVE_BODIES:
            return False
        entries = self._message.headers
        return entries.find(b"content-length", ignore_case=True) < 0 and entries.find(b"transfer-encoding", ignore_case=True) < 0

    def undo_path(self) -> None:
        """Forget an assigned path."""
        self._path = None

    def undo_body(self) -> None:
        """Forget an assigned body."""
        self._body = None

    def __repr__(self) -> str:
        headers, args = names_shown(self.headers), names_shown(self.args)
        return f"<{type(self).__name__} {self.method} {self.path!r}, arguments: {args}; headers: {headers}>"

    # The runner's side.

    def mark(self) -> tuple[Any, ...]:
        """Return the state of all that can be edited, to be compared with what this returns later."""
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
        Return a detached twin with the same edits so far. Both share `context` and the answers that were fetched.

        Used to go back to the state before a plugin that failed, and to leave a thread alone that hangs.
        """
        twin = Request.__new__(Request)
        twin._message = self._message
        twin._asking = self._asking
        twin._phase = self._phase
        twin._route_key = self._route_key
        twin._first = self._first
        twin._legacy = self._legacy  # replaced, never changed
        twin._path = self._path
        twin._body = self._body
        twin._answers = self._cache()
        twin._context = self.context
        twin._headers = None if self._headers is None else self._headers.copy()
        twin._args = None if self._args is None else self._args.copy()
        twin._response_headers = None if self._response_headers is None else self._response_headers.copy()
        return twin

    def reply_might_ask(self) -> bool:
        """Tell whether `to_message` might have to ask the gateway for something."""
        if self._first and self._phase is _PRE_REQ:
            return False
        path = self._path
        if path is not None and path != self._message.path:
            return "%" in path
        return self._args is not None and bool(self._args.changes())

    def to_message(self, reply: Reply | None = None) -> HTTPReqCallResp:
        """
        Return what the gateway is told: the reply, or the edits, or to let the request pass.

        May ask for a variable, if arguments or a path that contains a percent sign changed.
        Source: gateway contract, 5.

        Raises: TypeError, ValueError: a header of the reply can't be sent.
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
            return _answer(call_id, None)
        rewrite = Rewrite.__new__(Rewrite)  # as in `_answer`
        rewrite.path = path
        rewrite.headers = owned_entries(headers) if headers else NO_ENTRIES
        rewrite.args = owned_entries(args) if args else NO_ENTRIES
        rewrite.resp_headers = owned_entries(client_headers) if client_headers else NO_ENTRIES
        rewrite.body = body or b""
        return _answer(call_id, rewrite)

    def _path_and_args(self, path: str | None, args: Any) -> tuple[str | None, Any]:
        # If something has rewritten the path, it is percent-encoded, and the gateway encodes what it is sent: so it has to be decoded.
        # And if only arguments changed, they are lost unless the path is sent too. A path without "%" is the same either way.
        if (path is None or "%" in path) and self._was_rewritten():
            path = _percent_decoded(self._message.path if path is None else path)
        if path is not None and not args:
            args = _one_argument(self._message.args)
        return path, args

    def _was_rewritten(self) -> bool:
        """Return whether something has rewritten the path before this call. Source: gateway contract, 5.1."""
        if self._first and self._phase is _PRE_REQ:
            return False
        try:
            return bool(self.var(_UPSTREAM_URI))
        except InfoUnavailable:  # before 2.9 there is no way to know, so this assumes the common case
            return False


def _answer(call_id: int, action: Rewrite | None) -> HTTPReqCallResp:
    """Return the message that its constructor makes, in C at half the cost."""
    self = HTTPReqCallResp.__new__(HTTPReqCallResp)
    self.id = call_id
    self.action = action
    return self


def _quoted(text: str) -> str:
    return quote(text, safe="/:@,", errors="surrogateescape")


def _percent_decoded(path: str) -> str:
    return unquote_to_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _one_argument(entries: TextEntries) -> list[tuple[str, str]]:
    """
    Return the values of one argument, to be sent unchanged: before 3.16 a path without arguments drops the query.

    One that has values is preferred, since an entry without value deletes; of `?flag` alone, `flag=` is what comes nearest.
    Source: gateway contract, 5.1.
    """
    pairs = entries.decoded()
    if not pairs:
        return []
    flags = {name for name, value in pairs if value is None}
    chosen = next((name for name, _ in pairs if name not in flags), pairs[0][0])
    return [(name, value or "") for name, value in pairs if name == chosen]
