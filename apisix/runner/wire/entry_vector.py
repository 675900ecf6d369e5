# SPDX-License-Identifier: Apache-2.0
"""
The loops over a vector of entries: tables with a name and perhaps a value, which a vector of offsets refers to.

A module of its own because the accelerator has it twice, as `scalars`. Each loop is written out for Python, where a call costs as much as
what it does, and for C in `entry_vector.pxd`, where a read costs next to nothing. To be used as `entry_vector.entry_at(...)`.
"""

from functools import lru_cache
from struct import Struct
from typing import Final

from apisix.runner.wire.scalars import (
    STRING_END,
    StructError,
    append_text,
    encode_text,
    i32_at,
    is_name_at,
    pack_u32,
    set_u32,
    u16_at,
    u32_at,
)

# The last vtable of an entry that was read, and where it says that name and value stand: a peer writes all alike.
_seen_entry: tuple[bytes, int, int] = (b"\x08\0\0\0\0\0\0\0", 0, 0)


def _read_entry(buf: bytes, vtable: int) -> tuple[bytes, int, int]:
    """Read the vtable of an entry: return its bytes, and the offsets of name and value from the table, 0 for an absent one."""
    global _seen_entry
    if vtable < 0:
        raise StructError(f"nothing can be read at byte {vtable}")
    size: int = u16_at(buf, vtable)[0]
    if size < 4 or size & 1 or vtable + size > len(buf):
        raise StructError(f"a vtable of {size} bytes at byte {vtable}")
    name_at: int = u16_at(buf, vtable + 4)[0] if size >= 6 else 0
    value_at: int = u16_at(buf, vtable + 6)[0] if size >= 8 else 0
    _seen_entry = buf[vtable : vtable + size], name_at, value_at
    return _seen_entry


# Lengths of 65 to 90 look like capitals and are changed too, in the buffer and in the needle: only a look at the place itself tells.
_CAPITALS: Final = 65


@lru_cache(maxsize=256)
def _needle(name: bytes, ignore_case: bool) -> bytes:
    needle = pack_u32(len(name)) + name
    return needle.lower() if ignore_case else needle


# The last message, and the same in lower case: several names are looked up in each. A large one is not kept.
_lowered: tuple[bytes, bytes] = (b"", b"")
_LOWERED_BYTES: Final = 2**16


def _lower(buf: bytes) -> bytes:
    global _lowered
    lowered = buf.lower()
    if len(buf) <= _LOWERED_BYTES:
        _lowered = buf, lowered
    return lowered


# The last message whose entries were all found to lie within it, and where their offsets begin. A large one is not kept.
_walked: tuple[bytes, int] = (b"", 0)


def entry_index(buf: bytes, first: int, start: int, count: int, name: bytes, ignore_case: bool) -> int:
    """
    Return the index of the first entry of that name, or -1.

    Args: first: where the vector's offsets begin. start: the index of the first entry that counts. count: of all entries.
    Raises: StructError: a part of an entry does not lie within the buffer.
    """
    global _walked
    # Most names that are asked for are not there, and one search of all bytes tells: 0.3 us instead of 5. It also says where to begin.
    if not ignore_case:
        hit = buf.find(_needle(name, False))
    else:
        seen_buf, lowered = _lowered
        hit = (lowered if seen_buf is buf else _lower(buf)).find(_needle(name, True))
    if hit < 0 and name:
        if _walked[0] is buf and _walked[1] == first:
            return -1
        hit = len(buf)  # the entries are still checked, once: a malformed vector is refused, whatever is looked up in it
    found_at = hit if len(name) < _CAPITALS else -1
    seen, name_at, _ = _seen_entry
    seen_vtable: int | None = None
    pos = first + 4 * start
    for index in range(start, count):
        table = pos + u32_at(buf, pos)[0]
        pos += 4
        vtable = table - i32_at(buf, table)[0]
        if vtable != seen_vtable:
            if vtable < 0 or not buf.startswith(seen, vtable):
                seen, name_at, _ = _read_entry(buf, vtable)
            seen_vtable = vtable
        if name_at:
            at = table + name_at
            at += u32_at(buf, at)[0]
            if at == found_at or (at >= hit and is_name_at(buf, at, name, ignore_case)):
                return index
        elif not name:
            return index
    if not start and len(buf) <= _LOWERED_BYTES:
        _walked = buf, first
    return -1


