# SPDX-License-Identifier: Apache-2.0
"""
The messages of a call, `HTTPReqCall` and `HTTPRespCall`.

A received message keeps its payload. Numbers are read at once, and everything else on first use, so a header that no plugin reads is
never decoded. Source: gateway contract, 4, 5 and 7.
"""

from collections.abc import Iterable
from enum import IntEnum
from struct import pack
from typing import Final, Self

from apisix.runner import primitives
from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire.entries import NO_ENTRIES, Pair, TextEntries, entries_field, entries_of
from apisix.runner.wire.flatbuf import (
    Field,
    bytes_field,
    root_table,
    table_field,
    table_starts,
    text_field,
    u8_field,
    u16_field,
    u32_field,
)
from apisix.runner.wire.frames import HEADER_BYTES, FrameType, frame_header, put_header
from apisix.runner.wire.tables import ROOT, Message, Table


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


class CallReq(Message):
    """The part that both calls have in common: the gateway's number of the call, and the token of the route configuration."""

    __slots__ = ("conf_token", "id")

    id: int
    conf_token: int


class HTTPReqCallReq(CallReq):
    """A client's request, before it is sent to the upstream. Source: gateway contract, 4."""

    __slots__ = ("_args", "_buf", "_headers", "_path", "_src_ip", "_table", "method")
    TYPE = FrameType.HTTP_REQ_CALL
    FIELDS = ("id", "src_ip", "method", "path", "args", "headers", "conf_token")

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
        self._args: TextEntries | None = entries_of(args)
        self._headers: TextEntries | None = entries_of(headers)

    @classmethod
    def decode(cls, payload: bytes) -> "HTTPReqCallReq":
        return read_req_call(payload)

    def _read(self, payload: bytes) -> None:
        table = self._table = root_table(payload)
        self.id = u32_field(payload, table, 0)
        self.conf_token = u32_field(payload, table, 6)
        number = u8_field(payload, table, 2)
        if number >= len(_METHODS):
            raise RemoteProtocolError(f"HTTPReqCall.Req has the method {number}; the schema has 0 to {len(_METHODS) - 1}")
        self.method = _METHODS[number]
        self._buf = payload
        self._src_ip = self._path = self._args = self._headers = None

    @property
    def src_ip(self) -> bytes:
        """The client's address, 4 or 16 bytes."""
        value = self._src_ip
        if value is None:
            value = self._src_ip = bytes_field(self._buf, self._table, 1) or b""
        return value

    @property
    def path(self) -> str:
        """The path, without the query."""
        value = self._path
        if value is None:
            value = self._path = text_field(self._buf, self._table, 3) or ""
        return value

    @property
    def args(self) -> TextEntries:
        """The arguments of the query, one entry for each value."""
        return self.received_args()

    @property
    def headers(self) -> TextEntries:
        """The request's headers, one entry for each value. The names are in lower case."""
        return self.received_headers()

    # C calls methods directly, but has to look up a property by its name.

    def received_args(self) -> TextEntries:
        """Same as `args`."""
        value = self._args
        if value is None:
            value = self._args = entries_field(self._buf, self._table, 4)
        return value

    def received_headers(self) -> TextEntries:
        """Same as `headers`."""
        value = self._headers
        if value is None:
            value = self._headers = entries_field(self._buf, self._table, 5)
        return value

    def _values(self) -> tuple[Field, ...]:
        if self.method not in Method.__members__:
            raise LocalProtocolError(f"HTTPReqCall.Req can't contain the method {self.method!r}: the schema has no number for it")
        method = Method[self.method]
        return self.id, self.src_ip or None, method, self.path, self.args, self.headers, self.conf_token


def _status(status: int) -> int:
    """Return a status. Raise LocalProtocolError if it does not fit into its field: the functions that write accept 32 bits."""
    if status >> 16:
        raise LocalProtocolError(f"the status {status} does not fit into its field of 16 bits")
    return status


# Stop, Rewrite and HTTPRespCallResp have their own `put`, which writes the same bytes as `put_table` without looking at the type of each
# field.
_STOP_STARTS: Final = table_starts(3)
_REWRITE_STARTS: Final = table_starts(5)
_RESP_CALL_STARTS: Final = table_starts(4)


def _put_entries(out: bytearray, place: int, entries: TextEntries) -> None:
    """Append entries, and write their offset to the position `place` of the table that refers to them."""
    primitives.set_offset(out, place, len(out) - place)
    entries.put(out)


