# SPDX-License-Identifier: Apache-2.0
"""
The few operations that are implemented twice: in C for the compiled engine, and here as the Python fallback.

A call spends most of its time in them: reading numbers, strings and entries from a received message, writing them to another,
checking the names and values of headers, and reading and writing sockets. `primitives.pxd` contains the C implementation of each function
listed in `__all__`. This module is the specification of it: it is written to be read, not to be fast. `tests/primitives` compiles
the C functions by themselves and checks that both implementations return the same value, or raise the same error, for the same arguments.

Call them by the module, as in `primitives.u32_at(...)`: Cython compiles that form to a direct call of the C function.

This is the lowest layer. It may import `apisix.runner.errors` and nothing else of the package.
"""

import re
import socket
from contextvars import Context, ContextVar
from struct import pack
from time import perf_counter
from typing import Any, Final

from apisix.runner.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "append_bytes",
    "append_entries",
    "append_entry",
    "append_offsets",
    "append_part",
    "append_received_entry",
    "append_text",
    "bytes_at",
    "dict_changes",
    "dict_contains",
    "dict_delete",
    "dict_fill",
    "dict_get",
    "dict_items",
    "dict_set",
    "encode_text",
    "enter_context",
    "entries_at",
    "entry_at",
    "entry_index",
    "entry_value",
    "field_at",
    "first_letter",
    "i32_at",
    "is_ascii",
    "is_lower",
    "is_name",
    "is_plain",
    "is_token",
    "key_at",
    "leave_context",
    "length_bit",
    "network_u32_at",
    "new_message",
    "now_s",
    "part_at",
    "receive",
    "receive_into",
    "send",
    "set_network_u32",
    "set_number",
    "set_offset",
    "set_part",
    "set_variable",
    "table_count",
    "target_at",
    "text_at",
    "u8_at",
    "u16_at",
    "u32_at",
]

# --------------------------------------------------------------------------------------------------- reading a received message
#
# The buffer comes from the peer and may contain anything. Each function checks that what it reads lies within the buffer, and raises
# RemoteProtocolError if it does not. Source: https://flatbuffers.dev/internals/ (FlatBuffers binary format).


def out_of_bounds(start: int, end: int, size: int) -> RemoteProtocolError:
    """Return the error for bytes that a message refers to and does not contain. The C implementation uses it too."""
    return RemoteProtocolError(f"bytes {start} to {end} do not lie within the message of {size} bytes")


def bad_vtable(vtable: int, size: int) -> RemoteProtocolError:
    """Return the error for a vtable of an impossible size. The C implementation uses it too."""
    return RemoteProtocolError(f"the vtable at byte {vtable} has {size} bytes; it needs an even number, at least 4")


def too_large(limit: int) -> RemoteProtocolError:
    """Return the error for entries that share their strings to excess. The C implementation uses it too."""
    return RemoteProtocolError(f"the entries of a message unfold to more than {limit} bytes")


def _check(buf: bytes | bytearray, start: int, end: int) -> None:
    if not 0 <= start <= end <= len(buf):
        raise out_of_bounds(start, end, len(buf))


def part_at(buf: bytes | bytearray, start: int, end: int) -> bytes:
    """Return a copy of the bytes from `start` up to `end`."""
    _check(buf, start, end)
    return bytes(buf[start:end])


def u8_at(buf: bytes, pos: int) -> int:
    """Return the unsigned number of 8 bits at a position."""
    return part_at(buf, pos, pos + 1)[0]


def u16_at(buf: bytes, pos: int) -> int:
    """Return the unsigned number of 16 bits at a position."""
    return int.from_bytes(part_at(buf, pos, pos + 2), "little")


def u32_at(buf: bytes, pos: int) -> int:
    """Return the unsigned number of 32 bits at a position."""
    return int.from_bytes(part_at(buf, pos, pos + 4), "little")


def i32_at(buf: bytes, pos: int) -> int:
    """Return the signed number of 32 bits at a position."""
    return int.from_bytes(part_at(buf, pos, pos + 4), "little", signed=True)


def network_u32_at(buf: bytes | bytearray, pos: int) -> int:
    """Return the unsigned number of 32 bits in network byte order at a position: the header of a frame."""
    return int.from_bytes(part_at(buf, pos, pos + 4), "big")


def target_at(buf: bytes, pos: int) -> int:
    """Return the position that the offset at `pos` refers to."""
    return pos + u32_at(buf, pos)


