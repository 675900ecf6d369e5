# SPDX-License-Identifier: Apache-2.0
"""
Numbers and names at a position of a buffer: what all reading and writing here comes down to.

A module of its own because the accelerator has it twice: `scalars.pxd` says the same in C, where a read costs 1 ns instead of 60.
To be used as `scalars.u32_at(...)`: that is the form which compiles to a call in C.
"""

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final

__all__ = ["StructError", "first_hit", "i32_at", "is_name_at", "is_part_at", "pack_u32", "pack_u32s", "u16_at", "u16s_at", "u32_at"]

# They return tuples of one, as Struct does: taking the number out is free in C, and a function around it would cost 40 ns in Python.
# They raise StructError past the end, and `pos` must not be negative.
u16_at: Final = Struct("<H").unpack_from
u32_at: Final = Struct("<I").unpack_from
i32_at: Final = Struct("<i").unpack_from
pack_u32: Final = Struct("<I").pack


_FEW: Final = 16
_u16s_at: Final = [Struct(f"<{count}H").unpack_from for count in range(_FEW)]
_pack_u32s: Final = [Struct(f"<{count}I").pack for count in range(_FEW)]


def u16s_at(buf: bytes, pos: int, count: int) -> tuple[int, ...]:
    """Return some numbers, up to 15, that stand one behind the other. Raises: StructError: they do not lie within the buffer."""
    return _u16s_at[count](buf, pos)


def pack_u32s(numbers: Sequence[int]) -> bytes:
    """Return numbers one behind the other. Raises: StructError: one is negative or too large."""
    count = len(numbers)
    return _pack_u32s[count](*numbers) if count < _FEW else _struct_of_u32s(count).pack(*numbers)


@lru_cache(maxsize=256)
def _struct_of_u32s(count: int) -> Struct:
    return Struct(f"<{count}I")


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
