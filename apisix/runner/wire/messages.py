# SPDX-License-Identifier: Apache-2.0
"""
The messages of the schema. One class serves both directions: its constructor builds one, `decode` reads one.

Names are the schema's. Text is `str`, decoded as UTF-8 with surrogateescape; bodies and addresses are `bytes`.
What the gateway sends with each call stays in its buffer: a header that nobody touches is never decoded.
Source: gateway contract, 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from struct import Struct
from typing import Final, Self

from apisix.runner.errors import ErrCode, LocalProtocolError, RemoteProtocolError
from apisix.runner.wire.entries import EntriesInBuffer, Pair, TextEntries
from apisix.runner.wire.flatbuf import (
    Field,
    StructError,
    out_of_bounds,
    put_table,
    read_bytes,
    read_fields,
    read_root,
    read_table,
    read_text,
    read_u8,
    read_u16,
    u16_at,
    u32_at,
)
from apisix.runner.wire.frames import FrameType, frame_header
from apisix.runner.wire.tables import (
    NO_ENTRIES,
    Message,
    Table,
    given_entries,
    optional_bytes,
    optional_entries,
    optional_text,
    optional_u32,
)

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


class Method(IntEnum):
    """The HTTP methods that reach a runner. Source: gateway contract, 2."""

    GET = 0
    HEAD = 1
    POST = 2
    PUT = 3
    DELETE = 4
    MKCOL = 5
    COPY = 6
    MOVE = 7
    OPTIONS = 8
    PROPFIND = 9
    PROPPATCH = 10
    LOCK = 11
    UNLOCK = 12
    PATCH = 13
    TRACE = 14


_METHODS: Final = tuple(method.name for method in Method)


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


class HTTPReqCallReq(Message):
    """A client's request, before it goes to the upstream. Source: gateway contract, 4."""

    __slots__ = ("_args", "_buf", "_fields", "_headers", "_path", "_src_ip", "_table", "conf_token", "id", "method")
    TYPE = FrameType.HTTP_REQ_CALL
    FIELDS = ("id", "src_ip", "method", "path", "args", "headers", "conf_token")

    _buf: bytes
    _table: int
    _fields: tuple[int, ...]  # as `read_fields` gives them: the offset of slot k is number k + 2

    def __init__(
        self,
        id: int = 0,
        src_ip: bytes = b"",
        method: str | Method = "GET",
        path: str = "/",
        args: Iterable[Pair] = NO_ENTRIES,
        headers: Iterable[Pair] = NO_ENTRIES,
        conf_token: int = 0,
    ) -> None:
        self.id = id
        self.method = method.name if isinstance(method, Method) else method
        self.conf_token = conf_token
        self._src_ip: bytes | None = src_ip
        self._path: str | None = path
        self._args: TextEntries | None = given_entries(args)
        self._headers: TextEntries | None = given_entries(headers)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        self = cls.__new__(cls)
        table = self._table = read_root(payload)
        fields = self._fields = read_fields(payload, table, 7)
        _, _, id, _, method, _, _, _, conf_token = fields
        try:
            self.id = u32_at(payload, table + id)[0] if id else 0
            self.conf_token = u32_at(payload, table + conf_token)[0] if conf_token else 0
            number = payload[table + method] if method else 0
        except (StructError, IndexError):
            raise out_of_bounds("a number", table, payload) from None
        if number >= len(_METHODS):
            raise RemoteProtocolError(f"HTTPReqCall.Req has method {number}, the schema ends at {len(_METHODS) - 1}")
        self.method = _METHODS[number]
        self._buf = payload
        self._src_ip = self._path = self._args = self._headers = None
        return self

    @property
    def src_ip(self) -> bytes:
        """The client's address, 4 or 16 bytes."""
        value = self._src_ip
        if value is None:
            at = self._fields[3]
            value = self._src_ip = read_bytes(self._buf, self._table + at) if at else b""
        return value

    @property
    def path(self) -> str:
        """The path, without the query."""
        value = self._path
        if value is None:
            at = self._fields[5]
            value = self._path = read_text(self._buf, self._table + at) if at else ""
        return value

    @property
    def args(self) -> TextEntries:
        """The arguments of the query, one entry a value."""
        value = self._args
        if value is None:
            at = self._fields[6]
            value = self._args = EntriesInBuffer(self._buf, self._table + at) if at else NO_ENTRIES
        return value

    @property
    def headers(self) -> TextEntries:
        """The request's headers, one entry a value, the names in lower case."""
        value = self._headers
        if value is None:
            at = self._fields[7]
            value = self._headers = EntriesInBuffer(self._buf, self._table + at) if at else NO_ENTRIES
        return value

    def _values(self) -> tuple[Field, ...]:
        if self.method not in Method.__members__:
            raise LocalProtocolError(f"HTTPReqCall.Req can't carry the method {self.method}")
        method = Method[self.method]
        return self.id, self.src_ip or None, method, self.path, self.args, self.headers, self.conf_token


