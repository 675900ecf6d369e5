# SPDX-License-Identifier: Apache-2.0
"""The base classes of all messages: how they are written, compared and shown."""

from abc import abstractmethod
from typing import Final, Self, cast

from apisix.runner import primitives
from apisix.runner.wire.flatbuf import Field, put_table
from apisix.runner.wire.frames import HEADER_BYTES, FrameType, put_header

ROOT: Final = b"\x04\0\0\0"  # a message begins with the offset of its root table, which follows directly
_FRAME_START: Final = bytes(HEADER_BYTES) + ROOT


class Table:
    """A table of the schema. Tables are equal if their fields are equal."""

    __slots__ = ()
    FIELDS = cast("tuple[str, ...]", ())  # Cython would make an annotated name an attribute of each instance

    def _values(self) -> tuple[Field, ...]:
        """Return the fields to write, one for each slot of the schema. Not called if a class overrides `put`."""
        raise NotImplementedError

    def put(self, out: bytearray) -> None:
        """Append the table to a message that is being written."""
        put_table(out, self._values())

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.FIELDS)

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.FIELDS)})"


class Message(Table):
    """A table that is sent as the payload of a frame."""

    __slots__ = ()
    TYPE = FrameType.ERROR  # each message overrides it

    @classmethod
    @abstractmethod
    def decode(cls, payload: bytes) -> Self:
        """
        Return the message in a payload.

        Raises: RemoteProtocolError: the payload is malformed. Attributes that are decoded on first use raise it then.
        """

    def encode(self) -> bytes:
        """
        Return the payload.

        Raises: LocalProtocolError: a value can't be encoded.
        """
        out = bytearray(ROOT)
        self.put(out)
        return bytes(out)

    def encode_frame(self) -> bytearray:
        """
        Return header and payload as one object, so that they are sent in one write. A body is copied only once.

        Raises:
            LocalProtocolError: a value can't be encoded.
            MessageTooLarge: the payload does not fit into a frame.
        """
        out = primitives.new_message(_FRAME_START)
        self.put(out)
        put_header(out, self.TYPE)
        return out
