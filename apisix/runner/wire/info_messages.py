# SPDX-License-Identifier: Apache-2.0
"""What the runner asks the gateway during a call, and the answers. Source: gateway contract, 6."""

from functools import lru_cache
from typing import Final, Self

from apisix.runner import primitives
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.flatbuf import Field, bytes_field, put_table, root_table, table_field, text_field, u8_field
from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.tables import Message


class Var:
    """Ask for a variable of nginx or APISIX. Source: gateway contract, 6."""

    # No dataclass, as the two below: answers are kept by their question, and what a dataclass hashes with costs 0.4 us each time.
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
    """Ask for the request's body."""

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
    """Ask for the response's body, which the gateway gives only once."""

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
        root = root_table(payload)
        number = u8_field(payload, root, 0)
        table = table_field(payload, root, 1)
        if number not in _INFOS or not table:
            raise RemoteProtocolError(f"ExtraInfo.Req has info {number}; 1 (Var), 2 (ReqBody) or 3 (RespBody) with a table was expected")
        if number == _INFO_NUMBERS[Var]:
            return cls(Var(text_field(payload, table, 0) or ""))
        primitives.field_at(payload, table, 0)  # raises RemoteProtocolError if the table, which has no fields, is malformed
        return cls(ReqBody() if number == _INFO_NUMBERS[ReqBody] else RespBody())

    def encode_frame(self) -> bytearray:
        return bytearray(_question(self.info))

    def _values(self) -> tuple[Field, ...]:
        return _INFO_NUMBERS[type(self.info)], self.info


@lru_cache(maxsize=256)
def _question(info: Info) -> bytes:
    """Return the frame that asks. Plugins ask for the same few things again and again."""
    return bytes(super(ExtraInfoReq, ExtraInfoReq(info)).encode_frame())


class ExtraInfoResp(Message):
    """The gateway's answer to a question, None where there is no such thing. Source: gateway contract, 6."""

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
    """Read a message, as `ExtraInfoResp.decode` does. A function, because in C a class method does not know what it makes."""
    self = ExtraInfoResp.__new__(ExtraInfoResp)
    self.result = bytes_field(payload, root_table(payload), 0)
    return self
