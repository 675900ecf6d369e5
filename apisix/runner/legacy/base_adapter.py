# SPDX-License-Identifier: Apache-2.0
"""
How a `Base` runs: the request and the response that its `filter` gets, and the hook that calls `filter`.

The request shows the edits of earlier plugins of the chain. What the plugin sets on the response becomes edits of the runner's `Request`.
Source: design, 3.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from apisix.runner import primitives
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.legacy.decision import STOP, Decision, current_decision
from apisix.runner.legacy.edits import check_body, given_mapping, given_number, read_back, refuse_awaitable, warn_once
from apisix.runner.legacy.header_dict import header_dict, with_values
from apisix.runner.legacy.values import full_address

_T = TypeVar("_T")
_ATTRIBUTES: Final = "id, conf_token, method, path, headers, args, src_ip"
_FIXED: Final = frozenset({"id", "conf_token", "method", "src_ip"})
_UNTOUCHED: Any = object()  # None can be assigned
_RELEASED: Final[Any] = None  # replaces an object's request after `filter`


class BaseRequest:
    """
    The request that `Base.filter` gets. Its attributes are computed when they are first read.

    Changing it does not edit the request. Only what the plugin sets on the response does.
    """

    # A plugin may set its own attributes, which later plugins of the chain can read.
    __slots__ = ("__dict__", "_args", "_assigned", "_headers", "_pairs", "_received_args", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pairs: list[tuple[str, str]] | None = None  # from which `headers` was made
        self._headers: dict[str, Any] = _UNTOUCHED
        self._args: dict[str, Any] = _UNTOUCHED
        self._received_args: list[tuple[str, str]] = []  # from which `args` was made
        self._assigned: dict[str, Any] | None = None  # the other attributes, which few plugins assign

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError with the names of the attributes. Python calls this only for an attribute that does not exist."""
        raise AttributeError(f"a request has no attribute {name!r}; it has {_ATTRIBUTES}")

    @property
    def headers(self) -> dict[str, Any]:
        """The headers, a copy in a dict whose lookups ignore case."""
        if self._headers is _UNTOUCHED:
            self._headers = header_dict(self.received_headers())
        return self._headers

    @headers.setter
    def headers(self, headers: dict[str, Any]) -> None:
        self._headers = headers

    def received_headers(self) -> list[tuple[str, str]]:
        """Return the headers of the request. They do not change while `filter` runs."""
        if self._pairs is None:
            self._pairs = self._request.headers.pairs()
        return self._pairs

    @property
    def args(self) -> dict[str, Any]:
        """The arguments, a copy in a dict."""
        if self._args is _UNTOUCHED:
            self._received_args = self._request.args.pairs()
            self._args = dict(self._received_args)
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
        return self._unless_assigned("src_ip", full_address(self._request.remote_addr))

    @src_ip.setter
    def src_ip(self, value: Any) -> None:
        self._assign("src_ip", value)

    def follow(self, earlier: "BaseRequest") -> None:
        """Copy the attributes that an earlier plugin of the chain assigned."""
        self._assigned = None if earlier._assigned is None else earlier._assigned.copy()
        vars(self).update(vars(earlier))

    def release(self) -> None:
        """Remove the reference to the request, which has a reference to this object."""
        self._request = _RELEASED

    def _unless_assigned(self, name: str, received: _T) -> _T:
        return received if self._assigned is None else self._assigned.get(name, received)

    def _assign(self, name: str, value: Any) -> None:
        if self._assigned is None:
            self._assigned = {}
        self._assigned[name] = value