def _status(status: int) -> int:
    """Return a status that fits its field: the writer takes any number of 32 bits."""
    if status >> 16:
        raise LocalProtocolError(f"a status of {status} does not fit its field of 16 bits")
    return status


class Stop(Table):
    """Answer the client without asking the upstream. Source: gateway contract, 5."""

    __slots__ = ("body", "headers", "status")
    FIELDS = ("status", "headers", "body")

    def __init__(self, status: int = 0, headers: Iterable[Pair] = NO_ENTRIES, body: bytes = b"") -> None:
        self.status = status
        self.headers = given_entries(headers)
        self.body = body

    @classmethod
    def read(cls, buf: bytes, table: int) -> Self:
        """Read the table at a position of a message."""
        _, _, status, headers, body = read_fields(buf, table, 3)
        return cls(
            read_u16(buf, table + status) if status else 0,
            optional_entries(buf, table, headers),
            optional_bytes(buf, table, body) or b"",
        )

    def _values(self) -> tuple[Field, ...]:
        return _status(self.status), self.headers, self.body or None


class Rewrite(Table):
    """Let the request go on, changed. Source: gateway contract, 5."""

    __slots__ = ("args", "body", "headers", "path", "resp_headers")
    FIELDS = ("path", "headers", "args", "resp_headers", "body")

    def __init__(
        self,
        path: str | None = None,
        headers: Iterable[Pair] = NO_ENTRIES,
        args: Iterable[Pair] = NO_ENTRIES,
        resp_headers: Iterable[Pair] = NO_ENTRIES,
        body: bytes = b"",
    ) -> None:
        self.path = path
        self.headers = given_entries(headers)
        self.args = given_entries(args)
        self.resp_headers = given_entries(resp_headers)
        self.body = body

    @classmethod
    def read(cls, buf: bytes, table: int) -> Self:
        """Read the table at a position of a message."""
        _, _, path, headers, args, resp_headers, body = read_fields(buf, table, 5)
        return cls(
            optional_text(buf, table, path),
            optional_entries(buf, table, headers),
            optional_entries(buf, table, args),
            optional_entries(buf, table, resp_headers),
            optional_bytes(buf, table, body) or b"",
        )

    def _values(self) -> tuple[Field, ...]:
        return self.path, self.headers, self.args, self.resp_headers, self.body or None


# A reply up to its action is constant but for three numbers: root, the table with id, kind of action and the offset of the action,
# and the vtable, behind which the action follows. Written out because it is what is sent most: a reply without action takes
# 0.3 us instead of 2.
_pack_pass: Final = Struct("<12sI20s").pack
_PASS_HEAD: Final = frame_header(FrameType.HTTP_REQ_CALL, 32) + Struct("<Ii").pack(4, -16)
_PASS_TAIL: Final = bytes(8) + Struct("<6H").pack(10, 16, 4, 0, 0, 0)
_pack_action: Final = Struct("<4s8s3I12s").pack
_ACTION_HEAD: Final = Struct("<Ii").pack(4, -16)
_ACTION_TAIL: Final = Struct("<6H").pack(10, 16, 4, 8, 12, 0)