def entry_value(buf: bytes, pos: int) -> str | None:
    """Return the value of the entry whose offset stands at `pos`, None where it has none. Raises: StructError: as `entry_index`."""
    table = pos + u32_at(buf, pos)[0]
    vtable = table - i32_at(buf, table)[0]
    seen, _, value_at = _seen_entry
    if vtable < 0 or not buf.startswith(seen, vtable):
        _, _, value_at = _read_entry(buf, vtable)
    if not value_at:
        return None
    at = table + value_at
    at += u32_at(buf, at)[0] + 4
    stop = at + u32_at(buf, at - 4)[0]
    if stop > len(buf):
        raise StructError(f"a value ends at byte {stop}")
    return str(buf[at:stop], "utf-8", "surrogateescape")


def entries_in(buf: bytes, first: int, count: int, limit: int) -> list[tuple[str, str | None]] | None:
    """
    Return names and values of all entries, an absent name as "", or None where they have more bytes than the limit.

    Raises: StructError: as `entry_index`.
    """
    end = len(buf)
    seen, name_at, value_at = _seen_entry
    seen_vtable: int | None = None
    unfolded = 0
    pairs: list[tuple[str, str | None]] = []
    for pos in range(first, first + 4 * count, 4):
        table = pos + u32_at(buf, pos)[0]
        vtable = table - i32_at(buf, table)[0]
        if vtable != seen_vtable:
            if vtable < 0 or not buf.startswith(seen, vtable):
                seen, name_at, value_at = _read_entry(buf, vtable)
            seen_vtable = vtable
        name = ""
        value = None
        if name_at:
            at = table + name_at
            at += u32_at(buf, at)[0] + 4
            stop = at + u32_at(buf, at - 4)[0]
            if stop > end:
                raise StructError(f"a name ends at byte {stop}")
            name = str(buf[at:stop], "utf-8", "surrogateescape")
            unfolded += stop - at
        if value_at:
            at = table + value_at
            at += u32_at(buf, at)[0] + 4
            stop = at + u32_at(buf, at - 4)[0]
            if stop > end:
                raise StructError(f"a value ends at byte {stop}")
            value = str(buf[at:stop], "utf-8", "surrogateescape")
            unfolded += stop - at
        if unfolded > limit:
            return None
        pairs.append((name, value))
    return pairs


def entry_at(buf: bytes, pos: int) -> tuple[int, int, int, int]:
    """
    Return where the name of the entry whose offset stands at `pos` begins and ends, and where its value does: 0 and 0 for what is absent.

    Raises: StructError: as `entry_index`.
    """
    table = pos + u32_at(buf, pos)[0]
    vtable = table - i32_at(buf, table)[0]
    seen, name_at, value_at = _seen_entry
    if vtable < 0 or not buf.startswith(seen, vtable):
        _, name_at, value_at = _read_entry(buf, vtable)
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
    set_u32(out, place, len(out) - place)
    out += (_short_name if len(name) <= _CACHED_NAME_CHARS else _name)(name, value is not None)
    if value is not None:
        append_text(out, value)


def append_entries(out: bytearray, pairs: "list[tuple[str, str | None]]") -> None:
    """
    Append a vector of entries: tables with a name and perhaps a value.

    Raises: LocalProtocolError: as `encode_text`.
    """
    pos = len(out)
    out += pack_u32(len(pairs)) + bytes(4 * len(pairs))
    for name, value in pairs:
        pos += 4
        set_u32(out, pos, len(out) - pos)
        head = (_short_name if len(name) <= _CACHED_NAME_CHARS else _name)(name, value is not None)
        if value is None:
            out += head
            continue
        data = value.encode() if value.isascii() else encode_text(value)
        size = len(data)
        out += head + pack_u32(size) + data + STRING_END[size & 3]


def _name(name: str, has_value: bool) -> bytes:
    """Return an entry up to its value."""
    return _encoded_name(encode_text(name), has_value)


def _encoded_name(name: bytes, has_value: bool = True) -> bytes:
    size = len(name)
    value_at = 12 + (size + 8 & ~3) if has_value else 0
    return _ENTRY_HEAD.pack(_DISTANCE, 16, value_at, 8, 12, 4, 8 if has_value else 0) + pack_u32(size) + name + STRING_END[size & 3]


_short_name: Final = lru_cache(maxsize=_CACHED_NAMES)(_name)
_short_encoded_name: Final = lru_cache(maxsize=_CACHED_NAMES)(_encoded_name)


def append_found(out: bytearray, place: int, buf: bytes, name: int, name_end: int, value: int, value_end: int) -> None:
    """
    Append the `TextEntry` that `entry_at` has found, with name and value, without decoding it.

    Args: place: where its offset is to stand.
    """
    set_u32(out, place, len(out) - place)
    size = value_end - value
    out += (
        (_short_encoded_name if name_end - name <= _CACHED_NAME_CHARS else _encoded_name)(buf[name:name_end])
        + pack_u32(size)
        + buf[value:value_end]
        + STRING_END[size & 3]
    )
