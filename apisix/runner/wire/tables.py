# SPDX-License-Identifier: Apache-2.0
"""What the messages have in common: how their fields are read, how they are written, compared and shown."""

from abc import abstractmethod
from typing import Final, Self, cast

from apisix.runner import primitives
from apisix.runner.wire.flatbuf import Field, put_table
from apisix.runner.wire.frames import HEADER_BYTES, FrameType, put_header

ROOT: Final = b"\x04\0\0\0"  # a message begins with the offset of its root table, which follows at once
_FRAME_START: Final = bytes(HEADER_BYTES) + ROOT


class Table:
    """A table of the schema: written by its values, compared and shown by its content."""

    __slots__ = ()
    FIELDS = cast("tuple[str, ...]", ())  # an annotation would make it an attribute in C

    def _values(self) -> tuple[Field, ...]:
        """Return what is written, one for each slot of the schema. Not asked of a table that writes itself, with a `put` of its own."""
        raise NotImplementedError

    def put(self, out: bytearray) -> None:
        """Append the table to a message that is being written."""
        put_table(out, self._values())

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)

    def __hash__(self) -> int:
        raise TypeError(f"{type(self).__name__} is compared by its content, which is no key")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.FIELDS)})"


class Message(Table):
    """A table that is sent as a frame of its own."""

    __slots__ = ()
    TYPE = FrameType.ERROR  # each message says its own

    @classmethod
    @abstractmethod
    def decode(cls, payload: bytes) -> Self:
        """
        Read a message.

        Raises: RemoteProtocolError: the payload is malformed. What is read lazily raises it when it is first touched.
        """

    def encode(self) -> bytes:
        """
        Return the payload.

        Raises: LocalProtocolError: a value can't be expressed.
        """
        out = bytearray(ROOT)
        self.put(out)
        return bytes(out)

    def encode_frame(self) -> bytearray:
        """
        Return header and payload as one object, so that they leave in one write. A body is copied only once.

        Raises: LocalProtocolError: a value can't be expressed. MessageTooLarge: the payload does not fit a frame.
        """
        out = primitives.new_message(_FRAME_START)
        self.put(out)
        put_header(out, self.TYPE)
        return out
