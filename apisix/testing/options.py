# SPDX-License-Identifier: Apache-2.0
"""The keyword arguments of the test client, for type checkers. `Client.request` and `Client.respond` say what they mean."""

from collections.abc import Iterable, Mapping
from typing import Required, TypedDict

from apisix.testing.running.entries import PluginEntry
from apisix.testing.sending.messages import HeadersLike, Params, Variables


class CallOptions(TypedDict, total=False):
    """What each call takes."""

    plugins: Required[Iterable[PluginEntry]]
    vars: Variables | None
    remote_addr: str
    route_key: str | None
    raise_errors: bool | None
    allow_degradation: bool | None


class RequestOptions(CallOptions, total=False):
    """What calls of the request phases take."""

    params: Params | None
    headers: HeadersLike | None
    body: bytes | str
    json: object
    form: Mapping[str, object] | Iterable[tuple[str, object]] | None
    phase: str


class RespondOptions(CallOptions, total=False):
    """What calls of the response phase take."""

    json: object
    method: str
    url: str
    request_headers: HeadersLike | None
