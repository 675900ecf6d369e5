# SPDX-License-Identifier: Apache-2.0
"""
The requests and responses of the two older generations of plugins, over the new Request.

`BaseRequest` and `BaseResponse`, those of the article of 2021, are written here, `PluginBaseRequest` and `PluginBaseResponse`,
those of release 0.2, in `legacy_core`. Both see the edits that earlier plugins of the chain made, and theirs go into the same
Request. Source: design, 3.
"""

from collections.abc import Callable
from typing import Any, Final

from apisix.runner.http.dicts import HeaderDict, read_back
from apisix.runner.http.legacy_core import PluginBaseRequest, PluginBaseResponse
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request

__all__ = ["BaseRequest", "BaseResponse", "PluginBaseRequest", "PluginBaseResponse"]


class BaseRequest:
    """
    The request that `Base.filter` gets: attributes, computed when first looked at.

    Nothing that is done to it is an edit; what is assigned to the response is.
    """

    __slots__ = ("_request", "args", "conf_token", "headers", "id", "method", "path", "src_ip")

    id: int
    conf_token: int
    method: str
    path: str
    headers: dict[str, Any]
    args: dict[str, Any]
    src_ip: str

    def __init__(self, request: Request) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        """Compute an attribute: Python comes here only while its slot is empty."""
        compute = _BASE_REQUEST.get(name)
        if compute is None:
            raise AttributeError(f"a request has no attribute {name!r}, it has {', '.join(_BASE_REQUEST)}")
        value = compute(self._request)
        setattr(self, name, value)
        return value


_BASE_REQUEST: Final[dict[str, Callable[[Request], Any]]] = {
    "id": lambda request: request.id,
    "conf_token": lambda request: request.conf_token,
    "method": lambda request: request.method,
    "path": lambda request: request.path,
    "headers": lambda request: HeaderDict(request.headers.pairs()),
    "args": lambda request: dict(request.args.pairs()),
    "src_ip": lambda request: request.remote_addr,
}


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
            self._headers = HeaderDict()
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

    def rewrite(self, request: Request) -> None:
        """
        Make edits of the request of what the plugin set here. Must be called after `filter`, unless it stopped.

        An entry that is as in the request is no edit, None deletes, and a name that is missing is left alone.

        Raises: TypeError, ValueError: a header, an argument or the path can't be sent.
        """
        if self._headers:
            read_back(request.headers, self._headers, dict(request.headers.pairs()))
        if self._args:
            read_back(request.args, self._args, dict(request.args.pairs()))
        if self.path and self.path != request.path:
            request.path = self.path

    def reply(self) -> Reply:
        """
        Return the answer to the client that the plugin put together here. Must be called after `filter`, where it stopped.

        Raises: TypeError, ValueError: it can't be sent.
        """
        headers = [(name, value) for name, value in (self._headers or {}).items() if value is not None]
        return Reply(self.status_code or 200, "" if self.body is None else self.body, headers)
