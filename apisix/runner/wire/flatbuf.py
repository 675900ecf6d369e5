# SPDX-License-Identifier: Apache-2.0
"""
FlatBuffers, as much of them as the schema needs: strict reading, and writing in one pass.

Readers are plain functions over an immutable buffer and a position. A buffer comes from the peer and may hold anything:
each read is checked against its end, and each function raises RemoteProtocolError and nothing else.

The writer goes forward: a table, then what it refers to. Everything that a table refers to is independent of its position
(it only looks forward, and its vtable travels with it), so that pieces are joined once, straight into the frame.

Source: https://flatbuffers.dev/internals/ (FlatBuffers binary format).
"""

from collections.abc import Callable, Sequence
from functools import cache
from struct import Struct
from struct import error as StructError
from typing import Protocol

from apisix.runner.errors import LocalProtocolError, RemoteProtocolError

_u16 = Struct("<H").unpack_from
_u32 = Struct("<I").unpack_from
_i32 = Struct("<i").unpack_from
_pack_u32 = Struct("<I").pack

# ---------------------------------------------------------------------------------------------------------- reading


def out_of_bounds(what: str, pos: int, buf: bytes) -> RemoteProtocolError:
    """Return the error for a read that the buffer does not hold."""
    return RemoteProtocolError(f"{what} at byte {pos} does not lie within the message of {len(buf)} bytes")


def read_root(buf: bytes) -> int:
    """Return the position of the root table. It is checked when the table is read."""
    try:
        return int(_u32(buf, 0)[0])
    except StructError:
        raise out_of_bounds("the root", 0, buf) from None


def read_fields(buf: bytes, table: int, slots: int) -> tuple[int, ...]:
    """
    Return where the first `slots` fields of a table stand in the buffer, 0 for an absent one.

    The positions are not checked: the functions that read a value there do it.
    """
    try:
        vtable = table - _i32(buf, table)[0]
        if vtable < 0:
            raise out_of_bounds("a vtable", vtable, buf)
        size = _u16(buf, vtable)[0]
        present = min((size - 4) >> 1, slots)
        if size < 4 or size & 1 or vtable + size > len(buf):
            raise out_of_bounds(f"a vtable of {size} bytes", vtable, buf)
        offsets = _vtable_reader(present)(buf, vtable + 4)
    except StructError:
        raise out_of_bounds("a table", table, buf) from None
    return tuple([table + offset if offset else 0 for offset in offsets]) + (0,) * (slots - present)


@cache
def _vtable_reader(fields: int) -> Callable[[bytes, int], tuple[int, ...]]:
    return Struct(f"<{fields}H").unpack_from


def read_u8(buf: bytes, pos: int) -> int:
    """Return the ubyte at `pos`, 0 for an absent field."""
    if pos >= len(buf):
        raise out_of_bounds("a ubyte", pos, buf)
    return buf[pos] if pos else 0


def read_u16(buf: bytes, pos: int) -> int:
    """Return the uint16 at `pos`, 0 for an absent field."""
    try:
        return int(_u16(buf, pos)[0]) if pos else 0
    except StructError:
        raise out_of_bounds("a uint16", pos, buf) from None


def read_u32(buf: bytes, pos: int) -> int:
    """Return the uint32 at `pos`, 0 for an absent field."""
    try:
        return int(_u32(buf, pos)[0]) if pos else 0
    except StructError:
        raise out_of_bounds("a uint32", pos, buf) from None


def read_table(buf: bytes, pos: int) -> int:
    """Return the position of the table that the offset at `pos` refers to."""
    return pos + read_u32(buf, pos)


def read_bytes(buf: bytes, pos: int) -> bytes:
    """Return the vector of ubytes, or the bytes of the string, that the offset at `pos` refers to."""
    try:
        start: int = pos + _u32(buf, pos)[0]
        size: int = _u32(buf, start)[0]
    except StructError:
        raise out_of_bounds("a string or vector", pos, buf) from None
    end = start + 4 + size
    if end > len(buf):
        raise out_of_bounds(f"a string or vector of {size} bytes", start, buf)
    return buf[start + 4 : end]


