# SPDX-License-Identifier: Apache-2.0
"""
The requests and responses of the two older generations of plugins, over the new Request.

`BaseRequest` and `BaseResponse`, those of the article of 2021, are written here, `PluginBaseRequest` and `PluginBaseResponse`,
those of release 0.2, in `legacy_core`. Both see the edits that earlier plugins of the chain made, and theirs go into the same
Request. Source: design, 3.
"""

from typing import Any, Final, TypeVar

from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.legacy.dicts import given_body, given_mapping, given_number, header_dict, read_back, with_values
from apisix.runner.legacy.release_02 import PluginBaseRequest, PluginBaseResponse, exploded

__all__ = ["BaseRequest", "BaseResponse", "PluginBaseRequest", "PluginBaseResponse"]

_T = TypeVar("_T")
_ATTRIBUTES: Final = "id, conf_token, method, path, headers, args, src_ip"
_FIXED: Final = frozenset({"id", "conf_token", "method", "src_ip"})
_UNTOUCHED: Any = object()  # None can be assigned
_RELEASED: Final[Any] = None  # what an object has in the place of its request after `filter`


class BaseRequest:
    """
    The request that `Base.filter` gets: attributes, computed when first looked at.

    Nothing that is done to it is an edit; what is assigned to the response is.
    """

    # A plugin may set attributes of its own, for those that follow in the chain.
    __slots__ = ("__dict__", "_args", "_assigned", "_came_args", "_headers", "_pairs", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pairs: list[tuple[str, str]] | None = None  # what `headers` were made of
        self._headers: dict[str, Any] = _UNTOUCHED
        self._args: dict[str, Any] = _UNTOUCHED
        self._came_args: list[tuple[str, str]] = []  # what `args` were made of
        self._assigned: dict[str, Any] | None = None  # the other attributes, of which few plugins assign one

    def __getattr__(self, name: str) -> Any:
        """Say what there is: Python comes here only for what there is not."""
        raise AttributeError(f"a request has no attribute {name!r}, it has {_ATTRIBUTES}")

    @property
    def headers(self) -> dict[str, Any]:
        """The headers, a detached dict that knows no case."""
        if self._headers is _UNTOUCHED:
            self._headers = header_dict(self.came_headers())
        return self._headers

    @headers.setter
    def headers(self, headers: dict[str, Any]) -> None:
        self._headers = headers

    def came_headers(self) -> list[tuple[str, str]]:
        """Return the headers that the request has, and keeps until `filter` has returned."""
        if self._pairs is None:
            self._pairs = self._request.headers.pairs()
        return self._pairs

    @property
    def args(self) -> dict[str, Any]:
        """The arguments, a detached dict."""
        if self._args is _UNTOUCHED:
            self._came_args = self._request.args.pairs()
            self._args = dict(self._came_args)
        return self._args

    @args.setter
    def args(self, args: dict[str, Any]) -> None:
        self._args = args

    @property
    def id(self) -> int:
        """The gateway's number of the call."""
        return self._unless_assigned("id", self._request.id)

    @id.setter
    def id(self, value: Any) -> None:
        self._assign("id", value)

    @property
    def conf_token(self) -> int:
        """The token of the configuration."""
        return self._unless_assigned("conf_token", self._request.conf_token)

    @conf_token.setter
    def conf_token(self, value: Any) -> None:
        self._assign("conf_token", value)

    @property
    def method(self) -> str:
        """The method, in capitals."""
        return self._unless_assigned("method", self._request.method)

    @method.setter
    def method(self, value: Any) -> None:
        self._assign("method", value)

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self._unless_assigned("path", self._request.path)

    @path.setter
    def path(self, value: Any) -> None:
        self._assign("path", value)

    @property
    def src_ip(self) -> str:
        """The client's address."""
        return self._unless_assigned("src_ip", exploded(self._request.remote_addr))

    @src_ip.setter
    def src_ip(self, value: Any) -> None:
        self._assign("src_ip", value)

    def follow(self, earlier: "BaseRequest") -> None:
        """Take over the attributes that an earlier plugin of the chain assigned."""
        self._assigned = None if earlier._assigned is None else earlier._assigned.copy()
        vars(self).update(vars(earlier))

    def release(self) -> None:
        """Let go of the request, which refers to this object."""
        self._request = _RELEASED

    def _unless_assigned(self, name: str, came: _T) -> _T:
        return came if self._assigned is None else self._assigned.get(name, came)

    def _assign(self, name: str, value: Any) -> None:
        if self._assigned is None:
            self._assigned = {}
        self._assigned[name] = value


class BaseResponse:
    """
    The response that `Base.filter` gets.

    When the plugin stops the chain, `headers`, `body` and `status_code` answer the client. When it lets the request go on,
    `headers`, `args` and `path` rewrite the request. A value of another type raises TypeError where it is assigned; None is as if nothing
    had been assigned.
    """

    __slots__ = ("_args", "_body", "_earlier", "_headers", "_path", "_status_code")

    def __init__(self) -> None:
        self._path: str | None = ""
        self._body: str | bytes | None = ""
        self._status_code: int | None = 0
        self._headers: dict[str, Any] | None = None
        self._args: dict[str, Any] | None = None
        self._earlier: BaseResponse | None = None  # as the plugin before in the chain left it

    @property
    def path(self) -> str | None:
        """The path of the request to set. "" and None leave it as it is."""
        return self._path

    @path.setter
    def path(self, path: str | None) -> None:
        if path is not None and not isinstance(path, str):
            raise TypeError(f"response.path must be a str, got {type(path).__name__}")
        self._path = path

    @property
    def body(self) -> str | bytes | None:
        """The body of the answer."""
        return self._body

    @body.setter
    def body(self, body: str | bytes | None) -> None:
        given_body(body)
        self._body = body

    @property
    def status_code(self) -> int | None:
        """The status of the answer, 200 if it is 0 or None."""
        return self._status_code

    @status_code.setter
    def status_code(self, status_code: int | None) -> None:
        given_number("response.status_code", status_code)
        self._status_code = status_code

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the answer, or those of the request to set."""
        if self._headers is None:
            self._headers = header_dict([])
        return self._headers

    @headers.setter
    def headers(self, headers: dict[str, Any] | None) -> None:
        given_mapping("response.headers", headers)
        self._headers = headers

    @property
    def args(self) -> dict[str, Any]:
        """The arguments of the request to set."""
        if self._args is None:
            self._args = {}
        return self._args

    @args.setter
    def args(self, args: dict[str, Any] | None) -> None:
        given_mapping("response.args", args)
        self._args = args

    def copy(self) -> "BaseResponse":
        """Return a response for the next plugin of the chain. What this one holds is an edit already, unless it is changed."""
        other = base_response()
        other._path, other._body, other._status_code = self._path, self._body, self._status_code
        other._headers = None if self._headers is None else self._headers.copy()
        other._args = None if self._args is None else self._args.copy()
        other._earlier = self
        return other

    def rewrite(self, request: Request, seen: BaseRequest) -> None:
        """
        Make edits of the request of what the plugin set here. Must be called after `filter`, unless it stopped.

        An entry that is as in the request is no edit, None deletes, and a name that is missing is left alone.

        Args: seen: what `filter` got for the request.
        Raises: TypeError, ValueError: a header, an argument or the path can't be sent.
        """
        path, headers, args = self._path, self._headers, self._args
        earlier = self._earlier
        if earlier is not None:
            path = None if path == earlier._path else path
            headers, args = _set_since(headers, earlier._headers), _set_since(args, earlier._args)
        if headers:
            read_back(request.headers, headers, seen.came_headers())
        if args:
            read_back(request.args, args, request.args.pairs())
        if path and path != request.path:
            request.path = path

    def reply(self) -> Reply:
        """
        Return the answer to the client that the plugin put together here. Must be called after `filter`, where it stopped.

        Raises: TypeError, ValueError: it can't be sent.
        """
        headers = None if self._headers is None else with_values(self._headers)
        return Reply(self._status_code or 200, "" if self._body is None else self._body, headers)


def ignored_edits(seen: BaseRequest, response: BaseResponse) -> list[str]:
    """
    Return what a plugin that lets the request go on did without effect, each with the line to write instead.

    Release 0.1 ignored the same. What earlier plugins of the chain did is not repeated.
    """
    found = []
    earlier = response._earlier or _NO_RESPONSE
    status_code, body = response._status_code, response._body
    if (status_code and status_code != earlier._status_code) or (body and body != earlier._body):
        found.append("set response.status_code or response.body without self.stop(), so the request goes on: call self.stop() in filter()")
    headers = None if seen._headers is _UNTOUCHED else seen._headers
    if _has_unsent(headers, seen._pairs or [], response._headers):
        found.append("changed request.headers, which does nothing: assign to response.headers, and None there deletes a header")
    args = None if seen._args is _UNTOUCHED else seen._args
    if _has_unsent(args, seen._came_args, response._args):
        found.append("changed request.args, which does nothing: assign to response.args, and None there deletes an argument")
    assigned = seen._assigned or {}
    if "path" in assigned and assigned["path"] != response._path:
        found.append("assigned request.path, which does nothing: assign to response.path")
    found += [f"assigned request.{name}, which does nothing: the protocol can't change it" for name in assigned if name in _FIXED]
    return found


_NO_RESPONSE: Final = BaseResponse()


def _has_unsent(shown: dict[str, Any] | None, came: list[tuple[str, str]], sent: dict[str, Any] | None) -> bool:
    """Return whether a dict of the request was changed in a way that the dict of the response does not repeat."""
    if shown is None or (shown is sent and len(shown) >= len(came)):
        return False
    sent = sent or {}
    before = dict(came)
    if any(before.get(name) != value and sent.get(name) != value for name, value in shown.items()):
        return True
    return any(name not in shown and sent.get(name, _UNTOUCHED) is not None for name in before)


def _set_since(entries: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the entries that differ from what they were before."""
    if not entries or not before:
        return entries
    return {name: value for name, value in entries.items() if before.get(name, _UNTOUCHED) != value}


def next_base_exchange(request: Request) -> tuple[BaseRequest, BaseResponse]:
    """
    Return the request and the response for the next of several `Base` plugins in a chain.

    Release 0.1 gave the same two objects to all of them: the response has everything that earlier plugins set, and the request has the
    attributes that they assigned. `release` must be called on the request after `filter`.
    """
    seen, response = base_request(request), base_response()
    legacy = request._legacy or {}
    if "Base" in legacy:
        earlier, response = legacy["Base"]
        seen.follow(earlier)
        response = response.copy()
    request._legacy = {**legacy, "Base": (seen, response)}
    return seen, response


def base_request(request: Request) -> BaseRequest:
    """Make a BaseRequest, in a third of the time that the constructor takes."""
    seen = BaseRequest.__new__(BaseRequest)
    seen._request = request
    seen._headers = seen._args = _UNTOUCHED
    seen._pairs = seen._assigned = None
    seen._came_args = []
    return seen


def base_response() -> BaseResponse:
    """Do the same for a BaseResponse."""
    response = BaseResponse.__new__(BaseResponse)
    response._path = response._body = ""
    response._status_code = 0
    response._headers = response._args = response._earlier = None
    return response
