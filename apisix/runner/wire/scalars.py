# SPDX-License-Identifier: Apache-2.0
"""
Numbers and texts at a position of a buffer: what all reading and writing here comes down to.

A module of its own because the accelerator has it twice: `scalars.pxd` says the same in C, where a read costs 1 ns instead of 60.
To be used as `scalars.u32_at(...)`: that is the form which compiles to a call in C.
"""

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final

from apisix.runner.errors import LocalProtocolError

__all__ = [
    "StructError",
    "append_bytes",
    "append_entry",
    "append_found",
    "append_part",
    "append_places",
    "append_text",
    "append_u32",
    "append_zeros",
    "encode_text",
    "entry_at",
    "first_hit",
    "frozen",
    "i32_at",
    "is_name_at",
    "is_part_at",
    "key_at",
    "length_bit",
    "network_u32_at",
    "new_message",
    "pack_network_u32",
    "pack_u32",
    "part_at",
    "set_network_u32",
    "set_offset",
    "set_part",
    "set_u32",
    "text_at",
    "u16_at",
    "u16s_at",
    "u32_at",
]

# They return tuples of one, as Struct does: taking the number out is free in C, and a function around it would cost 40 ns in Python.
# They raise StructError past the end, and `pos` must not be negative.
u16_at: Final = Struct("<H").unpack_from
u32_at: Final = Struct("<I").unpack_from
i32_at: Final = Struct("<i").unpack_from
pack_u32: Final = Struct("<I").pack
network_u32_at: Final = Struct(">I").unpack_from  # frames are big-endian, what is in them little-endian
pack_network_u32: Final = Struct(">I").pack


_FEW: Final = 16
_u16s_at: Final = [Struct(f"<{count}H").unpack_from for count in range(_FEW)]


def u16s_at(buf: bytes, pos: int, count: int) -> tuple[int, ...]:
    """Return some numbers, up to 15, that stand one behind the other. Raises: StructError: they do not lie within the buffer."""
    return _u16s_at[count](buf, pos)


def part_at(buf: bytes, start: int, end: int) -> bytes:
    """Return a part of a buffer in which it must lie."""
    return buf[start:end]


def text_at(buf: bytes, start: int, end: int) -> str:
    """Return a part of a buffer, in which it must lie, as text. What is no UTF-8 becomes surrogates."""
    return buf[start:end].decode("utf-8", "surrogateescape")


def first_hit(buf: bytes, name: bytes, ignore_case: bool) -> int:
    """
    Return the first position at which a string of that content might stand, or -1 where there is certainly none.

    Most names that are asked for are not there, and in Python one search of all bytes tells: 1 us instead of 8. In C it is
    the other way round: `is_name_at` costs 2 ns, so there each position might hold it.
    """
    if ignore_case:
        # Lengths of 65 to 90 look like capitals and are changed too, here and there: only a look at the place itself tells.
        return buf.lower().find((pack_u32(len(name)) + name).lower())
    return buf.find(pack_u32(len(name)) + name)


def is_name_at(buf: bytes, pos: int, name: bytes, ignore_case: bool) -> bool:
    """
    Tell whether the string whose length stands at `pos` is that name. False where it would end outside of the buffer.

    Args: ignore_case: whether ASCII letters match in either case.
    """
    size = len(name)
    if not buf.startswith(pack_u32(size), pos):
        return False
    if ignore_case:
        return buf[pos + 4 : pos + 4 + size].lower() == name.lower()
    return buf.startswith(name, pos + 4)


def is_part_at(buf: bytes, pos: int, part: bytes) -> bool:
    """Tell whether the buffer has these bytes at `pos`, which may lie outside of it."""
    return pos >= 0 and buf.startswith(part, pos)


def entry_at(buf: bytes, table: int, name_at: int, value_at: int) -> tuple[int, int, int, int]:
    """
    Return where the name of an entry begins and ends, and where its value does: 0 and 0 for what is absent.

    Args: name_at, value_at: the offsets of the fields from the table, 0 for an absent one.
    Raises: StructError: one does not lie within the buffer.
    """
    name = name_end = value = value_end = 0
    if name_at:
        name = table + name_at
        name += u32_at(buf, name)[0] + 4
        name_end = name + u32_at(buf, name - 4)[0]
    if value_at:
        value = table + value_at
        value += u32_at(buf, value)[0] + 4
        value_end = value + u32_at(buf, value - 4)[0]
    if name_end > len(buf) or value_end > len(buf):
        raise StructError("the end of a name or a value does not lie within the message")
    return name, name_end, value, value_end


def length_bit(size: int) -> int:
    """Return what stands for the length of a name in the `lengths` of `key_at`."""
    return 1 << (size & 63)


def key_at(buf: bytes, start: int, end: int, lengths: int) -> bytes | None:
    """
    Return a name, which must lie in the buffer, as headers are compared: in lower case; None may be returned for one of another length.

    Args: lengths: the `length_bit` of each name that it will be compared with, or-ed. Only C looks: there an object is what costs.
    """
    name = buf[start:end]
    return name.lower() if name.isascii() else encode_text(name.decode("utf-8", "surrogateescape").lower())


