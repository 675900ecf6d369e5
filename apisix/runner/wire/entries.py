# SPDX-License-Identifier: Apache-2.0
"""Vectors of `TextEntry`: headers, arguments, configurations. Found in a buffer without decoding it, or built from pairs."""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import overload

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.flatbuf import (
    encode_text,
    put_table,
    read_fields,
    read_table,
    read_text,
    read_u32,
)

Pair = tuple[str, str | None]

_NAME, _VALUE = 0, 1
_pack_u32 = Struct("<I").pack


class TextEntries(Sequence[Pair]):
    """
    Pairs of a name and a value, in order and with repeats; a value is None where there is none (`?flag`).

    This class holds pairs that were given; `EntriesInBuffer` reads them from a message. Source: gateway contract, 4.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._pairs: list[Pair] | None = list(pairs)

    def decoded(self) -> list[Pair]:
        """Return all pairs as a list that is made once: do not change it."""
        return self._pairs or []

    def value(self, index: int) -> str | None:
        """Return the value of one entry, None where it has none."""
        return self.decoded()[index][1]

    def find(self, name: bytes, start: int = 0, *, ignore_case: bool = False) -> int:
        """
        Return the index of the first entry of that name, or -1.

        Args: start: the index of the first entry that counts. ignore_case: whether ASCII letters match in either case.
        """
        wanted = name.lower() if ignore_case else name
        pairs = self.decoded()
        for index in range(start, len(pairs)):
            found = encode_text(pairs[index][0])
            if wanted == (found.lower() if ignore_case else found):
                return index
        return -1

    def put(self, parts: list[bytes]) -> int:
        """Append the vector to a message that is being written, and return its size in bytes."""
        head_at = len(parts)
        parts.append(b"")
        words: list[int] = []
        size = 0
        for pair in self.decoded():
            words.append(size)
            size += put_table(parts, pair)
        count = len(words)
        head = parts[head_at] = Struct(f"<{1 + count}I").pack(count, *(start + 4 * (count - index) for index, start in enumerate(words)))
        return len(head) + size

    def __len__(self) -> int:
        return len(self.decoded())

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.decoded())

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        return self.decoded()[index]

    def __eq__(self, other: object) -> bool:
        return self.decoded() == other.decoded() if isinstance(other, TextEntries) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # compared by content, which is a list

    def __repr__(self) -> str:
        return f"{self.decoded()!r}"


class EntriesInBuffer(TextEntries):
    """Entries that stay in the message they came in, until somebody looks at them."""

    __slots__ = ("_buf", "_count", "_first")

    def __init__(self, buf: bytes, first: int, count: int) -> None:
        self._pairs = None
        self._buf = buf
        self._first = first
        self._count = count

    def decoded(self) -> list[Pair]:
        pairs = self._pairs
        if pairs is None:
            buf = self._buf
            pairs = []
            size = 0
            for index in range(self._count):
                name, value = self._fields(index)
                pair = (read_text(buf, name) if name else "", read_text(buf, value) if value else None)
                pairs.append(pair)
                size += len(pair[0]) + len(pair[1] or "")
                if size > 2**24:  # entries that share their strings could unfold to any size
                    raise RemoteProtocolError("entries unfold to more than a frame can hold")
            self._pairs = pairs
        return pairs

    def value(self, index: int) -> str | None:
        value = self._fields(index)[_VALUE]
        return read_text(self._buf, value) if value else None

    def find(self, name: bytes, start: int = 0, *, ignore_case: bool = False) -> int:
        buf = self._buf
        key = _pack_u32(len(name)) + name
        if not ignore_case:
            if buf.find(key) < 0:
                return -1
            for index in range(start, self._count):
                pos = self._fields(index)[_NAME]
                if buf.startswith(key, pos + read_u32(buf, pos)) if pos else not name:
                    return index
            return -1
        wanted = name.lower()
        for index in range(start, self._count):
            pos = self._fields(index)[_NAME]
            at = pos + read_u32(buf, pos) + 4
            if buf[at : at + len(name)].lower() == wanted and read_u32(buf, at - 4) == len(name) if pos else not name:
                return index
        return -1

    def _fields(self, index: int) -> tuple[int, ...]:
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(index)
        return read_fields(self._buf, read_table(self._buf, self._first + 4 * index), 2)

    def __len__(self) -> int:
        return self._count