def field_at(buf: bytes, table: int, slot: int) -> int:
    """
    Return the position of a field of a table, or 0 if the field is absent.

    Args:
        table: the position of the table: the distance to its vtable, which lists where each field is.
        slot: the number of the field in the schema, from 0. A table of an older schema has fewer fields, one of a newer schema more.
    """
    vtable = table - i32_at(buf, table)
    size = u16_at(buf, vtable)
    if size < 4 or size % 2:
        raise bad_vtable(vtable, size)
    _check(buf, vtable, vtable + size)
    at = 4 + 2 * slot
    offset = u16_at(buf, vtable + at) if at < size else 0
    return table + offset if offset else 0


def bytes_at(buf: bytes, start: int) -> bytes:
    """Return the vector of ubytes, or the bytes of the string, at a position: its length, then its bytes."""
    return part_at(buf, start + 4, start + 4 + u32_at(buf, start))


def text_at(buf: bytes, start: int) -> str:
    """
    Return the string at a position.

    Paths and headers can contain any bytes. Those that are not UTF-8 become surrogates, which `encode_text` turns into the same bytes.
    Source: gateway contract, 4.
    """
    return bytes_at(buf, start).decode("utf-8", "surrogateescape")


def table_count(buf: bytes, start: int) -> int:
    """Return how many tables the vector at a position has. Their offsets follow, and all of these lie within the buffer."""
    count = u32_at(buf, start)
    _check(buf, start + 4, start + 4 + 4 * count)
    return count


# ----------------------------------------------------------------------------------- reading entries, which are headers and arguments
#
# An entry is a table with a name (slot 0) and perhaps a value (slot 1). A vector of entries is a vector of offsets to such tables.


def entry_at(buf: bytes, pos: int) -> tuple[int, int, int, int]:
    """Return where name and value of an entry begin and end, 0 and 0 for an absent one. Args: pos: where the entry's offset is."""
    table = target_at(buf, pos)
    return (*_string_at(buf, field_at(buf, table, 0)), *_string_at(buf, field_at(buf, table, 1)))


def _string_at(buf: bytes, field: int) -> tuple[int, int]:
    if not field:
        return 0, 0
    start = target_at(buf, field) + 4
    end = start + u32_at(buf, start - 4)
    _check(buf, start, end)
    return start, end


def entry_index(buf: bytes, first: int, start: int, count: int, name: str, ignore_case: bool) -> int:
    """
    Return the index of the first entry with a name, or -1. Entries after it are not read, and values never are.

    Args:
        first: the position of the first offset.
        start: the index of the first entry to look at.
        count: the number of entries in the vector.
        ignore_case: whether ASCII letters match in either case.
    Raises:
        LocalProtocolError: same as `encode_text`.
    """
    wanted = encode_text(name)
    for index in range(start, count):
        begin, end = _string_at(buf, field_at(buf, target_at(buf, first + 4 * index), 0))
        found = buf[begin:end]
        if found == wanted or (ignore_case and found.lower() == wanted.lower()):
            return index
    return -1


def entry_value(buf: bytes, pos: int) -> str | None:
    """Return the value of an entry, None if it has none. Args: pos: where the entry's offset is."""
    field = field_at(buf, target_at(buf, pos), 1)
    return text_at(buf, target_at(buf, field)) if field else None


def entries_at(buf: bytes, first: int, count: int, limit: int) -> list[tuple[str, str | None]]:
    """
    Return names and values of all entries; an absent name is "".

    Args:
        first: the position of the first offset.
        limit: how many bytes all names and values may have together: entries may share a string, so a small message can refer to
            terabytes.
    """
    pairs: list[tuple[str, str | None]] = []
    unfolded = 0
    for pos in range(first, first + 4 * count, 4):
        name, name_end, value, value_end = entry_at(buf, pos)
        unfolded += name_end - name + value_end - value
        if unfolded > limit:
            raise too_large(limit)
        pairs.append((text_at(buf, name - 4) if name else "", text_at(buf, value - 4) if value else None))
    return pairs


def length_bit(size: int) -> int:
    """Return the bit that represents the length of a name in the `lengths` of `key_at`."""
    return 1 << (size & 63)


def key_at(buf: bytes, start: int, end: int, lengths: int) -> bytes | None:
    """
    Return a name in lower case, as headers are compared, or None if it can't be one of the wanted names.

    Args: lengths: the `length_bit` of each wanted name, or-ed. Other names of ASCII characters only need no comparison.
    """
    name = part_at(buf, start, end)
    if not name.isascii():
        return encode_text(name.decode("utf-8", "surrogateescape").lower())
    return name.lower() if lengths & length_bit(len(name)) else None


# ----------------------------------------------------------------------------------------------------------- writing a message
#
# A message is written to one growing bytearray. An offset is set just before the part that it refers to is appended.

