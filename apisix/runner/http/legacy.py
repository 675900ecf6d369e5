# SPDX-License-Identifier: Apache-2.0
"""
The requests and responses of the two older generations of plugins, over the new Request.

`BaseRequest` and `BaseResponse`, those of the article of 2021, are written here, `PluginBaseRequest` and `PluginBaseResponse`,
those of release 0.2, in `legacy_core`. Both see the edits that earlier plugins of the chain made, and theirs go into the same
Request. Source: design, 3.
"""

from typing import Any, Final, TypeVar

from apisix.runner.http.dicts import header_dict, read_back, with_values
from apisix.runner.http.legacy_core import PluginBaseRequest, PluginBaseResponse
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request

__all__ = ["BaseRequest", "BaseResponse", "PluginBaseRequest", "PluginBaseResponse"]

_T = TypeVar("_T")
_ATTRIBUTES: Final = "id, conf_token, method, path, headers, args, src_ip"
_UNTOUCHED: Any = object()  # None can be assigned


class BaseRequest:
    """
    The request that `Base.filter` gets: attributes, computed when first looked at.

    Nothing that is done to it is an edit; what is assigned to the response is.
    """

    __slots__ = ("_args", "_assigned", "_headers", "_pairs", "_request")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pairs: list[tuple[str, str]] | None = None  # what `headers` were made of
        self._headers: dict[str, Any] = _UNTOUCHED
        self._args: dict[str, Any] = _UNTOUCHED
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
            self._args = dict(self._request.args.pairs())
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
        return self._unless_assigned("src_ip", self._request.remote_addr)

    @src_ip.setter
    def src_ip(self, value: Any) -> None:
        self._assign("src_ip", value)

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
    `headers`, `args` and `path` rewrite the request.
    """

    __slots__ = ("_args", "_headers", "body", "path", "status_code")

    def __init__(self) -> None:
        self.path: str | None = ""
        self.body: str | bytes | None = ""
        self.status_code: int | None = 0
        self._headers: dict[str, Any] | None = None
        self._args: dict[str, Any] | None = None

    @property
    def headers(self) -> dict[str, Any]:
        """The headers of the answer, or those of the request to set."""
        if self._headers is None:
            self._headers = header_dict([])
        return self._headers

    @headers.setter
    def headers(self, headers: dict[str, Any] | None) -> None:
        self._headers = headers

    @property
    def args(self) -> dict[str, Any]:
        """The arguments of the request to set."""
        if self._args is None:
            self._args = {}
        return self._args

    @args.setter
    def args(self, args: dict[str, Any] | None) -> None:
        self._args = args

    def rewrite(self, request: Request, seen: BaseRequest) -> None:
        """
        Make edits of the request of what the plugin set here. Must be called after `filter`, unless it stopped.

        An entry that is as in the request is no edit, None deletes, and a name that is missing is left alone.

        Args: seen: what `filter` got for the request.
        Raises: TypeError, ValueError: a header, an argument or the path can't be sent.
        """
        if self._headers:
            read_back(request.headers, self._headers, seen.came_headers())
        if self._args:
            read_back(request.args, self._args, request.args.pairs())
        if self.path and self.path != request.path:
            request.path = self.path

    def reply(self) -> Reply:
        """
        Return the answer to the client that the plugin put together here. Must be called after `filter`, where it stopped.

        Raises: TypeError, ValueError: it can't be sent.
        """
        headers = None if self._headers is None else with_values(self._headers)
        return Reply(self.status_code or 200, "" if self.body is None else self.body, headers)


def base_request(request: Request) -> BaseRequest:
    """Make a BaseRequest, in a third of the time that the constructor takes."""
    seen = BaseRequest.__new__(BaseRequest)
    seen._request = request
    seen._headers = seen._args = _UNTOUCHED
    seen._pairs = seen._assigned = None
    return seen


def base_response() -> BaseResponse:
    """Do the same for a BaseResponse."""
    response = BaseResponse.__new__(BaseResponse)
    response.path = response.body = ""
    response.status_code = 0
    response._headers = response._args = None
    return response
