# SPDX-License-Identifier: Apache-2.0
"""A client's request, as plugins see and edit it."""

from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

from apisix.runner.http.asking import Asking
from apisix.runner.http.bodies import checked_body
from apisix.runner.http.exchange import Exchange, forbid_assignment
from apisix.runner.http.fields import check_text, sendable_headers
from apisix.runner.http.headers import Args, ClientHeaders, RequestHeaders
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.wire.entries import TextEntries
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPReqCallResp, ReqBody, Rewrite, Stop

_FAMILIES = {4: AF_INET, 16: AF_INET6}


class Request(Exchange):
    """
    A client's request, on its way to the upstream.

    Plain assignment and deletion are the API: `request.path = ...`, `del request.headers["cookie"]`,
    `request.args.add("x", "1")`, `request.body = b"..."`. Only what changed is sent. What the protocol can't do raises
    UnsupportedEdit at the line that tries.

    Args:
        message: what the gateway sent.
        asking: the I/O for what has to be fetched.
        phase: when this happens; None where the gateway does not say.
        route_key: the key of the route's configuration; None where the gateway does not send one.
    """

    __slots__ = ("_args", "_message", "_path", "_phase", "_response_headers", "_route_key")

    _kind: ClassVar[str] = "request"
    _body_info: ClassVar[ReqBody] = ReqBody()

    _headers: RequestHeaders | None
    _args: Args | None
    _response_headers: ClientHeaders | None

    def __init__(self, message: HTTPReqCallReq, asking: Asking, *, phase: Phase | None = None, route_key: str | None = None) -> None:
        self._message = message
        self._asking = asking
        self._phase = phase
        self._route_key = route_key
        self._path: str | None = None
        self._answers = self._args = self._headers = self._response_headers = self._body = self._context = None

    # What came.

    @property
    def id(self) -> int:
        """The gateway's number of the call. The first one is 0; it is no request id, that is `var("request_id")`."""
        return self._message.id

    @property
    def method(self) -> str:
        """The method, in capitals."""
        return self._message.method

    @property
    def remote_addr(self) -> str:
        """The client's address, IPv4 or IPv6; "" where the gateway sent none."""
        address = self._message.src_ip
        family = _FAMILIES.get(len(address))
        return "" if family is None else inet_ntop(family, address)

    @property
    def phase(self) -> Phase | None:
        """When this happens, before or after the gateway's own plugins; None where the gateway does not say."""
        return self._phase

    @property
    def route_key(self) -> str | None:
        """The key of the route's configuration, such as `route#1#ext-plugin-pre-req#42`; None where there is none."""
        return self._route_key

    @property
    def conf_token(self) -> int:
        """The token of the route's configuration, for plugins of older generations."""
        return self._message.conf_token

    # What can be edited.

    @property
    def path(self) -> str:
        """
        The path, without the query: decoded, but in ext-plugin-post-req after a proxy-rewrite, where it is percent-encoded.

        Raises: on assignment, TypeError: it is no str. ValueError: it does not begin with "/".
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
        """The headers, a CIMultiDict; their names come in lower case. `host` also sets the host that the upstream sees."""
        headers = self._headers
        if headers is None:
            headers = self._headers = RequestHeaders(self._message.headers)
        return headers

    @property
    def args(self) -> Args:
        """The query's arguments, decoded, a MultiDict. An argument without value (`?flag`) reads as ""."""
        args = self._args
        if args is None:
            args = self._args = Args(self._message.args)
        return args

    @property
    def response_headers(self) -> ClientHeaders:
        """Headers to set on the client's response, where the request goes on. A Reply has headers of its own."""
        headers = self._response_headers
        if headers is None:
            headers = self._response_headers = ClientHeaders()
        return headers

    @property
    def body(self) -> bytes:
        """
        The body: what was assigned, else what `read()` gives.

        Raises:
            WrongContext: as `read()`.
            UnsupportedEdit: on assignment, it is empty, or longer than a frame. TypeError: it is not bytes.
        """
        return self._raw("read")

    @body.setter
    def body(self, body: bytes) -> None:
        self._body = checked_body("request", body)

    def _content_length(self) -> str | None:
        entries = self._message.headers
        index = entries.find(b"content-length", ignore_case=True)
        return None if index < 0 else entries.value(index)

    def undo_path(self) -> None:
        """Forget an assigned path."""
        self._path = None

    def undo_body(self) -> None:
        """Forget an assigned body."""
        self._body = None

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
        twin._path = self._path
        twin._body = self._body
        twin._answers = self._cache()
        twin._context = self.context
        twin._headers = None if self._headers is None else self._headers.copy()
        twin._args = None if self._args is None else self._args.copy()
        twin._response_headers = None if self._response_headers is None else self._response_headers.copy()
        return twin

    def to_message(self, reply: Reply | None = None) -> HTTPReqCallResp:
        """
        Return what the gateway is told: the reply, or the edits, or to let the request pass.

        May ask for a variable, where path or arguments changed after the gateway's own plugins ran.
        Source: gateway contract, 5.

        Raises: TypeError, ValueError: a header of the reply can't be sent.
        """
        call_id = self._message.id
        if reply is not None:
            return HTTPReqCallResp(call_id, Stop(reply.status, sendable_headers(reply.headers.items()), reply.body))
        headers = () if self._headers is None else self._headers.changes()
        args = () if self._args is None else self._args.changes()
        path = self._path
        if path is not None and path == self._message.path:
            path = None
        if path is not None or args:
            path, args = self._path_and_args(path, args)
        client_headers = () if self._response_headers is None else tuple(self._response_headers.items())
        body = self._body or b""
        if path is None and not (headers or args or client_headers or body):
            return HTTPReqCallResp(call_id)
        return HTTPReqCallResp(call_id, Rewrite(path, headers, args, client_headers, body))

    def _path_and_args(self, path: str | None, args: Any) -> tuple[str | None, Any]:
        if self._phase is not Phase.PRE_REQ and self.var("upstream_uri"):
            # proxy-rewrite ran: the path is percent-encoded, and the gateway encodes what it is sent. Where only
            # arguments changed, they are lost unless the path is sent too.
            path = _percent_decoded(self._message.path if path is None else path)
        if path is not None and not args:
            args = _one_argument(self._message.args)
        return path, args


forbid_assignment(
    Request,
    {
        "id": "it is the gateway's number of the call",
        "method": "the protocol can't change a request's method",
        "remote_addr": "the protocol can't change the client's address; a header such as x-forwarded-for can be set",
        "conf_token": "the gateway chose it",
        "phase": "it says when this happens",
        "route_key": "it says which configuration runs, and the protocol can't choose another route or upstream",
        "headers": 'edit them in place, as in request.headers["x-a"] = "1" or request.headers.update(...)',
        "args": 'edit them in place, as in request.args["a"] = "1" or request.args.update(...)',
        "response_headers": 'edit them in place, as in request.response_headers["x-a"] = "1"',
        "context": "the plugins of one chain share it; edit it in place",
    },
)


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
