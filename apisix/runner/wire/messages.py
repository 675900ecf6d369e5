# SPDX-License-Identifier: Apache-2.0
"""
The messages of the schema. One class serves both directions: its constructor builds one, `decode` reads one.

Names are the schema's. Text is `str`, decoded as UTF-8 with surrogateescape; bodies and addresses are `bytes`.
A decoded HTTPReqCallReq or HTTPRespCallReq stays in its buffer: what nobody touches is not decoded. Source: gateway contract, 2.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from apisix.runner.errors import ErrCode, RemoteProtocolError
from apisix.runner.wire.entries import EntriesInBuffer, Pair, TextEntries
from apisix.runner.wire.flatbuf import (
    Field,
    put_table,
    read_bytes,
    read_fields,
    read_root,
    read_table,
    read_text,
    read_u8,
    read_u16,
    read_u32,
    read_vector,
)
from apisix.runner.wire.frames import FrameType, frame_header

_ROOT = b"\x04\0\0\0"  # the root table follows at once


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


_METHODS = tuple(method.name for method in Method)
_NO_ENTRIES = TextEntries()


class Part:
    """A table of the schema: compared and shown by its content."""

    __slots__ = ()
    FIELDS: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def _values(self) -> tuple[Field, ...]:
        """Return what is written, one for each slot."""

    def put(self, parts: list[bytes]) -> int:
        """Append the table to a message that is being written, and return its size in bytes."""
        return put_table(parts, self._values())

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)

    __hash__ = None  # type: ignore[assignment]  # holds lists

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.FIELDS)})"


class Message(Part):
    """A table that is sent as a frame of its own."""

    __slots__ = ()
    TYPE: ClassVar[FrameType]

    @classmethod
    @abstractmethod
    def decode(cls, payload: bytes) -> Self:
        """
        Read a message.

        Raises: RemoteProtocolError: the payload is malformed. What is read lazily raises when it is first touched.
        """

    def encode(self) -> bytes:
        """
        Return the payload.

        Raises: LocalProtocolError: a value can't be expressed.
        """
        parts = [_ROOT]
        self.put(parts)
        return b"".join(parts)

    def encode_frame(self) -> bytes:
        """
        Return header and payload, each body in it copied only once.

        Raises: LocalProtocolError: a value can't be expressed. MessageTooLarge: the payload does not fit a frame.
        """
        parts = [b"", _ROOT]
        parts[0] = frame_header(self.TYPE, len(_ROOT) + self.put(parts))
        return b"".join(parts)


def _entries(buf: bytes, pos: int) -> TextEntries:
    return EntriesInBuffer(buf, *read_vector(buf, pos)) if pos else _NO_ENTRIES


def _built(pairs: Iterable[Pair]) -> TextEntries:
    return pairs if isinstance(pairs, TextEntries) else TextEntries(pairs)


class PrepareConfReq(Message):
    """The gateway's configuration of one route's plugins. Source: gateway contract, 3."""

    __slots__ = ("conf", "key")
    TYPE = FrameType.PREPARE_CONF
    FIELDS = ("conf", "key")

    def __init__(self, conf: Iterable[tuple[str, str]] = (), key: str | None = None) -> None:
        self.conf = list(conf)
        self.key = key

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        conf, key = read_fields(payload, read_root(payload), 2)
        return cls(
            [(name, value or "") for name, value in _entries(payload, conf)],
            read_text(payload, key) if key else None,
        )

    def _values(self) -> tuple[Field, ...]:
        return TextEntries(self.conf) if self.conf else None, self.key


class PrepareConfResp(Message):
    """The runner's answer to PrepareConf.Req: the token that stands for the configuration from now on."""

    __slots__ = ("conf_token",)
    TYPE = FrameType.PREPARE_CONF
    FIELDS = ("conf_token",)

    def __init__(self, conf_token: int) -> None:
        self.conf_token = conf_token

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        (conf_token,) = read_fields(payload, read_root(payload), 1)
        return cls(read_u32(payload, conf_token))

    def _values(self) -> tuple[Field, ...]:
        return (self.conf_token,)


