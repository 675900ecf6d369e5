# SPDX-License-Identifier: Apache-2.0
"""
A second, simple reader of FlatBuffers. It reads through a window, which raises an error for bytes outside the message.

It uses the schema of the oracle and none of the runner's code. If both return the same values for every buffer, or both find it malformed,
the runner reads nothing outside the message.
"""

from typing import Any

from tests.oracle import oracle

_UNIONS = {oracle.ACTION: {1: "Stop", 2: "Rewrite"}, oracle.INFO: {1: "Var", 2: "ReqBody", 3: "RespBody"}}
_WIDTHS = {"status": 2, "code": 1}
_METHODS = [oracle.names("Method")[number] for number in range(15)]


class Malformed(Exception):
    """The buffer refers to bytes outside of it, or contains a number that the schema does not have."""


class Window:
    """The bytes of a message. Reading outside of them raises Malformed."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def cut(self, pos: int, size: int) -> bytes:
        """Return `size` bytes from `pos`. Raise Malformed if one of them does not exist."""
        if pos < 0 or pos + size > len(self._data):
            raise Malformed(f"{size} bytes at {pos} of {len(self._data)}")
        return self._data[pos : pos + size]

    def number(self, pos: int, size: int, *, signed: bool = False) -> int:
        """Return a little-endian number."""
        return int.from_bytes(self.cut(pos, size), "little", signed=signed)

    def follow(self, pos: int) -> int:
        """Return the position that the offset at `pos` refers to."""
        return pos + self.number(pos, 4)

    def vector(self, pos: int) -> bytes:
        """Return the vector of bytes, or the string, that the offset at `pos` refers to."""
        start = self.follow(pos)
        return self.cut(start + 4, self.number(start, 4))

    def fields(self, table: int, slots: int) -> list[int | None]:
        """Return the position of each field, None if it is absent."""
        vtable = table - self.number(table, 4, signed=True)
        size = self.number(vtable, 2)
        if size < 4 or size % 2:
            raise Malformed(f"a vtable of {size} bytes")
        self.cut(vtable, size)
        offsets = [self.number(vtable + pos, 2) for pos in range(4, size, 2)][:slots]
        return [table + offset if offset else None for offset in offsets] + [None] * (slots - len(offsets))


def read(table: str, payload: bytes) -> dict[str, Any]:
    """Return the content of a message, with None for absent fields. Raise Malformed if it is malformed."""
    window = Window(payload)
    return _read_table(window, table, window.follow(0))


def _read_table(window: Window, table: str, pos: int) -> dict[str, Any]:
    kinds = oracle.TABLES[table]
    slots = sum(2 if kind in _UNIONS else 1 for kind in kinds.values())
    fields = iter(window.fields(pos, slots))
    content: dict[str, Any] = {}
    for name, kind in kinds.items():
        at = next(fields)
        if kind in _UNIONS:
            content[name] = _read_union(window, table, kind, at, next(fields))
        else:
            content[name] = None if at is None else _read_field(window, kind, name, at)
    if content.get("code", 0) not in (None, 0, 1, 2):
        raise Malformed(f"code {content['code']}")
    return content


def _read_field(window: Window, kind: oracle.Kind, name: str, at: int) -> Any:
    if kind is oracle.NUMBER:
        return window.number(at, _WIDTHS.get(name, 4))
    if kind is oracle.METHOD:
        number = window.number(at, 1)
        if number >= len(_METHODS):
            raise Malformed(f"method {number}")
        return _METHODS[number]
    if kind is oracle.ENTRIES:
        return _read_entries(window, at)
    data = window.vector(at)
    return data if kind is oracle.BYTES else data.decode("utf-8", "surrogateescape")


def _read_entries(window: Window, at: int) -> list[tuple[str, str | None]]:
    start = window.follow(at)
    count = window.number(start, 4)
    window.cut(start + 4, 4 * count)
    entries = []
    for index in range(count):
        name, value = window.fields(window.follow(start + 4 + 4 * index), 2)
        entries.append(
            (
                "" if name is None else window.vector(name).decode("utf-8", "surrogateescape"),
                None if value is None else window.vector(value).decode("utf-8", "surrogateescape"),
            )
        )
    return entries


def find(payload: bytes, field: str, name: bytes) -> int:
    """
    Return the index of the first entry with a name, or -1.

    Raise Malformed if a name before it lies outside the message. Values are not read.
    """
    window = Window(payload)
    kinds = oracle.TABLES["HTTPReqCall.Req"]
    at = window.fields(window.follow(0), len(kinds))[list(kinds).index(field)]
    if at is None:
        return -1
    start = window.follow(at)
    for index in range(window.number(start, 4)):
        name_at, _ = window.fields(window.follow(start + 4 + 4 * index), 2)
        if name_at is None:
            if not name:
                return index
            continue
        if window.vector(name_at) == name:
            return index
    return -1


def _read_union(window: Window, table: str, kind: oracle.Kind, number_at: int | None, at: int | None) -> Any:
    number = window.number(number_at, 1) if number_at is not None else 0
    if not number and kind is oracle.ACTION:
        return None
    if number not in _UNIONS[kind] or at is None:
        raise Malformed(f"variant {number} at {at}")
    variant = _UNIONS[kind][number]
    return variant, _read_table(window, f"{table.partition('.')[0]}.{variant}", window.follow(at))
