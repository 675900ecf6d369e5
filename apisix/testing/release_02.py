# SPDX-License-Identifier: Apache-2.0
"""
`Request` and `Response` of release 0.2, for tests that call `filter` of a `PluginBase` plugin directly.

    request, response = Request(headers={"x-key": "wrong"}), Response()
    plugin.filter(plugin.config("{}"), request, response)
    assert response.get_status_code() == 401

They show what the plugin reads and sets. To examine what the client and the upstream get, use `apisix.testing.Client`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.http.metadata import Metadata
from apisix.runner.http.request import Request as RunnerRequest
from apisix.runner.legacy.plugin_base_request import PluginBaseRequest
from apisix.runner.legacy.plugin_base_response import PluginBaseResponse
from apisix.runner.wire.messages import ExtraInfoReq, HTTPReqCallReq, Info, ReqBody, Var

Pairs = Mapping[str, str | None] | Iterable[tuple[str, str | None]]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_T = TypeVar("_T")


class Request(PluginBaseRequest):
    """
    A request as `PluginBase.filter` receives it. Everything that is not given is empty, as in a `Request` of release 0.2 without data.

    Args:
        path: the decoded path, without query.
        headers, args: a mapping or pairs.
        body: what `get_body` returns. A str is encoded as UTF-8.
        vars: what `get_var` returns, by name.
        remote_addr: the client's address.
        configs: what `get_configs` returns.
    """

    def __init__(
        self,
        path: str = "",
        *,
        method: str = "",
        headers: Headers = (),
        args: Pairs = (),
        body: bytes | str = b"",
        vars: Mapping[str, str | bytes] | None = None,
        remote_addr: str = "",
        id: int = 0,
        conf_token: int = 0,
        configs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(request_of(path, method, headers, args, remote_addr, id, conf_token, _InfoReplies(body, vars or {})), configs)


class Response(PluginBaseResponse):
    """An empty response as `PluginBase.filter` receives it."""

    def __init__(self) -> None:
        super().__init__()


class _InfoReplies:
    """The gateway's info replies in a test."""

    def __init__(self, body: bytes | str, variables: Mapping[str, str | bytes]) -> None:
        self._results: dict[Info, bytes] = {ReqBody(): _encoded(body)}
        self._results.update((Var(name), _encoded(value)) for name, value in variables.items())

    def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        return [self._results.get(request.info) for request in requests]

    async def arequest_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        return self.request_info(requests)

    def offload(self, work: Callable[[], _T]) -> _T:
        return work()

    async def aoffload(self, work: Callable[[], _T]) -> _T:
        return work()

    def open_metadata(self, request_id: str) -> Metadata:
        return Metadata(MemoryMetadata(), request_id)


def request_of(
    path: str,
    method: str,
    headers: Headers,
    args: Pairs,
    remote_addr: str,
    id: int,
    conf_token: int,
    replies: _InfoReplies | None = None,
) -> RunnerRequest:
    """Return the runner's request from which a request of a legacy API is created. For the arguments, see `Request`."""
    address = ip_address(remote_addr).packed if remote_addr else b""
    message = HTTPReqCallReq(id, address, method, path, _pairs(args), _pairs(headers), conf_token)
    return RunnerRequest(message, replies or _InfoReplies(b"", {}))


def _pairs(given: Any) -> list[tuple[str, Any]]:
    return list(given.items() if isinstance(given, Mapping) else given)


def _encoded(value: bytes | str) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
