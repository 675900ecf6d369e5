# SPDX-License-Identifier: Apache-2.0
"""Info requests, which a runner sends during a call, and info replies. Source: gateway contract, 6."""

from functools import lru_cache
from typing import Final, Self

from apisix.runner import primitives
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.flatbuf import Field, bytes_field, put_table, root_table, table_field, text_field, u8_field
from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.tables import Message


class Var:
    """The info request for a variable of nginx or APISIX. Source: gateway contract, 6."""

    # These three are keys of dicts, and not dataclasses, whose generated `__hash__` is slower.
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, Var) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Var(name={self.name!r})"

    def put(self, out: bytearray) -> None:
        """Append the table to a message that is being written."""
        put_table(out, (self.name,))


class ReqBody:
    """The info request for the request's body."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReqBody)

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "ReqBody()"

    def put(self, out: bytearray) -> None:
        """Append the table to a message that is being written."""
        put_table(out, ())


class RespBody:
    """The info request for the response's body, which the gateway sends only once."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RespBody)

    def __hash__(self) -> int:
        return 2

    def __repr__(self) -> str:
        return "RespBody()"

    def put(self, out: bytearray) -> None:
        """Append the table to a message that is being written."""
        put_table(out, ())


Info = Var | ReqBody | RespBody
_INFOS: Final[dict[int, type[Info]]] = {1: Var, 2: ReqBody, 3: RespBody}
_INFO_NUMBERS: Final = {info: number for number, info in _INFOS.items()}


class ExtraInfoReq(Message):
    """An info request. It is hashable, so that it can be the key of its reply."""

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
        root = root_table(payload)
        number = u8_field(payload, root, 0)
        table = table_field(payload, root, 1)
        if number not in _INFOS or not table:
            raise RemoteProtocolError(
                f"ExtraInfo.Req has the info {number}; 1 (Var), 2 (ReqBody) or 3 (RespBody) with a table was expected"
            )
        if number == _INFO_NUMBERS[Var]:
            return cls(Var(text_field(payload, table, 0) or ""))
        primitives.field_at(payload, table, 0)  # raises RemoteProtocolError if the table, which has no fields, is malformed
        return cls(ReqBody() if number == _INFO_NUMBERS[ReqBody] else RespBody())

    def encode_frame(self) -> bytearray:
        return bytearray(_frame_of(self.info))

    def _values(self) -> tuple[Field, ...]:
        return _INFO_NUMBERS[type(self.info)], self.info


@lru_cache(maxsize=256)
def _frame_of(info: Info) -> bytes:
    """Return the frame of an info request. It is cached, because plugins fetch the same few variables in each call."""
    return bytes(super(ExtraInfoReq, ExtraInfoReq(info)).encode_frame())


class ExtraInfoResp(Message):
    """An info reply. The result is None if there is no such variable or no body. Source: gateway contract, 6."""

    __slots__ = ("result",)
    TYPE = FrameType.EXTRA_INFO
    FIELDS = ("result",)

    def __init__(self, result: bytes | None = None) -> None:
        self.result = result

    @classmethod
    def decode(cls, payload: bytes) -> "ExtraInfoResp":
        return read_extra_info_resp(payload)

    def _values(self) -> tuple[Field, ...]:
        return (self.result,)


def read_extra_info_resp(payload: bytes) -> ExtraInfoResp:
    """Same as `ExtraInfoResp.decode`, but C calls it directly."""
    self = ExtraInfoResp.__new__(ExtraInfoResp)
    self.result = bytes_field(payload, root_table(payload), 0)
    return self