STRING_END: Final = (b"\0\0\0\0", b"\0\0\0", b"\0\0", b"\0")
"""What follows a string, by its length modulo four: at least one NUL, up to a multiple of four bytes."""
VECTOR_END: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
"""What follows a vector of ubytes, by its length modulo four."""


def does_not_fit(number: int) -> LocalProtocolError:
    """Return the error for a number that a message can't contain. The C implementation uses it too."""
    return LocalProtocolError(f"a number does not fit its field of 32 bits: {number}")


def new_message(start: bytes) -> bytearray:
    """Return a message that begins with some bytes."""
    return bytearray(start)


def _u32(number: int) -> bytes:
    if not 0 <= number < 2**32:
        raise does_not_fit(number)
    return number.to_bytes(4, "little")


def set_number(out: bytearray, pos: int, number: int) -> None:
    """Write a number of 32 bits over the bytes at a position. Raise LocalProtocolError if it does not fit."""
    set_part(out, pos, _u32(number))


def set_offset(out: bytearray, pos: int, offset: int) -> None:
    """Same as `set_number`, but for a number below 2**63, so that the C implementation needs no Python object."""
    set_part(out, pos, _u32(offset))


def set_network_u32(out: bytearray, pos: int, number: int) -> None:
    """Same as `set_offset`, but in network byte order."""
    set_part(out, pos, _u32(number)[::-1])


def set_part(out: bytearray, pos: int, part: bytes) -> None:
    """Overwrite the bytes at a position. Raise IndexError if the message is too short."""
    if not 0 <= pos <= len(out) - len(part):
        raise IndexError("the message has no such position")
    out[pos : pos + len(part)] = part


def append_part(out: bytearray, part: bytes) -> None:
    """Append bytes as they are."""
    out += part


def append_bytes(out: bytearray, data: bytes) -> None:
    """Append a vector of ubytes. Raise LocalProtocolError if its length does not fit 32 bits."""
    out += _u32(len(data))
    out += data  # separately, because a sum would copy a large body once more
    out += VECTOR_END[len(data) % 4]


def encode_text(text: str) -> bytes:
    """Return the UTF-8 of a text. Raise LocalProtocolError if it contains a surrogate that does not represent a byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"a text can't be sent: its character {error.start} is a lone surrogate") from None


def append_text(out: bytearray, text: str) -> None:
    """Append a string. Raise LocalProtocolError as `encode_text` does, and if its length does not fit 32 bits."""
    out += _string(encode_text(text))


def _string(data: bytes) -> bytes:
    return _u32(len(data)) + data + STRING_END[len(data) % 4]


def append_offsets(out: bytearray, count: int) -> None:
    """Append a vector of tables up to the first table: their number, and an offset for each, which has to be set later."""
    out += _u32(count) + bytes(4 * count)


def append_entry(out: bytearray, place: int, name: str, value: str | None) -> None:
    """
    Append an entry.

    Args: place: the position of the offset that refers to it.
    Raises: LocalProtocolError: as `append_text`.
    """
    _append_encoded_entry(out, place, encode_text(name), None if value is None else encode_text(value))


def _append_encoded_entry(out: bytearray, place: int, name: bytes, value: bytes | None) -> None:
    string = _string(name)
    # An offset counts from its own position: that of the name is at byte 4 of the table, that of the value at byte 8.
    name_at = 20
    value_at = name_at + len(string)
    if value is None:
        entry = pack("<i2I4H", -12, name_at - 4, 0, 8, 12, 4, 0) + string
    else:
        entry = pack("<i2I4H", -12, name_at - 4, value_at - 8, 8, 12, 4, 8) + string + _string(value)
    set_offset(out, place, len(out) - place)
    out += entry


def append_entries(out: bytearray, pairs: list[tuple[str, str | None]]) -> None:
    """Append a vector of entries. Raise LocalProtocolError as `append_text` does."""
    place = len(out)
    append_offsets(out, len(pairs))
    for name, value in pairs:
        place += 4
        append_entry(out, place, name, value)


def append_received_entry(out: bytearray, place: int, buf: bytes, name: int, name_end: int, value: int, value_end: int) -> None:
    """
    Append an entry that `entry_at` has found, without decoding it. It has a value, which is empty if the received one had none.

    Args: place: the position of the offset that refers to it.
    """
    _append_encoded_entry(out, place, part_at(buf, name, name_end), part_at(buf, value, value_end))


# ---------------------------------------------------------------------------------------------------------------------- texts


def is_ascii(text: str) -> bool:
    """Return True if a text consists of ASCII characters."""
    return text.isascii()


def is_lower(text: str) -> bool:
    """Return True if a text is the same in lower case."""
    return text == text.lower()


def is_plain(text: object) -> bool:
    """Return True if an object is a text of printable ASCII characters. The value of most headers is, and needs no further check."""
    return isinstance(text, str) and re.fullmatch(r"[ -~]*", text) is not None


def is_token(text: object) -> bool:
    """Return True if an object is a text that can be the name of a header. Source: RFC 9110, 5.1 and 5.6.2."""
    return isinstance(text, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text) is not None


def first_letter(text: object) -> int:
    """Return a number from 0 to 31, which is the same for texts of ASCII characters that begin with the same letter in either case."""
    return ord(text[0]) & 31 if isinstance(text, str) and text.isascii() and text else 0


def is_name(text: object, lower: str) -> bool:
    """Return True if an object is a text of ASCII characters that is `lower` in lower case."""
    return isinstance(text, str) and text.isascii() and text.lower() == lower


# ------------------------------------------------------------------------------------------------------------------------ dicts
#
# The operations of `dict` itself, even if a subclass overrides them.


def dict_get(mapping: dict[Any, Any], key: Any, default: Any) -> Any:
    """Return the value of a key, or the default."""
    return dict.get(mapping, key, default)


def dict_contains(mapping: dict[Any, Any], key: Any) -> bool:
    """Return True if a key is in a dict."""
    return dict.__contains__(mapping, key)


def dict_set(mapping: dict[Any, Any], key: Any, value: Any) -> None:
    """Set the value of a key."""
    dict.__setitem__(mapping, key, value)


def dict_delete(mapping: dict[Any, Any], key: Any) -> None:
    """Delete a key. Raise KeyError if it is missing."""
    dict.__delitem__(mapping, key)


def dict_items(mapping: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Return keys and values as a new list."""
    return list(dict.items(mapping))


