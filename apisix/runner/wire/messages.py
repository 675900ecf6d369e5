# SPDX-License-Identifier: Apache-2.0
"""
The messages of the schema. One class serves both directions: its constructor builds one, `decode` reads one.

Names are the schema's. Text is `str`, decoded as UTF-8 with surrogateescape; bodies and addresses are `bytes`.
The two calls, which are most of what is sent, stand in `calls`. Source: gateway contract, 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from apisix.runner.errors import ErrCode, RemoteProtocolError
from apisix.runner.wire.calls import (
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Method,
    Rewrite,
    Stop,
)
from apisix.runner.wire.entries import Pair, TextEntries
from apisix.runner.wire.flatbuf import Field, put_table, read_fields, read_root, read_table, read_u8
from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.tables import Message, optional_bytes, optional_entries, optional_text, optional_u32

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
    """The plugins of one route, each with its configuration. Source: gateway contract, 3."""

    __slots__ = ("conf", "key")
    TYPE = FrameType.PREPARE_CONF
    FIELDS = ("conf", "key")

    def __init__(self, conf: Iterable[tuple[str, str]] = (), key: str | None = None) -> None:
        self.conf = list(conf)
        self.key = key

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = read_root(payload)
        _, _, conf, key = read_fields(payload, table, 2)
        pairs = optional_entries(payload, table, conf)
        return cls([(name, value or "") for name, value in pairs], optional_text(payload, table, key))

    def _values(self) -> tuple[Field, ...]:
        return TextEntries(self.conf), self.key


class PrepareConfResp(Message):
    """The token that stands for the configuration from now on. Source: gateway contract, 3."""

    __slots__ = ("conf_token",)
    TYPE = FrameType.PREPARE_CONF
    FIELDS = ("conf_token",)

    def __init__(self, conf_token: int) -> None:
        self.conf_token = conf_token

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = read_root(payload)
        _, _, conf_token = read_fields(payload, table, 1)
        return cls(optional_u32(payload, table, conf_token))

    def _values(self) -> tuple[Field, ...]:
        return (self.conf_token,)


@dataclass(frozen=True, slots=True)
class Var:
    """Ask for a variable of nginx or APISIX. Source: gateway contract, 6."""

    name: str

    def put(self, parts: list[bytes]) -> int:
        """Append the table to a message that is being written, and return its size in bytes."""
        return put_table(parts, (self.name,))


@dataclass(frozen=True, slots=True)
class ReqBody:
    """Ask for the request's body."""

    def put(self, parts: list[bytes]) -> int:
        """Append the table to a message that is being written, and return its size in bytes."""
        return put_table(parts, ())


@dataclass(frozen=True, slots=True)
class RespBody:
    """Ask for the response's body, which the gateway gives only once."""

    def put(self, parts: list[bytes]) -> int:
        """Append the table to a message that is being written, and return its size in bytes."""
        return put_table(parts, ())


Info = Var | ReqBody | RespBody
_INFOS: Final[dict[int, type[Info]]] = {1: Var, 2: ReqBody, 3: RespBody}
_INFO_NUMBERS: Final = {info: number for number, info in _INFOS.items()}


class ExtraInfoReq(Message):
    """A question of the runner during a call. Hashable, so that answers can be kept by their question."""

    __slots__ = ("info",)
    TYPE = FrameType.EXTRA_INFO
    FIELDS = ("info",)

    def __init__(self, info: Info) -> None:
        self.info = info

    def __eq__(self, other: object) -> bool:
        return self.info == other.info if isinstance(other, ExtraInfoReq) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.info)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        root = read_root(payload)
        _, _, kind, info = read_fields(payload, root, 2)
        number = read_u8(payload, root + kind) if kind else 0
        if number not in _INFOS or not info:
            raise RemoteProtocolError(f"ExtraInfo.Req asks for {number}; 1 (Var), 2 (ReqBody) or 3 (RespBody) with a table was expected")
        table = read_table(payload, root + info)
        _, _, name = read_fields(payload, table, 1)
        if number == _INFO_NUMBERS[Var]:
            return cls(Var(optional_text(payload, table, name) or ""))
        return cls(ReqBody() if number == _INFO_NUMBERS[ReqBody] else RespBody())

    def encode_frame(self) -> bytes:
        return _question(self.info)

    def _values(self) -> tuple[Field, ...]:
        return _INFO_NUMBERS[type(self.info)], self.info


@lru_cache(maxsize=256)
def _question(info: Info) -> bytes:
    """Return the frame that asks. Plugins ask for the same few things again and again."""
    return super(ExtraInfoReq, ExtraInfoReq(info)).encode_frame()


class ExtraInfoResp(Message):
    """The gateway's answer to a question, None where there is no such thing. Source: gateway contract, 6."""

    __slots__ = ("result",)
    TYPE = FrameType.EXTRA_INFO
    FIELDS = ("result",)

    def __init__(self, result: bytes | None = None) -> None:
        self.result = result

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = read_root(payload)
        _, _, result = read_fields(payload, table, 1)
        return cls(optional_bytes(payload, table, result))

    def _values(self) -> tuple[Field, ...]:
        return (self.result,)


class ErrResp(Message):
    """What the runner answers where it can't do what it was asked to. Source: gateway contract, 2 and 3."""

    __slots__ = ("code",)
    TYPE = FrameType.ERROR
    FIELDS = ("code",)

    def __init__(self, code: ErrCode) -> None:
        self.code = code

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = read_root(payload)
        _, _, code = read_fields(payload, table, 1)
        number = read_u8(payload, table + code) if code else 0
        if number >= len(ErrCode):
            raise RemoteProtocolError(f"Err.Resp has code {number}, the schema ends at {len(ErrCode) - 1}")
        return cls(ErrCode(number))

    def _values(self) -> tuple[Field, ...]:
        return (self.code,)