def _put_body(out: bytearray, place: int, body: bytes) -> None:
    """Same as `_put_entries`, but for a body."""
    primitives.set_offset(out, place, len(out) - place)
    primitives.append_bytes(out, body)


class Stop(Table):
    """A reply to the client. The upstream does not get the request. Source: gateway contract, 5."""

    __slots__ = ("body", "headers", "status")
    FIELDS = ("status", "headers", "body")

    def __init__(self, status: int = 0, headers: Iterable[Pair] = NO_ENTRIES, body: bytes = b"") -> None:
        self.status = status
        self.headers = entries_of(headers)
        self.body = body

    @classmethod
    def read(cls, buf: bytes, table: int) -> Self:
        """Return the table at a position of a message."""
        return cls(u16_field(buf, table, 0), entries_field(buf, table, 1), bytes_field(buf, table, 2) or b"")

    def put(self, out: bytearray) -> None:
        at = len(out)
        has_headers = self.headers is not NO_ENTRIES and self.headers.size() > 0
        primitives.append_part(out, _STOP_STARTS[1 + (2 if has_headers else 0) + (4 if self.body else 0)])
        primitives.set_number(out, at + 4, _status(self.status))
        if has_headers:
            _put_entries(out, at + 8, self.headers)
        if self.body:
            _put_body(out, at + 12, self.body)


class Rewrite(Table):
    """Changes of a request that continues to the upstream. Source: gateway contract, 5."""

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
        self.headers = entries_of(headers)
        self.args = entries_of(args)
        self.resp_headers = entries_of(resp_headers)
        self.body = body

    @classmethod
    def read(cls, buf: bytes, table: int) -> Self:
        """Return the table at a position of a message."""
        return cls(
            text_field(buf, table, 0),
            entries_field(buf, table, 1),
            entries_field(buf, table, 2),
            entries_field(buf, table, 3),
            bytes_field(buf, table, 4) or b"",
        )

    def put(self, out: bytearray) -> None:
        at = len(out)
        has_headers = self.headers is not NO_ENTRIES and self.headers.size() > 0
        has_args = self.args is not NO_ENTRIES and self.args.size() > 0
        has_resp_headers = self.resp_headers is not NO_ENTRIES and self.resp_headers.size() > 0
        present = (2 if has_headers else 0) + (4 if has_args else 0) + (8 if has_resp_headers else 0) + (16 if self.body else 0)
        primitives.append_part(out, _REWRITE_STARTS[present if self.path is None else present + 1])
        if self.path is not None:
            primitives.set_offset(out, at + 4, len(out) - at - 4)
            primitives.append_text(out, self.path)
        if has_headers:
            _put_entries(out, at + 8, self.headers)
        if has_args:
            _put_entries(out, at + 12, self.args)
        if has_resp_headers:
            _put_entries(out, at + 16, self.resp_headers)
        if self.body:
            _put_body(out, at + 20, self.body)


# The start of a reply, up to its action, is constant except for the size, the id, and the number of the action. The action follows.
_HTTP_REQ_CALL: Final = int(FrameType.HTTP_REQ_CALL)
_HTTP_RESP_CALL: Final = int(FrameType.HTTP_RESP_CALL)
_FRAME_START: Final = bytes(HEADER_BYTES) + ROOT
_ID_AT: Final = HEADER_BYTES + 8
_PASS: Final = frame_header(FrameType.HTTP_REQ_CALL, 32) + pack("<IiIII6H", 4, -16, 0, 0, 0, 10, 16, 4, 0, 0, 0)
_ACTIONS: Final[dict[int, type[Stop | Rewrite]]] = {1: Stop, 2: Rewrite}
_ACTION_NUMBERS: Final = {action: number for number, action in _ACTIONS.items()}
_ACTION_STARTS: Final = {
    action: bytes(HEADER_BYTES) + pack("<IiIII6H", 4, -16, 0, number, 16, 10, 16, 4, 8, 12, 0) for number, action in _ACTIONS.items()
}


class HTTPReqCallResp(Message):
    """The reply to HTTPReqCallReq: a Stop, a Rewrite, or None if nothing changes. Source: gateway contract, 5."""

    __slots__ = ("action", "id")
    TYPE = FrameType.HTTP_REQ_CALL
    FIELDS = ("id", "action")

    def __init__(self, id: int, action: Stop | Rewrite | None = None) -> None:
        self.id = id
        self.action = action

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = root_table(payload)
        number = u8_field(payload, table, 1)
        if not number:
            return cls(u32_field(payload, table, 0))
        action = table_field(payload, table, 2)
        if number not in _ACTIONS or not action:
            raise RemoteProtocolError(f"HTTPReqCall.Resp has the action {number}; 1 (Stop) or 2 (Rewrite) with a table was expected")
        return cls(u32_field(payload, table, 0), _ACTIONS[number].read(payload, action))

    def encode_frame(self) -> bytearray:
        action = self.action
        out = primitives.new_message(_PASS if action is None else _ACTION_STARTS[type(action)])
        primitives.set_number(out, _ID_AT, self.id)
        if action is not None:
            action.put(out)
            put_header(out, _HTTP_REQ_CALL)
        return out

    def _values(self) -> tuple[Field, ...]:
        action = self.action
        return (self.id, None, None) if action is None else (self.id, _ACTION_NUMBERS[type(action)], action)