class BaseResponse:
    """
    The response that `Base.filter` gets.

    If the plugin stops the chain, `headers`, `body` and `status_code` are sent to the client. If the request continues, `headers`, `args`
    and `path` become edits of the request. Assigning a value of another type raises TypeError. Assigning None has no effect.
    """

    __slots__ = ("_args", "_body", "_earlier", "_headers", "_path", "_status_code")

    def __init__(self) -> None:
        self._path: str | None = ""
        self._body: str | bytes | None = ""
        self._status_code: int | None = 0
        self._headers: dict[str, Any] | None = None
        self._args: dict[str, Any] | None = None
        self._earlier: BaseResponse | None = None  # the response of the previous `Base` of the chain

    @property
    def path(self) -> str | None:
        """The new path of the request. "" and None do not change it."""
        return self._path

    @path.setter
    def path(self, path: str | None) -> None:
        if path is not None and not isinstance(path, str):
            raise TypeError(f"response.path must be a str, got {type(path).__name__}")
        self._path = path

    @property
    def body(self) -> str | bytes | None:
        """The body of the response."""
        return self._body

    @body.setter
    def body(self, body: str | bytes | None) -> None:
        check_body(body)
        self._body = body

    @property
    def status_code(self) -> int | None:
        """The status of the response; 0 and None mean 200."""
        return self._status_code

    @status_code.setter
    def status_code(self, status_code: int | None) -> None:
        given_number("response.status_code", status_code)
        self._status_code = status_code

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the response, or the headers to set on the request."""
        if self._headers is None:
            self._headers = header_dict([])
        return self._headers

    @headers.setter
    def headers(self, headers: dict[str, Any] | None) -> None:
        given_mapping("response.headers", headers)
        self._headers = headers

    @property
    def args(self) -> dict[str, Any]:
        """The arguments to set on the request."""
        if self._args is None:
            self._args = {}
        return self._args

    @args.setter
    def args(self, args: dict[str, Any] | None) -> None:
        given_mapping("response.args", args)
        self._args = args

    def copy(self) -> "BaseResponse":
        """Return a copy for the next plugin of the chain. Its content becomes an edit again only if that plugin changes it."""
        other = base_response()
        other._path, other._body, other._status_code = self._path, self._body, self._status_code
        other._headers = None if self._headers is None else self._headers.copy()
        other._args = None if self._args is None else self._args.copy()
        other._earlier = self
        return other

    def rewrite(self, request: Request, seen: BaseRequest, plugin: str) -> None:
        """
        Apply what the plugin set on the response as edits of the request. Must be called after `filter` if the request continues.

        An entry with the same value as in the request is not an edit. The value None deletes the name. A name that is missing here is not
        changed.

        Args:
            seen: the request that `filter` got.
            plugin: the plugin's name, for warnings.
        Raises: TypeError, ValueError: a header, an argument or the path can't be sent.
        """
        path, headers, args = self._path, self._headers, self._args
        earlier = self._earlier
        if earlier is not None:
            path = None if path == earlier._path else path
            headers, args = _set_since(headers, earlier._headers), _set_since(args, earlier._args)
        if headers:
            read_back(request.headers, headers, seen.received_headers(), plugin)
        if args:
            read_back(request.args, args, request.args.pairs(), plugin)
        if path and path != request.path:
            request.path = path

    def reply(self) -> Reply:
        """
        Return the response to the client. Must be called after `filter`, if the plugin stopped the chain.

        Raises: TypeError, ValueError: it can't be sent.
        """
        headers = None if self._headers is None else with_values(self._headers)
        return Reply(self._status_code or 200, "" if self._body is None else self._body, headers)


def ignored_edits(seen: BaseRequest, response: BaseResponse) -> list[str]:
    """
    Return what a plugin set without effect, because the request continues. Each text includes what to do instead.

    Release 0.1 ignored these edits too. Edits of earlier plugins of the chain are not included.
    """
    found = []
    earlier = response._earlier or _NO_RESPONSE
    status_code, body = response._status_code, response._body
    if (status_code and status_code != earlier._status_code) or (body and body != earlier._body):
        found.append(
            "set response.status_code or response.body without self.stop(), so the request continues: call self.stop() in filter()"
        )
    headers = None if seen._headers is _UNTOUCHED else seen._headers
    if headers is not None and _has_unsent(headers, seen._pairs or [], response._headers):
        found.append("changed request.headers, which has no effect: assign to response.headers, where None deletes a header")
    args = None if seen._args is _UNTOUCHED else seen._args
    if args is not None and _has_unsent(args, seen._received_args, response._args):
        found.append("changed request.args, which has no effect: assign to response.args, where None deletes an argument")
    assigned = seen._assigned
    if assigned is not None:
        if "path" in assigned and assigned["path"] != response._path:
            found.append("assigned request.path, which has no effect: assign to response.path")
        found += [f"assigned request.{name}, which has no effect: the protocol can't change it" for name in assigned if name in _FIXED]
    return found


_NO_RESPONSE: Final = BaseResponse()


def _has_unsent(shown: dict[str, Any], received: list[tuple[str, str]], sent: dict[str, Any] | None) -> bool:
    """Return True if a plugin changed a dict of the request, and the dict of the response does not contain the change."""
    if shown is sent and len(shown) >= len(received):
        return False
    sent = sent or {}
    before = dict(received)
    if any(before.get(name) != value and sent.get(name) != value for name, value in shown.items()):
        return True
    return any(name not in shown and sent.get(name, _UNTOUCHED) is not None for name in before)


def _set_since(entries: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the entries that are new or have another value than before."""
    if not entries or not before:
        return entries
    return {name: value for name, value in entries.items() if before.get(name, _UNTOUCHED) != value}


