# SPDX-License-Identifier: Apache-2.0
"""
Numbers and texts at a position of a buffer: what all reading and writing here comes down to.

A module of its own because the accelerator has it twice: `scalars.pxd` says the same in C, where a read costs 1 ns instead of 60.
To be used as `scalars.u32_at(...)`: that is the form which compiles to a call in C.
"""

import re
from struct import Struct
from struct import error as StructError
from typing import Final

from apisix.runner.errors import LocalProtocolError

__all__ = [
    "STRING_END",
    "StructError",
    "append_bytes",
    "append_part",
    "append_places",
    "append_text",
    "append_u32",
    "append_zeros",
    "encode_text",
    "first_letter",
    "frozen",
    "i32_at",
    "is_ascii",
    "is_name_at",
    "is_part_at",
    "is_plain",
    "is_token",
    "network_u32_at",
    "network_u32_of",
    "new_message",
    "pack_network_u32",
    "pack_u32",
    "part_at",
    "part_of",
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


# Of a buffer that is used again, a bytearray.
network_u32_of: Final = network_u32_at


def part_of(buf: bytearray, start: int, end: int) -> bytes:
    """Return a copy of a part of a buffer in which it must lie."""
    return bytes(buf[start:end])


def part_at(buf: bytes, start: int, end: int) -> bytes:
    """Return a part of a buffer in which it must lie."""
    return buf[start:end]


def text_at(buf: bytes, start: int, end: int) -> str:
    """Return a part of a buffer, in which it must lie, as text. What is no UTF-8 becomes surrogates."""
    return buf[start:end].decode("utf-8", "surrogateescape")


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


is_ascii: Final = str.isascii
"""Tell whether a text has ASCII characters only."""


def is_plain(text: object) -> bool:
    """Tell whether this is certainly a text of printable characters: no control characters, no surrogates. True needs no closer look."""
    return isinstance(text, str) and text.isprintable()


_token: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def is_token(text: object) -> bool:
    """Tell whether this is a text that may be the name of a header. Source: RFC 9110, 5.1 and 5.6.2."""
    return isinstance(text, str) and _token(text) is not None


def first_letter(text: str) -> int:
    """Return what tells first letters of ASCII texts apart, 0 to 31, whatever their case. Other characters share these numbers."""
    return ord(text[0]) & 31 if text and text.isascii() else 0


# Writing: a message grows in one bytearray, and offsets are set once what they refer to has its place.

STRING_END: Final = (b"\0\0\0\0", b"\0\0\0", b"\0\0", b"\0")
"""A string ends in at least one NUL, by its length modulo four."""


def encode_text(text: str) -> bytes:
    """
    Return the bytes of a text, the escaped ones as they came.

    Raises: LocalProtocolError: it holds a surrogate that stands for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a text can't be sent, its character {error.start} is a lone surrogate") from None


# What Python's own functions do as they are, without a call around it.
new_message: Final = bytearray
"""Begin a message with some bytes."""


def frozen(out: bytearray) -> bytes:
    """Return what was written."""
    return bytes(out)


set_u32: Final = Struct("<I").pack_into
"""Write a number, the third argument, at a position. Raises: StructError: it is negative or too large, or there is no room."""


set_offset: Final = set_u32
"""The same, for what is known to be a small number: in C that needs no object."""


set_network_u32: Final = Struct(">I").pack_into
"""Do the same with a big-endian number."""


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
    out += pack_u32(size) + data + STRING_END[size & 3]
