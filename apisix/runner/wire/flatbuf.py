# SPDX-License-Identifier: Apache-2.0
"""
FlatBuffers, as much of them as the schema needs: strict reading, and writing in one pass.

Readers are plain functions over an immutable buffer and a position. A buffer comes from the peer and may hold anything:
each read is checked against its end, and each function raises RemoteProtocolError and nothing else.
The reads of `struct` check the end themselves (StructError); a position below zero would count from the end, and is
checked where one can come up, which is only at a vtable: all other offsets are unsigned.

The writer goes forward: a table, its vtable, then what the table refers to.

Source: https://flatbuffers.dev/internals/ (FlatBuffers binary format).
"""

from struct import Struct
from typing import Final, Protocol

from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire import scalars
from apisix.runner.wire.scalars import StructError

__all__ = [
    "Field",
    "Piece",
    "out_of_bounds",
    "put_bytes",
    "put_table",
    "read_bytes",
    "read_fields",
    "read_root",
    "read_table",
    "read_text",
    "read_u8",
    "read_u16",
    "read_u32",
    "read_vector",
    "table_starts",
]

# ---------------------------------------------------------------------------------------------------------- reading


def out_of_bounds(what: str, pos: int, buf: bytes) -> RemoteProtocolError:
    """Return the error for a read that the buffer does not hold."""
    return RemoteProtocolError(f"{what} at byte {pos} does not lie within the message of {len(buf)} bytes")


def read_root(buf: bytes) -> int:
    """Return the position of the root table. It is checked when the table is read."""
    try:
        return scalars.u32_at(buf, 0)[0]  # type: ignore[no-any-return]  # typeshed can't know what a format unpacks to
    except StructError:
        raise out_of_bounds("the root", 0, buf) from None


# The last vtable that was read, and what it says, for each number of slots; at first that of a table without fields.
_SEEN: Final[list[tuple[bytes, tuple[int, ...]]]] = [
    (Struct("<2H").pack(4 + 2 * slots, 4) + bytes(2 * slots), (4 + 2 * slots, 4) + (0,) * slots) for slots in range(16)
]


def read_fields(buf: bytes, table: int, slots: int) -> tuple[int, ...]:
    """
    Return size and extent of a table, then the offsets of its first `slots` fields from the table, 0 for an absent one.

    The offsets are not checked: the functions that read a value there do it.
    """
    try:
        vtable = table - scalars.i32_at(buf, table)[0]
        if vtable >= 0:
            seen, fields = _SEEN[slots]
            if scalars.is_part_at(buf, vtable, seen):  # as in the last such table: a peer writes all alike
                return fields
            fields = scalars.u16s_at(buf, vtable, 2 + slots)
            if fields[0] == 4 + 2 * slots:  # as every known peer writes it: one read for the whole vtable
                _SEEN[slots] = scalars.part_at(buf, vtable, vtable + 4 + 2 * slots), fields
                return fields
    except StructError:
        pass
    return _read_other_fields(buf, table, slots)


def _read_other_fields(buf: bytes, table: int, slots: int) -> tuple[int, ...]:
    """Do the same for a vtable that ends before the last field, or goes on after it (a newer schema)."""
    try:
        vtable = table - scalars.i32_at(buf, table)[0]
        if vtable < 0:
            raise out_of_bounds("a vtable", vtable, buf)
        size: int = scalars.u16_at(buf, vtable)[0]
        if size < 4 or size & 1 or vtable + size > len(buf):
            raise out_of_bounds(f"a vtable of {size} bytes", vtable, buf)
        present = min((size - 4) >> 1, slots)
        fields = scalars.u16s_at(buf, vtable, 2 + present)
        return fields + (0,) * (slots - present)
    except StructError:
        raise out_of_bounds("a table", table, buf) from None


def read_u8(buf: bytes, pos: int) -> int:
    """Return the ubyte at a position."""
    try:
        return buf[pos]
    except IndexError:
        raise out_of_bounds("a ubyte", pos, buf) from None


def read_u16(buf: bytes, pos: int) -> int:
    """Return the uint16 at a position."""
    try:
        return scalars.u16_at(buf, pos)[0]  # type: ignore[no-any-return]
    except StructError:
        raise out_of_bounds("a uint16", pos, buf) from None


def read_u32(buf: bytes, pos: int) -> int:
    """Return the uint32 at a position."""
    try:
        return scalars.u32_at(buf, pos)[0]  # type: ignore[no-any-return]
    except StructError:
        raise out_of_bounds("a uint32", pos, buf) from None


def read_table(buf: bytes, pos: int) -> int:
    """Return the position of the table that the offset at `pos` refers to. It is checked when the table is read."""
    return pos + read_u32(buf, pos)


