# SPDX-License-Identifier: Apache-2.0
"""The keyword arguments of the test client, for type checkers. `Client.request` and `Client.respond` describe them."""

from collections.abc import Iterable, Mapping
from typing import Required, TypedDict

from apisix.testing.results.result import Result
from apisix.testing.running.entries import PluginEntry
from apisix.testing.sending.messages import HeadersLike, Params, Variables


class CallOptions(TypedDict, total=False):
    """The arguments of all calls."""

    plugins: Required[Iterable[PluginEntry]]
    vars: Variables | None
    of: Result | None
    metadata: Mapping[str, object] | None
    remote_addr: str
    route_key: str | None
    raise_errors: bool | None
    allow_degradation: bool | None


class RequestOptions(CallOptions, total=False):
    """The arguments of calls in the request phases."""

    params: Params | None
    headers: HeadersLike | None
    body: bytes | str
    json: object
    form: Mapping[str, object] | Iterable[tuple[str, object]] | None
    phase: str


class RespondOptions(CallOptions, total=False):
    """The arguments of calls in the response phase."""

    json: object
    method: str
    url: str
    request_headers: HeadersLike | None
