# SPDX-License-Identifier: Apache-2.0
"""
The messages of the schema. The constructor of a class creates a message to send, and `decode` reads a received one.

The names are those of the schema. Text is `str`, decoded as UTF-8 with surrogateescape; bodies and addresses are `bytes`.
The messages of a call are in `call_messages`, info requests and info replies in `info_messages`. Source: gateway contract, 2.
"""

from collections.abc import Iterable
from typing import Self

from apisix.runner.errors import ErrCode, RemoteProtocolError
from apisix.runner.wire.call_messages import (
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Method,
    Rewrite,
    Stop,
)
from apisix.runner.wire.entries import Pair, TextEntries, entries_field
from apisix.runner.wire.flatbuf import Field, root_table, text_field, u8_field, u32_field
from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.info_messages import ExtraInfoReq, ExtraInfoResp, Info, ReqBody, RespBody, Var
from apisix.runner.wire.tables import Message

__all__ = [
    "ErrCode",
    "ErrResp",
    "ExtraInfoReq",
    "ExtraInfoResp",
    "HTTPReqCallReq",
    "HTTPReqCallResp",
    "HTTPRespCallReq",
    "HTTPRespCallResp",
    "Info",
    "Message",
    "Method",
    "Pair",
    "PrepareConfReq",
    "PrepareConfResp",
    "ReqBody",
    "RespBody",
    "Rewrite",
    "Stop",
    "TextEntries",
    "Var",
]


class PrepareConfReq(Message):
    """A route configuration: the names of plugins, each with its configuration. Source: gateway contract, 3."""

    __slots__ = ("conf", "key")
    TYPE = FrameType.PREPARE_CONF
    FIELDS = ("conf", "key")

    def __init__(self, conf: Iterable[tuple[str, str]] = (), key: str | None = None) -> None:
        self.conf = list(conf)
        self.key = key

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = root_table(payload)
        return cls([(name, value or "") for name, value in entries_field(payload, table, 0)], text_field(payload, table, 1))

    def _values(self) -> tuple[Field, ...]:
        return TextEntries(self.conf), self.key


class PrepareConfResp(Message):
    """The token by which calls refer to a route configuration. Source: gateway contract, 3."""

    __slots__ = ("conf_token",)
    TYPE = FrameType.PREPARE_CONF
    FIELDS = ("conf_token",)

    def __init__(self, conf_token: int) -> None:
        self.conf_token = conf_token

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(u32_field(payload, root_table(payload), 0))

    def _values(self) -> tuple[Field, ...]:
        return (self.conf_token,)


class ErrResp(Message):
    """The reply to any request that the runner can't fulfil. Source: gateway contract, 2 and 3."""

    __slots__ = ("code",)
    TYPE = FrameType.ERROR
    FIELDS = ("code",)

    def __init__(self, code: ErrCode) -> None:
        self.code = code

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        number = u8_field(payload, root_table(payload), 0)
        if number >= len(ErrCode):
            raise RemoteProtocolError(f"Err.Resp has the code {number}; the schema has 0 to {len(ErrCode) - 1}")
        return cls(ErrCode(number))

    def _values(self) -> tuple[Field, ...]:
        return (self.code,)