class HTTPReqCallReq(Message):
    """A request of a client, before it goes to the upstream. Source: gateway contract, 4."""

    __slots__ = (
        "_args",
        "_args_at",
        "_buf",
        "_headers",
        "_headers_at",
        "_path",
        "_path_at",
        "_src_ip",
        "_src_ip_at",
        "conf_token",
        "id",
        "method",
    )
    TYPE = FrameType.HTTP_REQ_CALL
    FIELDS = ("id", "src_ip", "method", "path", "args", "headers", "conf_token")

    def __init__(
        self,
        id: int = 0,
        src_ip: bytes = b"",
        method: str | Method = "GET",
        path: str = "/",
        args: Iterable[Pair] = (),
        headers: Iterable[Pair] = (),
        conf_token: int = 0,
    ) -> None:
        self.id = id
        self.method = method.name if isinstance(method, Method) else Method[method].name
        self.conf_token = conf_token
        self._buf = b""
        self._src_ip: bytes | None = src_ip
        self._path: str | None = path
        self._args: TextEntries | None = _built(args)
        self._headers: TextEntries | None = _built(headers)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        id, src_ip, method, path, args, headers, conf_token = read_fields(payload, read_root(payload), 7)
        self = cls.__new__(cls)
        self.id = read_u32(payload, id)
        self.conf_token = read_u32(payload, conf_token)
        number = read_u8(payload, method)
        if number >= len(_METHODS):
            raise RemoteProtocolError(f"HTTPReqCall.Req has method {number}, the schema ends at {len(_METHODS) - 1}")
        self.method = _METHODS[number]
        self._buf = payload
        self._src_ip_at, self._path_at, self._args_at, self._headers_at = src_ip, path, args, headers
        self._src_ip = self._path = self._args = self._headers = None
        return self

    @property
    def src_ip(self) -> bytes:
        """The client's address, 4 or 16 bytes."""
        value = self._src_ip
        if value is None:
            value = self._src_ip = read_bytes(self._buf, self._src_ip_at) if self._src_ip_at else b""
        return value

    @property
    def path(self) -> str:
        """The path, without the query."""
        value = self._path
        if value is None:
            value = self._path = read_text(self._buf, self._path_at) if self._path_at else ""
        return value

    @property
    def args(self) -> TextEntries:
        """The arguments of the query, one entry a value."""
        value = self._args
        if value is None:
            value = self._args = _entries(self._buf, self._args_at)
        return value

    @property
    def headers(self) -> TextEntries:
        """The request's headers, one entry a value, the names in lower case."""
        value = self._headers
        if value is None:
            value = self._headers = _entries(self._buf, self._headers_at)
        return value

    def _values(self) -> tuple[Field, ...]:
        return self.id, self.src_ip or None, Method[self.method], self.path, self.args or None, self.headers or None, self.conf_token


class Stop(Part):
    """Answer the client, without asking the upstream. Source: gateway contract, 5."""

    __slots__ = ("body", "headers", "status")
    FIELDS = ("status", "headers", "body")

    def __init__(self, status: int = 0, headers: Iterable[Pair] = (), body: bytes = b"") -> None:
        self.status = status
        self.headers = _built(headers)
        self.body = body

    @classmethod
    def read(cls, buf: bytes, table: int) -> Self:
        """Read the table at a position of a message."""
        status, headers, body = read_fields(buf, table, 3)
        return cls(read_u16(buf, status), _entries(buf, headers), read_bytes(buf, body) if body else b"")

    def _values(self) -> tuple[Field, ...]:
        return self.status, self.headers or None, self.body or None


class Rewrite(Part):
    """Let the request go on, changed. Source: gateway contract, 5."""

    __slots__ = ("args", "body", "headers", "path", "resp_headers")
    FIELDS = ("path", "headers", "args", "resp_headers", "body")

    def __init__(
        self,
        path: str | None = None,
        headers: Iterable[Pair] = (),
        args: Iterable[Pair] = (),
        resp_headers: Iterable[Pair] = (),
        body: bytes = b"",
    ) -> None:
        self.path = path
        self.headers = _built(headers)
        self.args = _built(args)
        self.resp_headers = _built(resp_headers)
        self.body = body

    @classmethod
    def read(cls, buf: bytes, table: int) -> Self:
        """Read the table at a position of a message."""
        path, headers, args, resp_headers, body = read_fields(buf, table, 5)
        return cls(
            read_text(buf, path) if path else None,
            _entries(buf, headers),
            _entries(buf, args),
            _entries(buf, resp_headers),
            read_bytes(buf, body) if body else b"",
        )

    def _values(self) -> tuple[Field, ...]:
        return self.path, self.headers or None, self.args or None, self.resp_headers or None, self.body or None


class HTTPReqCallResp(Message):
    """What the runner wants of a request: nothing, a Stop or a Rewrite."""

    __slots__ = ("action", "id")
    TYPE = FrameType.HTTP_REQ_CALL
    FIELDS = ("id", "action")

    def __init__(self, id: int, action: Stop | Rewrite | None = None) -> None:
        self.id = id
        self.action = action

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        id, kind, action = read_fields(payload, read_root(payload), 3)
        number = read_u8(payload, kind)
        if not number:
            return cls(read_u32(payload, id))
        if number not in _ACTIONS or not action:
            raise RemoteProtocolError(f"HTTPReqCall.Resp has action {number}, 1 (Stop) or 2 (Rewrite) with a table is known")
        return cls(read_u32(payload, id), _ACTIONS[number].read(payload, read_table(payload, action)))

    def _values(self) -> tuple[Field, ...]:
        return (self.id, _ACTION_NUMBERS[type(self.action)], self.action) if self.action else (self.id, None, None)


