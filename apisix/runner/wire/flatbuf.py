# SPDX-License-Identifier: Apache-2.0
"""
FlatBuffers, as much of them as the schema needs: strict reading, and writing in one pass.

Readers are plain functions over an immutable buffer and a position. A buffer comes from the peer and may hold anything:
each read is checked against its end, and each function raises RemoteProtocolError and nothing else.
The reads of `struct` check the end themselves (StructError); a position below zero would count from the end, and is
checked where one can come up, which is only at a vtable: all other offsets are unsigned.

The writer goes forward: a table, its vtable, then what the table refers to. Such a piece does not depend on where it
stands, so that pieces are joined once, straight into the frame.

Source: https://flatbuffers.dev/internals/ (FlatBuffers binary format).
"""

from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import Final, Protocol

from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire import scalars
from apisix.runner.wire.scalars import StructError

__all__ = [
    "PADDING",
    "STRING_END",
    "Field",
    "Piece",
    "encode_text",
    "out_of_bounds",
    "put_bytes",
    "put_table",
    "put_text",
    "read_bytes",
    "read_fields",
    "read_root",
    "read_table",
    "read_text",
    "read_u8",
    "read_u16",
    "read_u32",
    "read_vector",
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


def read_fields(buf: bytes, table: int, slots: int) -> tuple[int, ...]:
    """
    Return size and extent of a table, then the offsets of its first `slots` fields from the table, 0 for an absent one.

    The offsets are not checked: the functions that read a value there do it.
    """
    try:
        vtable = table - scalars.i32_at(buf, table)[0]
        if vtable >= 0:
            fields = scalars.u16s_at(buf, vtable, 2 + slots)
            if fields[0] == 4 + 2 * slots:  # as every known peer writes it: one read for the whole vtable
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
    return buf[start:end]


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

# What follows data in a piece whose size is a multiple of four, by the data's length modulo four.
PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
STRING_END: Final = (b"\0\0\0\0", b"\0\0\0", b"\0\0", b"\0")  # a string ends in at least one NUL


class Piece(Protocol):
    """What can stand behind a table that refers to it: a vector of tables, or another table."""

    def put(self, parts: list[bytes]) -> int:
        """Append yourself and return your size in bytes, a multiple of four. What refers to you refers to your first byte."""


Field = int | str | bytes | Piece | None


def encode_text(text: str) -> bytes:
    """
    Return the bytes of a text, the escaped ones as they came.

    Raises: LocalProtocolError: it holds a surrogate that stands for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a text can't be sent, its character {error.start} is a lone surrogate") from None


def put_bytes(parts: list[bytes], data: bytes) -> int:
    """Append a vector of ubytes and return its size in bytes. The data itself is not copied before the final join."""
    size = len(data)
    parts += (scalars.pack_u32(size), data, PADDING[size & 3])
    return size + 7 & ~3


def put_text(parts: list[bytes], text: str) -> int:
    """Append a string and return its size in bytes."""
    data = encode_text(text)
    size = len(data)
    parts += (scalars.pack_u32(size), data, STRING_END[size & 3])
    return size + 8 & ~3


@cache
def _vtables(slots: int) -> list[bytes]:
    """
    Return the vtable of a table for each set of fields that may be present.

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
    return vtables


def put_table(parts: list[bytes], fields: Sequence[Field]) -> int:
    """
    Append a table and what it refers to, and return the size of both in bytes.

    Args: fields: one for each slot of the schema. None, and a piece that appends nothing, is absent.
    Raises: LocalProtocolError: a value can't be expressed.
    """
    slots = len(fields)
    vtables: list[bytes] = _vtables(slots)
    table_at = len(parts)
    parts.append(b"")  # its place; the offsets in it are known last
    words = [2**32 - 4 - 4 * slots]  # the distance to the vtable, negative: it stands behind
    end = 4 * slots + len(vtables[0])  # of the table, counted from the field that is next
    present = size = 0
    bit = 1
    for field in fields:
        if field is None:
            word = 0
        elif isinstance(field, int):
            present |= bit
            word = field
        else:
            if isinstance(field, bytes):
                added = put_bytes(parts, field)
            elif isinstance(field, str):
                added = put_text(parts, field)
            else:
                added = field.put(parts)
            word = 0
            if added:
                present |= bit
                word = end + size
                size += added
        words.append(word)
        end -= 4
        bit += bit
    try:
        parts[table_at] = scalars.pack_u32s(words) + vtables[present]
    except StructError:
        raise LocalProtocolError(f"a number does not fit its field: {words[1:]}") from None
    return end + 4 + 4 * slots + size