def shared_objects(request: Request) -> tuple[BaseRequest, BaseResponse]:
    """
    Return the request and the response for the next plugin of a chain with several `Base` plugins.

    Release 0.1 passed the same two objects to all of them. So the response contains what earlier plugins set on it, and the request has the
    attributes that they assigned. `release` must be called on the request after `filter`.
    """
    seen, response = base_request(request), base_response()
    adapters = request._adapters or {}
    if "Base" in adapters:
        earlier, response = adapters["Base"]
        seen.follow(earlier)
        response = response.copy()
    request._adapters = {**adapters, "Base": (seen, response)}
    return seen, response


def base_request(request: Request) -> BaseRequest:
    """Return a BaseRequest. This is faster than the constructor."""
    seen = BaseRequest.__new__(BaseRequest)
    seen._request = request
    seen._headers = seen._args = _UNTOUCHED
    seen._pairs = seen._assigned = None
    seen._received_args = []
    return seen


def base_response() -> BaseResponse:
    """Return a BaseResponse. This is faster than the constructor."""
    response = BaseResponse.__new__(BaseResponse)
    response._path = response._body = ""
    response._status_code = 0
    response._headers = response._args = response._earlier = None
    return response


def base_hook(plugin: Any, name: str, shares: bool) -> Callable[[Request], Reply | None]:
    """
    Return the function that runs a `Base` for one call.

    Args:
        plugin: the instance, with its `config`. All calls of the route configuration run on it.
        name: the plugin's name in routes, for warnings.
        shares: True if the chain has several `Base` plugins, which then share the request and the response.
    """
    plugin._serves = True

    def hook(request: Request) -> Reply | None:
        return run_base(plugin, name, request, base_request(request), base_response())

    def sharing_hook(request: Request) -> Reply | None:
        seen, response = shared_objects(request)
        try:
            return run_base(plugin, name, request, seen, response)
        finally:
            seen.release()

    return sharing_hook if shares else hook


def run_base(plugin: Any, name: str, request: Request, seen: BaseRequest, response: BaseResponse) -> Reply | None:
    """Call `filter`. Return the reply if it stopped the chain; otherwise apply its edits and return None."""
    decision = Decision(plugin, plugin._action)
    primitives.set_variable(current_decision, decision)
    try:
        result = plugin.filter(seen, response)
    finally:
        decision.plugin = None  # also ends the decision in copies of the context, unlike resetting the variable
    if result is not None:
        refuse_awaitable(result)
    if decision.action == STOP:
        return response.reply()
    response.rewrite(request, seen, name)
    for what in ignored_edits(seen, response):
        warn_once(name, what)
    return None
