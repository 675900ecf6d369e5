# SPDX-License-Identifier: Apache-2.0
"""Requests and responses as a gateway would send them, and a gateway that answers questions from a table."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from apisix.runner.errors import WrongContext
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
    """Answers from a table. `asked` holds the questions of each exchange."""

    def __init__(self, answers: Mapping[Info, bytes | None] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: list[list[Info]] = []
        self.offloaded = 0
        """How often something was to be run off the loop."""
        self.arrived = asyncio.Event()
        """Set when `arequest_info` has been called: the question is on its way."""
        self.let_answer: asyncio.Event | None = None
        """What `arequest_info` waits for, where it is to wait."""

    def request_info(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._answer(questions)
        raise WrongContext("a coroutine can't be suspended from outside")

    async def arequest_info(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        answers = self._answer(questions)
        self.arrived.set()
        if self.let_answer is not None:
            await self.let_answer.wait()
        return answers

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

    def _answer(self, questions: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        self.asked.append([question.info for question in questions])
        return [self.answers.get(question.info) for question in questions]


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
    """Make a request out of a message that has crossed the wire."""
    message = HTTPReqCallReq(call_id, src_ip, method, path, args, headers, conf_token)
    return Request(HTTPReqCallReq.decode(message.encode()), gateway or FakeGateway(), phase=phase, route_key=route_key)


def a_response(
    headers: Pairs = (), *, status: int = 200, gateway: FakeGateway | None = None, call_id: int = 0, max_decompressed_bytes: int = 2**20
) -> Response:
    """Make a response out of a message that has crossed the wire."""
    message = HTTPRespCallReq.decode(HTTPRespCallReq(call_id, status, headers).encode())
    return Response(message, gateway or FakeGateway(), max_decompressed_bytes=max_decompressed_bytes)


def sent(request: Request, reply: Reply | None = None) -> HTTPReqCallResp:
    """Return what the gateway reads of a request's outcome."""
    return HTTPReqCallResp.decode(request.to_message(reply).encode())


def rewrite(request: Request) -> Rewrite:
    """Return the Rewrite that the gateway reads, where there is one."""
    action = sent(request).action
    assert isinstance(action, Rewrite)
    return action


def stop(request: Request, reply: Reply) -> Stop:
    """Return the Stop that the gateway reads, where there is one."""
    action = sent(request, reply).action
    assert isinstance(action, Stop)
    return action


def answered(response: Response, reply: Reply | None = None) -> HTTPRespCallResp:
    """Return what the gateway reads of a response's outcome."""
    return HTTPRespCallResp.decode(response.to_message(reply).encode())