class HTTPReqCallResp(Message):
    """What is to be done with a request: nothing, a Stop or a Rewrite. Source: gateway contract, 5."""

    __slots__ = ("action", "id")
    TYPE = FrameType.HTTP_REQ_CALL
    FIELDS = ("id", "action")

    def __init__(self, id: int, action: Stop | Rewrite | None = None) -> None:
        self.id = id
        self.action = action

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = read_root(payload)
        _, _, id, kind, action = read_fields(payload, table, 3)
        number = read_u8(payload, table + kind) if kind else 0
        if not number:
            return cls(optional_u32(payload, table, id))
        if number not in _ACTIONS or not action:
            raise RemoteProtocolError(f"HTTPReqCall.Resp has action {number}; 1 (Stop) or 2 (Rewrite) with a table was expected")
        return cls(optional_u32(payload, table, id), _ACTIONS[number].read(payload, read_table(payload, table + action)))

    def encode_frame(self) -> bytes:
        action = self.action
        try:
            if action is None:
                return _pack_pass(_PASS_HEAD, self.id, _PASS_TAIL)
            parts: list[bytes] = [b""]
            header = frame_header(FrameType.HTTP_REQ_CALL, 32 + action.put(parts))
            parts[0] = _pack_action(header, _ACTION_HEAD, self.id, _ACTION_NUMBERS[type(action)], 16, _ACTION_TAIL)
        except StructError:
            raise LocalProtocolError(f"an id of {self.id} does not fit its field") from None
        return b"".join(parts)

    def _values(self) -> tuple[Field, ...]:
        action = self.action
        return (self.id, None, None) if action is None else (self.id, _ACTION_NUMBERS[type(action)], action)


_ACTIONS: Final[dict[int, type[Stop | Rewrite]]] = {1: Stop, 2: Rewrite}
_ACTION_NUMBERS: Final = {action: number for number, action in _ACTIONS.items()}


class HTTPRespCallReq(Message):
    """The upstream's response, before it goes to the client. Source: gateway contract, 7."""

    __slots__ = ("_buf", "_headers", "_headers_at", "_table", "conf_token", "id", "status")
    TYPE = FrameType.HTTP_RESP_CALL
    FIELDS = ("id", "status", "headers", "conf_token")

    _buf: bytes
    _table: int
    _headers_at: int

    def __init__(self, id: int = 0, status: int = 200, headers: Iterable[Pair] = NO_ENTRIES, conf_token: int = 0) -> None:
        self.id = id
        self.status = status
        self.conf_token = conf_token
        self._headers: TextEntries | None = given_entries(headers)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        self = cls.__new__(cls)
        table = self._table = read_root(payload)
        _, _, id, status, self._headers_at, conf_token = read_fields(payload, table, 4)
        try:
            self.id = u32_at(payload, table + id)[0] if id else 0
            self.status = u16_at(payload, table + status)[0] if status else 0
            self.conf_token = u32_at(payload, table + conf_token)[0] if conf_token else 0
        except StructError:
            raise out_of_bounds("a number", table, payload) from None
        self._buf = payload
        self._headers = None
        return self

    @property
    def headers(self) -> TextEntries:
        """The response's headers, one entry a value, the names in the upstream's case."""
        value = self._headers
        if value is None:
            at = self._headers_at
            value = self._headers = EntriesInBuffer(self._buf, self._table + at) if at else NO_ENTRIES
        return value

    def _values(self) -> tuple[Field, ...]:
        return self.id, _status(self.status), self.headers, self.conf_token


class HTTPRespCallResp(Message):
    """What is to be done with a response: no status, headers or body leaves the upstream's. Source: gateway contract, 7."""

    __slots__ = ("body", "headers", "id", "status")
    TYPE = FrameType.HTTP_RESP_CALL
    FIELDS = ("id", "status", "headers", "body")

    def __init__(self, id: int, status: int = 0, headers: Iterable[Pair] = NO_ENTRIES, body: bytes = b"") -> None:
        self.id = id
        self.status = status
        self.headers = given_entries(headers)
        self.body = body

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = read_root(payload)
        _, _, id, status, headers, body = read_fields(payload, table, 4)
        return cls(
            optional_u32(payload, table, id),
            read_u16(payload, table + status) if status else 0,
            optional_entries(payload, table, headers),
            optional_bytes(payload, table, body) or b"",
        )

    def _values(self) -> tuple[Field, ...]:
        return self.id, _status(self.status), self.headers, self.body or None


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
