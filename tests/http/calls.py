# SPDX-License-Identifier: Apache-2.0
"""Requests and responses as a gateway sends them, and a fake gateway that replies to info requests from a table."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.errors import WrongContext
from apisix.runner.http.metadata import Metadata
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.wire.messages import (
    ExtraInfoReq,
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    ReqBody,
    RespBody,
    Rewrite,
    Stop,
    Var,
)

Info = Var | ReqBody | RespBody
Pairs = Iterable[tuple[str, str | None]]


class FakeGateway:
    """Replies from a table. `asked` is a list of the info requests that were sent together, each time."""

    def __init__(self, answers: Mapping[Info, bytes | None] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: list[list[Info]] = []
        self.metadata_store = MemoryMetadata()
        self.offloaded = 0
        """How often work was passed to a thread."""
        self.arrived = asyncio.Event()
        """Set when `arequest_info` has been called."""
        self.may_reply: asyncio.Event | None = None
        """`arequest_info` waits for it, unless it is None."""

    def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._reply(requests)
        raise WrongContext("a coroutine can't be suspended from outside")

    async def arequest_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        replies = self._reply(requests)
        self.arrived.set()
        if self.may_reply is not None:
            await self.may_reply.wait()
        return replies

    def offload(self, work: Callable[[], Any]) -> Any:
        self.offloaded += 1
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return work()
        raise WrongContext("a coroutine can't be suspended from outside")

    async def aoffload(self, work: Callable[[], Any]) -> Any:
        self.offloaded += 1
        return work()

    def open_metadata(self, request_id: str) -> Metadata:
        return Metadata(self.metadata_store, request_id)

    def _reply(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        self.asked.append([request.info for request in requests])
        return [self.answers.get(request.info) for request in requests]


def a_request(
    path: str = "/",
    args: Pairs = (),
    headers: Pairs = (),
    *,
    gateway: FakeGateway | None = None,
    method: str = "GET",
    call_id: int = 0,
    src_ip: bytes = b"",
    conf_token: int = 0,
    phase: Phase | None = Phase.PRE_REQ,
    route_key: str | None = None,
) -> Request:
    """Return a request whose message was encoded and decoded."""
    message = HTTPReqCallReq(call_id, src_ip, method, path, args, headers, conf_token)
    return Request(HTTPReqCallReq.decode(message.encode()), gateway or FakeGateway(), phase=phase, route_key=route_key)


def a_response(
    headers: Pairs = (), *, status: int = 200, gateway: FakeGateway | None = None, call_id: int = 0, max_decompressed_bytes: int = 2**20
) -> Response:
    """Return a response whose message was encoded and decoded."""
    message = HTTPRespCallReq.decode(HTTPRespCallReq(call_id, status, headers).encode())
    return Response(message, gateway or FakeGateway(), max_decompressed_bytes=max_decompressed_bytes)


def sent(request: Request, reply: Reply | None = None) -> HTTPReqCallResp:
    """Return the message that the gateway receives for a request."""
    return HTTPReqCallResp.decode(request.to_message(reply).encode())


def rewrite(request: Request) -> Rewrite:
    """Return the Rewrite that the gateway receives. Fail if it is another action."""
    action = sent(request).action
    assert isinstance(action, Rewrite)
    return action


def stop(request: Request, reply: Reply) -> Stop:
    """Return the Stop that the gateway receives. Fail if it is another action."""
    action = sent(request, reply).action
    assert isinstance(action, Stop)
    return action


def answered(response: Response, reply: Reply | None = None) -> HTTPRespCallResp:
    """Return the message that the gateway receives for a response."""
    return HTTPRespCallResp.decode(response.to_message(reply).encode())