_ACTIONS: dict[int, type[Stop | Rewrite]] = {1: Stop, 2: Rewrite}
_ACTION_NUMBERS: dict[type, int] = {Stop: 1, Rewrite: 2}


class HTTPRespCallReq(Message):
    """A response of the upstream, before it goes to the client. Source: gateway contract, 7."""

    __slots__ = ("_buf", "_headers", "_headers_at", "conf_token", "id", "status")
    TYPE = FrameType.HTTP_RESP_CALL
    FIELDS = ("id", "status", "headers", "conf_token")

    def __init__(self, id: int = 0, status: int = 200, headers: Iterable[Pair] = (), conf_token: int = 0) -> None:
        self.id = id
        self.status = status
        self.conf_token = conf_token
        self._buf = b""
        self._headers: TextEntries | None = _built(headers)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        id, status, headers, conf_token = read_fields(payload, read_root(payload), 4)
        self = cls.__new__(cls)
        self.id = read_u32(payload, id)
        self.status = read_u16(payload, status)
        self.conf_token = read_u32(payload, conf_token)
        self._buf = payload
        self._headers_at = headers
        self._headers = None
        return self

    @property
    def headers(self) -> TextEntries:
        """The response's headers, one entry a value, the names in the upstream's case."""
        value = self._headers
        if value is None:
            value = self._headers = _entries(self._buf, self._headers_at)
        return value

    def _values(self) -> tuple[Field, ...]:
        return self.id, self.status, self.headers or None, self.conf_token


class HTTPRespCallResp(Message):
    """What the runner wants of a response. No headers, no status, no body: as the upstream's. Source: gateway contract, 7."""

    __slots__ = ("body", "headers", "id", "status")
    TYPE = FrameType.HTTP_RESP_CALL
    FIELDS = ("id", "status", "headers", "body")

    def __init__(self, id: int, status: int = 0, headers: Iterable[Pair] = (), body: bytes = b"") -> None:
        self.id = id
        self.status = status
        self.headers = _built(headers)
        self.body = body

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        id, status, headers, body = read_fields(payload, read_root(payload), 4)
        return cls(
            read_u32(payload, id),
            read_u16(payload, status),
            _entries(payload, headers),
            read_bytes(payload, body) if body else b"",
        )

    def _values(self) -> tuple[Field, ...]:
        return self.id, self.status, self.headers or None, self.body or None


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


class ExtraInfoReq(Message):
    """A question of the runner during a call. Hashable, so that answers can be kept by question."""

    __slots__ = ("info",)
    TYPE = FrameType.EXTRA_INFO
    FIELDS = ("info",)

    def __init__(self, info: Info) -> None:
        self.info = info

    def __hash__(self) -> int:
        return hash(self.info)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        kind, info = read_fields(payload, read_root(payload), 2)
        number = read_u8(payload, kind)
        if not 1 <= number <= 3 or not info:
            raise RemoteProtocolError(f"ExtraInfo.Req asks for {number}; 1 (Var), 2 (ReqBody) or 3 (RespBody) with a table is known")
        table = read_table(payload, info)
        if number != 1:
            read_fields(payload, table, 0)
            return cls(ReqBody() if number == 2 else RespBody())
        (name,) = read_fields(payload, table, 1)
        return cls(Var(read_text(payload, name) if name else ""))

    def _values(self) -> tuple[Field, ...]:
        return _INFO_NUMBERS[type(self.info)], self.info


_INFO_NUMBERS: dict[type, int] = {Var: 1, ReqBody: 2, RespBody: 3}


class ExtraInfoResp(Message):
    """The gateway's answer to a question: None where there is no such thing. Source: gateway contract, 6."""

    __slots__ = ("result",)
    TYPE = FrameType.EXTRA_INFO
    FIELDS = ("result",)

    def __init__(self, result: bytes | None = None) -> None:
        self.result = result

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        (result,) = read_fields(payload, read_root(payload), 1)
        return cls(read_bytes(payload, result) if result else None)

    def _values(self) -> tuple[Field, ...]:
        return (self.result,)


class ErrResp(Message):
    """The runner's answer to anything that it can't do. Source: gateway contract, 2."""

    __slots__ = ("code",)
    TYPE = FrameType.ERROR
    FIELDS = ("code",)

    def __init__(self, code: ErrCode) -> None:
        self.code = code

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        (code,) = read_fields(payload, read_root(payload), 1)
        number = read_u8(payload, code)
        try:
            return cls(ErrCode(number))
        except ValueError:
            raise RemoteProtocolError(f"Err.Resp has code {number}, the schema ends at {max(ErrCode)}") from None

    def _values(self) -> tuple[Field, ...]:
        return (self.code,)
