# SPDX-License-Identifier: Apache-2.0
"""Vectors of `TextEntry`: headers, arguments, configurations. Found in a buffer without decoding it, or built from pairs."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire import flatbuf, scalars
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES
from apisix.runner.wire.scalars import StructError

Pair = tuple[str, str | None]

# The gateway sends 100 headers at most, and 100 arguments. Entries can share all their bytes, so that without a bound
# a few megabytes could unfold to millions of objects.
MAX_ENTRIES: Final = 2**16


def entries_of(pairs: "Iterable[Pair]") -> "TextEntries":
    """Return pairs as entries, themselves where they are entries."""
    if isinstance(pairs, TextEntries):
        return pairs
    self = TextEntries.__new__(TextEntries)  # half of what the constructor costs
    self._pairs = list(pairs)
    return self


def owned_entries(pairs: "list[Any]") -> "TextEntries":
    """Return a list of pairs as entries, without a copy: the list must not be changed any more."""
    self = TextEntries.__new__(TextEntries)
    self._pairs = pairs
    return self


class TextEntries:
    """
    Pairs of a name and a value, in order and with repeats; a value is None where there is none (`?flag`).

    This class holds pairs that were given; `EntriesInBuffer` reads them from a message. Source: gateway contract, 4.
    A sequence, but no `collections.abc.Sequence`: for each list that a message is given, `isinstance` would take four times as long.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._pairs: list[Pair] | None = list(pairs)

    def decoded(self) -> list[Pair]:
        """Return all pairs as a list, always the same one: do not change it."""
        return self._pairs or []

    def value(self, index: int) -> str | None:
        """Return the value of one entry, None where it has none."""
        return self.decoded()[index][1]

    def find(self, name: bytes, start: int = 0, ignore_case: bool = False) -> int:
        """
        Return the index of the first entry of that name, or -1.

        Args: start: the index of the first entry that counts. ignore_case: whether ASCII letters match in either case.
        """
        wanted = name.lower() if ignore_case else name
        pairs = self.decoded()
        for index in range(start, len(pairs)):
            found = scalars.encode_text(pairs[index][0])
            if wanted == (found.lower() if ignore_case else found):
                return index
        return -1

    def put(self, out: bytearray) -> None:
        """Append the vector to a message that is being written. Without entries, append nothing."""
        pairs = self._pairs if self._pairs is not None else self.decoded()
        if pairs:
            scalars.append_entries(out, pairs)

    def __len__(self) -> int:
        return len(self.decoded())

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.decoded())

    def __getitem__(self, index: int | slice) -> Any:  # no overloads: a class in C has room for one definition only
        return self.decoded()[index]

    def __eq__(self, other: object) -> bool:
        return self.decoded() == other.decoded() if isinstance(other, TextEntries) else NotImplemented

    def __hash__(self) -> int:
        raise TypeError("entries are compared by their content, which is no key")

    def __repr__(self) -> str:
        return f"{self.decoded()!r}"


def entries_at(buf: bytes, pos: int) -> "EntriesInBuffer":
    """
    Find the vector that the offset at `pos` refers to.

    Raises: RemoteProtocolError: it does not lie within the buffer, or holds more entries than any gateway sends.
    """
    first, count = flatbuf.read_vector(buf, pos)
    if count > MAX_ENTRIES:
        raise RemoteProtocolError(f"a vector of {count} entries, more than {MAX_ENTRIES} are not read")
    self = EntriesInBuffer.__new__(EntriesInBuffer)
    self._begin(buf, first, count)
    return self


class EntriesInBuffer(TextEntries):
    """Entries that stay in the message they came in, until somebody looks at them."""

    __slots__ = ("_buf", "_count", "_first")

    def _begin(self, buf: bytes, first: int, count: int) -> None:
        self._pairs = None
        self._buf = buf
        self._first = first
        self._count = count

    def decoded(self) -> list[Pair]:
        if self._pairs is None:
            self._pairs = self._decode()
        return self._pairs

    def _decode(self) -> list[Pair]:
        try:
            pairs = scalars.entries_in(self._buf, self._first, self._count, MAX_PAYLOAD_BYTES)
        except StructError:
            raise self._out_of_bounds() from None
        if pairs is None:
            # Entries may share their strings: 16 MiB could unfold to terabytes, and take the worker with them.
            raise RemoteProtocolError("the entries of a message unfold to more than a message can hold")
        return pairs

    def value(self, index: int) -> str | None:
        if self._pairs is not None:
            return self._pairs[index][1]
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(index)
        try:
            return scalars.entry_value(self._buf, self._first + 4 * index)
        except StructError:
            raise self._out_of_bounds() from None

    def find(self, name: bytes, start: int = 0, ignore_case: bool = False) -> int:
        try:
            return scalars.entry_index(self._buf, self._first, start, self._count, name, ignore_case)
        except StructError:
            raise self._out_of_bounds() from None

    def _out_of_bounds(self) -> RemoteProtocolError:
        return flatbuf.out_of_bounds("a part of an entry", self._first, self._buf)

    def __len__(self) -> int:
        return self._count