class HTTPRespCallReq(CallReq):
    """The upstream's response, before it is sent to the client. Source: gateway contract, 7."""

    __slots__ = ("_buf", "_headers", "_table", "status")
    TYPE = FrameType.HTTP_RESP_CALL
    FIELDS = ("id", "status", "headers", "conf_token")

    def __init__(self, id: int = 0, status: int = 200, headers: Iterable[Pair] = NO_ENTRIES, conf_token: int = 0) -> None:
        self.id = id
        self.status = status
        self.conf_token = conf_token
        self._headers: TextEntries | None = entries_of(headers)

    @classmethod
    def decode(cls, payload: bytes) -> "HTTPRespCallReq":
        return read_resp_call(payload)

    def _read(self, payload: bytes) -> None:
        table = self._table = root_table(payload)
        self.id = u32_field(payload, table, 0)
        self.status = u16_field(payload, table, 1)
        self.conf_token = u32_field(payload, table, 3)
        self._buf = payload
        self._headers = None

    @property
    def headers(self) -> TextEntries:
        """The response's headers, one entry for each value. The names have the case that the upstream sent."""
        return self.received_headers()

    def received_headers(self) -> TextEntries:
        """Same as `headers`, but C calls it directly."""
        value = self._headers
        if value is None:
            value = self._headers = entries_field(self._buf, self._table, 2)
        return value

    def _values(self) -> tuple[Field, ...]:
        return self.id, _status(self.status), self.headers, self.conf_token


class HTTPRespCallResp(Message):
    """
    The reply to HTTPRespCallReq. If the status, the headers or the body are empty, the upstream's remain. Source: gateway contract, 7.
    """

    __slots__ = ("body", "headers", "id", "status")
    TYPE = FrameType.HTTP_RESP_CALL
    FIELDS = ("id", "status", "headers", "body")

    def __init__(self, id: int, status: int = 0, headers: Iterable[Pair] = NO_ENTRIES, body: bytes = b"") -> None:
        self.id = id
        self.status = status
        self.headers = entries_of(headers)
        self.body = body

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        table = root_table(payload)
        return cls(
            u32_field(payload, table, 0),
            u16_field(payload, table, 1),
            entries_field(payload, table, 2),
            bytes_field(payload, table, 3) or b"",
        )

    def encode_frame(self) -> bytearray:
        out = primitives.new_message(_FRAME_START)
        self.put(out)
        put_header(out, _HTTP_RESP_CALL)
        return out

    def put(self, out: bytearray) -> None:
        at = len(out)
        has_headers = self.headers.size() > 0
        primitives.append_part(out, _RESP_CALL_STARTS[3 + (4 if has_headers else 0) + (8 if self.body else 0)])
        primitives.set_number(out, at + 4, self.id)
        primitives.set_number(out, at + 8, _status(self.status))
        if has_headers:
            _put_entries(out, at + 12, self.headers)
        if self.body:
            _put_body(out, at + 16, self.body)


# C calls these functions directly. A class method or a constructor would have to be looked up, and gets its arguments in Python objects.


def resp_call_resp(id: int, status: int, headers: TextEntries, body: bytes) -> HTTPRespCallResp:
    """Same as the constructor of HTTPRespCallResp, but C calls it directly."""
    self = HTTPRespCallResp.__new__(HTTPRespCallResp)
    self.id = id
    self.status = status
    self.headers = headers
    self.body = body
    return self


def read_req_call(payload: bytes) -> HTTPReqCallReq:
    """Same as `HTTPReqCallReq.decode`."""
    self = HTTPReqCallReq.__new__(HTTPReqCallReq)
    self._read(payload)
    return self


def read_resp_call(payload: bytes) -> HTTPRespCallReq:
    """Same as `HTTPRespCallReq.decode`."""
    self = HTTPRespCallReq.__new__(HTTPRespCallReq)
    self._read(payload)
    return self