def read_text(buf: bytes, pos: int) -> str:
    """
    Return the string that the offset at `pos` refers to.

    Paths and headers can hold any bytes: what is no UTF-8 becomes surrogates, and goes back byte for byte.
    Source: gateway contract, 4.
    """
    return str(read_bytes(buf, pos), "utf-8", "surrogateescape")


def read_vector(buf: bytes, pos: int) -> tuple[int, int]:
    """Return where the first offset of a vector of tables stands and how many there are; all lie within the buffer."""
    start = pos + read_u32(buf, pos)
    count = read_u32(buf, start)
    if start + 4 + 4 * count > len(buf):
        raise out_of_bounds(f"a vector of {count} tables", start, buf)
    return start + 4, count


# ---------------------------------------------------------------------------------------------------------- writing

_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length modulo 4
_STRING_END = (b"\0\0\0\0", b"\0\0\0", b"\0\0", b"\0")  # a string ends in at least one NUL


@cache
def _table_shape(slots: int, present: int) -> tuple[int, bytes, Callable[..., bytes]]:
    """
    Return what is constant about a table: the distance to its vtable, the vtable, and a function that packs both with the fields.

    The vtable stands behind the table, so that whatever refers to the table refers to the first byte of the piece.
    Each field gets four bytes: an offset, or a scalar that is zero-extended (little-endian: its low bytes come first).

    Args: slots: how many fields the schema gives the table. present: bit k is set where field k is.
    """
    offsets = [0] * slots
    size = 4
    for slot in range(slots):
        if present >> slot & 1:
            offsets[slot] = size
            size += 4
    vtable = Struct(f"<{slots + 2}H").pack(4 + 2 * slots, size, *offsets) + bytes(2 * (slots % 2))
    return -size, vtable, Struct(f"<i{size // 4 - 1}I{len(vtable)}s").pack


def encode_text(text: str) -> bytes:
    """
    Return the bytes of a text, the escaped ones as they came.

    Raises: LocalProtocolError: it holds a surrogate that stands for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a text can't be sent, character {error.start} is a lone surrogate") from None


def put_bytes(parts: list[bytes], data: bytes) -> int:
    """Append a vector of ubytes and return its size in bytes. The data itself is not copied before the final join."""
    size = len(data)
    padding = _PADDING[size & 3]
    parts += (_pack_u32(size), data, padding)
    return 4 + size + len(padding)


def put_text(parts: list[bytes], text: str) -> int:
    """Append a string and return its size in bytes."""
    data = encode_text(text)
    size = len(data)
    end = _STRING_END[size & 3]
    parts += (_pack_u32(size), data, end)
    return 4 + size + len(end)


def put_table(parts: list[bytes], fields: Sequence["Field"]) -> int:
    """
    Append a table and what it refers to, and return the size of both in bytes.

    Args: fields: one for each slot of the schema: None where absent, a number, or something that `put` can append.
    """
    head_at = len(parts)
    parts.append(b"")
    present = 0
    words: list[int] = []
    children: list[tuple[int, int]] = []
    size = 0
    for slot, field in enumerate(fields):
        if field is None:
            continue
        present |= 1 << slot
        if isinstance(field, int):
            words.append(field)
        else:
            children.append((len(words), size))
            words.append(0)
            size += (
                put_text(parts, field)
                if isinstance(field, str)
                else put_bytes(parts, field)
                if isinstance(field, bytes)
                else field.put(parts)
            )
    to_vtable, vtable, pack = _table_shape(len(fields), present)
    vtable_bytes = len(vtable)
    for index, start in children:
        words[index] = start + 4 * (len(words) - index) + vtable_bytes
    try:
        packed = parts[head_at] = pack(to_vtable, *words, vtable)
    except StructError:
        raise LocalProtocolError(f"a number is too large for its field: {words}") from None
    return len(packed) + size


class Putable(Protocol):
    """What can append itself behind a table: a vector of tables, or another table."""

    def put(self, parts: list[bytes]) -> int:
        """Append yourself, not depending on where that is, and return your size in bytes, a multiple of four."""


Field = int | str | bytes | Putable | None