# Writing: a message grows in one bytearray, and offsets are set once what they refer to has its place.

_STRING_END: Final = (b"\0\0\0\0", b"\0\0\0", b"\0\0", b"\0")  # a string ends in at least one NUL, by its length modulo four
_set_u32: Final = Struct("<I").pack_into
_set_network_u32: Final = Struct(">I").pack_into


def encode_text(text: str) -> bytes:
    """
    Return the bytes of a text, the escaped ones as they came.

    Raises: LocalProtocolError: it holds a surrogate that stands for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a text can't be sent, its character {error.start} is a lone surrogate") from None


def new_message(start: bytes) -> bytearray:
    """Begin a message."""
    return bytearray(start)


def frozen(out: bytearray) -> bytes:
    """Return what was written."""
    return bytes(out)


def set_u32(out: bytearray, pos: int, number: int) -> None:
    """Write a number over what stands there. Raises: StructError: it is negative or too large, or there is no room."""
    _set_u32(out, pos, number)


set_offset: Final = set_u32
"""The same, for what is known to be a small number: in C that needs no object."""


def set_network_u32(out: bytearray, pos: int, number: int) -> None:
    """Do the same with a big-endian number."""
    _set_network_u32(out, pos, number)


def set_part(out: bytearray, pos: int, part: bytes) -> None:
    """Write bytes over those that stand there, and which must be as many."""
    out[pos : pos + len(part)] = part


def append_u32(out: bytearray, number: int) -> None:
    """Append a number. Raises: StructError: it is negative or too large."""
    out += pack_u32(number)


def append_part(out: bytearray, part: bytes) -> None:
    """Append bytes."""
    out += part


_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")  # by the length of a vector of ubytes modulo four


def append_bytes(out: bytearray, data: bytes) -> None:
    """Append a vector of ubytes: their number, and NULs behind them up to a multiple of four."""
    size = len(data)
    out += pack_u32(size)
    out += data  # which can be large: `+` would copy it once more
    out += _PADDING[size & 3]


def append_zeros(out: bytearray, count: int) -> None:
    """Append bytes that are 0."""
    out += bytes(count)


def append_places(out: bytearray, count: int) -> None:
    """Append a vector of tables as far as it goes without them: their number, and a place for the offset of each."""
    out += pack_u32(count) + bytes(4 * count)


def append_text(out: bytearray, text: str) -> None:
    """Append a string: its length, its bytes, and NULs up to a multiple of four. Raises: LocalProtocolError: as `encode_text`."""
    data = encode_text(text)
    size = len(data)
    out += pack_u32(size) + data + _STRING_END[size & 3]


# A table with name and value is the distance to the vtable behind it, two offsets, the vtable, and then the strings.
_ENTRY_HEAD: Final = Struct("<3I4H")
_DISTANCE: Final = 2**32 - 12
# Names are few and come again. Long ones are not kept: a client could choose them.
_CACHED_NAMES: Final = 1024
_CACHED_NAME_CHARS: Final = 64


def append_entry(out: bytearray, place: int, name: str, value: str | None) -> None:
    """
    Append a `TextEntry`: a table with a name and perhaps a value.

    Args: place: where its offset is to stand.
    Raises: LocalProtocolError: as `encode_text`.
    """
    _set_u32(out, place, len(out) - place)
    out += (_short_name if len(name) <= _CACHED_NAME_CHARS else _name)(name, value is not None)
    if value is not None:
        append_text(out, value)


def _name(name: str, has_value: bool) -> bytes:
    """Return an entry up to its value."""
    return _encoded_name(encode_text(name), has_value)


def _encoded_name(name: bytes, has_value: bool = True) -> bytes:
    size = len(name)
    value_at = 12 + (size + 8 & ~3) if has_value else 0
    return _ENTRY_HEAD.pack(_DISTANCE, 16, value_at, 8, 12, 4, 8 if has_value else 0) + pack_u32(size) + name + _STRING_END[size & 3]


_short_name: Final = lru_cache(maxsize=_CACHED_NAMES)(_name)
_short_encoded_name: Final = lru_cache(maxsize=_CACHED_NAMES)(_encoded_name)


def append_found(out: bytearray, place: int, buf: bytes, name: int, name_end: int, value: int, value_end: int) -> None:
    """
    Append the `TextEntry` that `entry_at` has found, with name and value, without decoding it.

    Args: place: where its offset is to stand.
    """
    _set_u32(out, place, len(out) - place)
    size = value_end - value
    out += (
        (_short_encoded_name if name_end - name <= _CACHED_NAME_CHARS else _encoded_name)(buf[name:name_end])
        + pack_u32(size)
        + buf[value:value_end]
        + _STRING_END[size & 3]
    )