def dict_fill(mapping: dict[str, Any], pairs: list[tuple[str, str]]) -> bool:
    """Set all pairs, and return True if all their names are in lower case."""
    for name, value in pairs:
        dict.__setitem__(mapping, name, value)
    return all(is_lower(name) for name, _ in pairs)


def dict_changes(mapping: dict[Any, Any], pairs: list[tuple[str, str]]) -> list[tuple[Any, Any]] | None:
    """
    Return the items of a dict that differ from the pairs that it was created from: those with another value, then those that were added.

    Names and values are compared by identity. None if a name is missing or has moved, or if one repeats among the pairs.
    """
    items = dict_items(mapping)
    if len(items) < len(pairs):
        return None
    changed = []
    for item, pair in zip(items, pairs, strict=False):
        if item[0] is not pair[0]:
            return None
        if item[1] is not pair[1]:
            changed.append(item)
    return changed + items[len(pairs) :]


# ---------------------------------------------------------------------------------------------------------------------- sockets
#
# The sockets do not block. C uses the descriptor, Python the socket object.

NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)
"""With this flag, writing to a closed connection raises an error and no signal. A plugin may have restored the default action of SIGPIPE,
which ends the process."""


def receive_into(sock: socket.socket, descriptor: int, buffer: bytearray) -> int:
    """
    Read as many bytes as are available and fit into the buffer.

    Returns: the number of bytes; 0 at the end of the stream, -1 if nothing is available now.
    Raises: OSError: the connection is closed.
    """
    try:
        return sock.recv_into(buffer)
    except (BlockingIOError, InterruptedError):
        return -1


def receive(sock: socket.socket, descriptor: int, size: int) -> bytes | None:
    """
    Read up to `size` bytes.

    Returns: the bytes; b"" at the end of the stream, None if nothing is available now.
    Raises: OSError: the connection is closed.
    """
    try:
        return sock.recv(size)
    except (BlockingIOError, InterruptedError):
        return None


def send(sock: socket.socket, descriptor: int, data: bytearray) -> int:
    """
    Write as many bytes as the socket accepts, and return their number.

    Raises: OSError: the connection is closed.
    """
    try:
        return sock.send(data, NO_SIGNAL)
    except (BlockingIOError, InterruptedError):
        return 0


# -------------------------------------------------------------------------------------------------- time and context variables

CAN_ENTER: Final = False
"""True if `enter_context` and `leave_context` are available, which is the case in C only. Python has `Context.run`."""


def now_s() -> float:
    """Return the time in seconds of the clock that measures calls. It is monotonic."""
    return perf_counter()


def set_variable(variable: ContextVar[Any], value: Any) -> None:
    """Set a context variable."""
    variable.set(value)


def enter_context(context: Context) -> None:
    """Make a context the current one until `leave_context`."""
    raise NotImplementedError("entering a context needs the compiled engine")


def leave_context(context: Context) -> None:
    """Return to the context that was current before `enter_context`."""
    raise NotImplementedError("leaving a context needs the compiled engine")
