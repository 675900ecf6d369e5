# SPDX-License-Identifier: Apache-2.0
"""
FlatBuffers, as far as the schema needs them: functions that read the fields of a table, and one that writes a table in one pass.

A received buffer may contain anything. `primitives` checks each read against the end of the buffer and raises RemoteProtocolError if it
lies outside, so the functions here raise that error and no other.

The writer only appends: a table, its vtable, then the pieces that the table refers to.

Source: https://flatbuffers.dev/internals/ (FlatBuffers binary format).
"""

from functools import cache
from struct import pack
from typing import Protocol

from apisix.runner import primitives

__all__ = [
    "Field",
    "Piece",
    "bytes_field",
    "put_table",
    "root_table",
    "table_field",
    "table_starts",
    "text_field",
    "u8_field",
    "u16_field",
    "u32_field",
]

# Reading. A field is identified by the position of its table and the number of its slot in the schema.


def root_table(buf: bytes) -> int:
    """Return the position of the root table of a message."""
    return primitives.target_at(buf, 0)


def u8_field(buf: bytes, table: int, slot: int) -> int:
    """Return a ubyte, 0 if it is absent."""
    at = primitives.field_at(buf, table, slot)
    return primitives.u8_at(buf, at) if at else 0


def u16_field(buf: bytes, table: int, slot: int) -> int:
    """Return a uint16, 0 if it is absent."""
    at = primitives.field_at(buf, table, slot)
    return primitives.u16_at(buf, at) if at else 0


def u32_field(buf: bytes, table: int, slot: int) -> int:
    """Return a uint32, 0 if it is absent."""
    at = primitives.field_at(buf, table, slot)
    return primitives.u32_at(buf, at) if at else 0


def table_field(buf: bytes, table: int, slot: int) -> int:
    """Return the position of another table, 0 if it is absent."""
    at = primitives.field_at(buf, table, slot)
    return primitives.target_at(buf, at) if at else 0


def bytes_field(buf: bytes, table: int, slot: int) -> bytes | None:
    """Return a vector of ubytes, None if it is absent."""
    at = primitives.field_at(buf, table, slot)
    return primitives.bytes_at(buf, primitives.target_at(buf, at)) if at else None


def text_field(buf: bytes, table: int, slot: int) -> str | None:
    """Return a string, None if it is absent. Bytes that are not UTF-8 become surrogates, see `primitives.text_at`."""
    at = primitives.field_at(buf, table, slot)
    return primitives.text_at(buf, primitives.target_at(buf, at)) if at else None


# Writing.


class Piece(Protocol):
    """Anything other than strings and vectors of ubytes that a table can refer to: a vector of tables, or another table."""

    def put(self, out: bytearray) -> None:
        """Append the piece. A reference to it refers to its first byte; there is no reference if nothing is appended."""


Field = int | str | bytes | Piece | None


@cache
def table_starts(slots: int) -> list[bytes]:
    """
    Return the start of a table, up to the first piece that it refers to, for each set of fields that may be present. Bit k of an index
    in the list represents slot k.

    Field k has four bytes, 4 + 4 * k bytes into the table, even if it is absent: the few bytes save a second pass. They contain
    an offset, or a number that is zero-extended (in little-endian order its low bytes come first). The vtable follows the table, so that
    the first byte of the piece is that of the table.

    Args: slots: how many fields the table has in the schema.
    """
    size = 4 + 4 * slots
    starts = []
    for present in range(1 << slots):
        offsets = [4 + 4 * slot if present >> slot & 1 else 0 for slot in range(slots)]
        vtable = pack(f"<{slots + 2}H", 4 + 2 * slots, size, *offsets)
        starts.append(pack("<i", -size) + bytes(4 * slots) + vtable + bytes(len(vtable) % 4))
    return starts


def put_table(out: bytearray, fields: tuple[Field, ...]) -> None:
    """
    Append a table and what it refers to.

    Args: fields: one for each slot of the schema. None, and a piece that appends nothing, is absent.
    Raises: LocalProtocolError: a value can't be encoded.
    """
    slots = len(fields)
    begin = pos = len(out)
    starts = table_starts(slots)
    primitives.append_part(out, starts[0])
    present = 0
    bit = 1
    for field in fields:
        pos += 4
        start = len(out)
        if isinstance(field, int):
            primitives.set_number(out, pos, field)
            present |= bit
        elif field is not None:
            if isinstance(field, bytes):
                primitives.append_bytes(out, field)
            elif isinstance(field, str):
                primitives.append_text(out, field)
            else:
                field.put(out)
            if len(out) > start:
                primitives.set_offset(out, pos, start - pos)
                present |= bit
        bit += bit
    vtable_at = 4 + 4 * slots
    primitives.set_part(out, begin + vtable_at, starts[present][vtable_at:])
