# SPDX-License-Identifier: Apache-2.0
"""A gateway for tests: one blocking connection to a runner, which uses the protocol in the role GATEWAY."""

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import (
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallReq,
    HTTPRespCallReq,
    PrepareConfReq,
    PrepareConfResp,
    ReqBody,
    RespBody,
    Var,
)

PRE_REQ = "route#1#ext-plugin-pre-req#1"
POST_REQ = "route#1#ext-plugin-post-req#1"
POST_RESP = "route#1#ext-plugin-post-resp#1"

Pairs = Iterable[tuple[str, str | None]]


class HungUp(Exception):
    """The runner closed the connection."""


class Peer:
    """
    One connection to a runner. Reads time out after `timeout_s` seconds.

    `asked` lists the info requests of the runner, in order. `answers` contains the replies: the value of a variable under its name, and
    bodies under "body" and "resp_body".
    """

    def __init__(self, path: Path | str, timeout_s: float = 20.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.connection = Connection(Role.GATEWAY)
        self.asked: list[object] = []
        self.answers: dict[str, bytes | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, message: Any) -> None:
        """Send one message."""
        self.socket.sendall(self.connection.send(message))

    def receive(self) -> Any:
        """Return the next message of the runner, of any type. Raise HungUp if there is none any more."""
        while (message := self.connection.next_event()) is NEED_DATA:
            data = self.socket.recv(1 << 16)
            if not data:
                raise HungUp
            self.connection.receive_data(data)
        return message

    def reply(self) -> Any:
        """Send info replies until the runner sends the reply to the call, and return that."""
        while isinstance(message := self.receive(), ExtraInfoReq):
            self.asked.append(message.info)
            self.send(ExtraInfoResp(self._answer(message.info)))
        return message

    def prepare(self, *plugins: tuple[str, str], key: str | None = PRE_REQ) -> int:
        """Prepare a configuration and return its token."""
        self.send(PrepareConfReq(plugins, key))
        prepared = self.receive()
        assert isinstance(prepared, PrepareConfResp), prepared
        return prepared.conf_token

    def request(
        self,
        token: int,
        *,
        id: int = 7,
        method: str = "GET",
        path: str = "/get",
        args: Pairs = (),
        headers: Pairs = (("host", "example.com"),),
        answers: Mapping[str, bytes | None] | None = None,
    ) -> Any:
        """Make a call of the request phase and return the reply."""
        self.answers = dict(answers or {})
        self.send(
            HTTPReqCallReq(id=id, src_ip=b"\x7f\0\0\1", method=method, path=path, args=list(args), headers=list(headers), conf_token=token)
        )
        return self.reply()

    def respond(
        self,
        token: int,
        *,
        id: int = 7,
        status: int = 200,
        headers: Pairs = (("Content-Type", "text/html"),),
        body: bytes | None = b"upstream says hello",
        answers: Mapping[str, bytes | None] | None = None,
    ) -> Any:
        """Make a call of the response phase and return the reply."""
        self.answers = {"resp_body": body, **(answers or {})}
        self.send(HTTPRespCallReq(id=id, status=status, headers=list(headers), conf_token=token))
        return self.reply()

    def _answer(self, info: object) -> bytes | None:
        if isinstance(info, Var):
            return self.answers.get(info.name)
        return self.answers.get({ReqBody: "body", RespBody: "resp_body"}[type(info)])