def read_bytes(buf: bytes, pos: int) -> bytes:
    """Return the vector of ubytes, or the bytes of the string, that the offset at `pos` refers to."""
    try:
        start = pos + scalars.u32_at(buf, pos)[0] + 4
        end = start + scalars.u32_at(buf, start - 4)[0]
    except StructError:
        raise out_of_bounds("a string or vector", pos, buf) from None
    if end > len(buf):
        raise out_of_bounds(f"the end of a string or vector, {end},", start - 4, buf)
    return scalars.part_at(buf, start, end)


def read_text(buf: bytes, pos: int) -> str:
    """
    Return the string that the offset at `pos` refers to.

    Paths and headers can hold any bytes: what is no UTF-8 becomes surrogates, and goes back byte for byte.
    Source: gateway contract, 4.
    """
    return read_bytes(buf, pos).decode("utf-8", "surrogateescape")


def read_vector(buf: bytes, pos: int) -> tuple[int, int]:
    """Return where the first offset of a vector of tables stands, and how many there are. All lie within the buffer."""
    try:
        start: int = pos + scalars.u32_at(buf, pos)[0] + 4
        count: int = scalars.u32_at(buf, start - 4)[0]
    except StructError:
        raise out_of_bounds("a vector", pos, buf) from None
    if start + 4 * count > len(buf):
        raise out_of_bounds(f"a vector of {count} tables", start - 4, buf)
    return start, count


# ---------------------------------------------------------------------------------------------------------- writing


class Piece(Protocol):
    """What can stand behind a table that refers to it: a vector of tables, or another table."""

    def put(self, out: bytearray) -> None:
        """Append yourself. What refers to you refers to your first byte; nothing refers to you if you append nothing."""


Field = int | str | bytes | Piece | None


def put_bytes(out: bytearray, data: bytes) -> None:
    """Append a vector of ubytes."""
    scalars.append_bytes(out, data)


_MAX_SLOTS: Final = 15
_VTABLES: Final[list[list[bytes]]] = [[] for _ in range(_MAX_SLOTS + 1)]  # made when first needed


def _vtables_of(slots: int) -> list[bytes]:
    """
    Make the vtable of a table for each set of fields that may be present.

    Each field has its place, four bytes, whether it is present or not: that costs a few bytes and saves a second pass.
    An offset stands there, or a scalar that is zero-extended (little-endian: its low bytes come first). The vtable stands behind
    the table, so that what refers to the table refers to the first byte of the piece.

    Args: slots: how many fields the schema gives the table.
    """
    size = 4 + 4 * slots
    vtables = []
    for present in range(1 << slots):
        offsets = [4 + 4 * slot if present >> slot & 1 else 0 for slot in range(slots)]
        vtables.append(Struct(f"<{slots + 2}H").pack(4 + 2 * slots, size, *offsets) + bytes(2 * (slots % 2)))
    _VTABLES[slots] = vtables
    return vtables


def table_starts(slots: int) -> list[bytes]:
    """
    Return how a table begins, up to what it refers to, for each set of fields that may be present: bit k stands for slot k.

    For tables whose class writes them itself, as `put_table` would: field k has its place 4 + 4 * k bytes into the table.
    """
    distance = scalars.pack_u32(2**32 - 4 - 4 * slots)
    return [distance + bytes(4 * slots) + vtable for vtable in _VTABLES[slots] or _vtables_of(slots)]


def put_table(out: bytearray, fields: tuple[Field, ...]) -> None:
    """
    Append a table and what it refers to.

    Args: fields: one for each slot of the schema. None, and a piece that appends nothing, is absent.
    Raises: LocalProtocolError: a value can't be expressed.
    """
    slots = len(fields)
    pos = len(out)
    vtables = _VTABLES[slots] or _vtables_of(slots)
    vtable_at = pos + 4 + 4 * slots
    scalars.append_u32(out, 2**32 - 4 - 4 * slots)  # the distance to the vtable, negative: it stands behind
    scalars.append_zeros(out, 4 * slots)  # the places of the fields
    scalars.append_part(out, vtables[0])
    present = 0
    bit = 1
    for field in fields:
        pos += 4
        start = len(out)
        if isinstance(field, int):
            try:
                scalars.set_u32(out, pos, field)
            except (StructError, OverflowError):
                raise LocalProtocolError(f"a number does not fit its field: {field}") from None
            present |= bit
        elif field is not None:
            if isinstance(field, bytes):
                put_bytes(out, field)
            elif isinstance(field, str):
                scalars.append_text(out, field)
            else:
                field.put(out)
            if len(out) > start:
                scalars.set_offset(out, pos, start - pos)
                present |= bit
        bit += bit
    scalars.set_part(out, vtable_at, vtables[present])
