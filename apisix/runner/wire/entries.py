# SPDX-License-Identifier: Apache-2.0
"""Vectors of `TextEntry`: headers, arguments and configurations. They are read from a message on first use, or made of pairs."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from apisix.runner import primitives
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.primitives import too_large
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES

Pair = tuple[str, str | None]
Edits = dict[str, tuple[str, str] | None]
"""From a name in lower case to the name and value that replace its entries, or to None if the name is deleted."""

# The gateway sends at most 100 headers and 100 arguments. Entries can share all their bytes, so without a limit, a few megabytes could
# be decoded to millions of objects.
MAX_ENTRIES: Final = 2**16
_MAX_ENTRIES: Final = MAX_ENTRIES  # in C, this is a number without a Python name

# Entries can share their strings, so 16 MiB could be decoded to terabytes, and the worker would run out of memory.
_MAX_UNFOLDED_BYTES: Final = MAX_PAYLOAD_BYTES


def entries_of(pairs: "Iterable[Pair]") -> "TextEntries":
    """Return pairs as entries. If they are entries already, return them."""
    if isinstance(pairs, TextEntries):
        return pairs
    self = TextEntries.__new__(TextEntries)
    self._pairs = list(pairs)
    return self


def owned_entries(pairs: "list[Any]") -> "TextEntries":
    """Return a list of pairs as entries without copying it. The list must not be changed afterwards."""
    self = TextEntries.__new__(TextEntries)
    self._pairs = pairs
    return self


def names(*wanted: str) -> dict[bytes, None]:
    """Return names in lower case in the form that `TextEntries.edited` needs for its argument `drop`."""
    return {primitives.encode_text(name): None for name in wanted}


def _touched(edits: Edits, drop: dict[bytes, None]) -> dict[bytes, tuple[str, str] | None]:
    """Return the edits and the dropped names in one dict. A name that is in both is dropped."""
    if not edits:
        return drop  # type: ignore[return-value]  # without edits, the dict is only read
    touched: dict[bytes, tuple[str, str] | None] = drop.copy()  # type: ignore[assignment]
    for name, edit in edits.items():
        touched.setdefault(primitives.encode_text(name), edit)
    return touched


class TextEntries:
    """
    Pairs of a name and a value, in order. A name can be repeated. The value is None if there is none (`?flag`).

    This class contains the pairs that it was created with, and `EntriesInBuffer` reads them from a message. It behaves like a sequence,
    but is not a `collections.abc.Sequence`, because `isinstance` takes longer for subclasses of an abstract class.

    Source: gateway contract, 4.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._pairs: list[Pair] | None = list(pairs)

    def decoded(self) -> list[Pair]:
        """Return all pairs as a list, which must not be changed: the entries keep it."""
        return self._pairs or []

    def value(self, index: int) -> str | None:
        """Return the value of one entry, or None if it has no value."""
        return self.decoded()[index][1]

    def find(self, name: str, start: int = 0, ignore_case: bool = False) -> int:
        """
        Return the index of the first entry with a name, or -1.

        Args:
            start: the index of the first entry to look at.
            ignore_case: whether ASCII letters match in either case.
        Raises:
            LocalProtocolError: the name contains a surrogate that does not represent a byte.
            RemoteProtocolError: the message is malformed.
        """
        encoded = primitives.encode_text(name)
        wanted = encoded.lower() if ignore_case else encoded
        pairs = self.decoded()
        for index in range(start, len(pairs)):
            found = primitives.encode_text(pairs[index][0])
            if wanted == (found.lower() if ignore_case else found):
                return index
        return -1

    def edited(self, edits: Edits, drop: dict[bytes, None]) -> "TextEntries":
        """
        Return the entries of headers with edits applied as in a multidict: a name that is set takes the place of its first entry.

        Each entry of the result has a value.

        Args:
            drop: the names to leave out, as `names` returns them.
        Raises:
            RemoteProtocolError: the message is malformed.
        """
        touched = _touched(edits, drop)
        pairs: list[Pair] = []
        for name, value in self.decoded():
            key = primitives.encode_text(name.lower())
            if key not in touched:
                pairs.append((name, value or ""))
            elif (edit := touched[key]) is not None:
                pairs.append(edit)
                touched[key] = None
        pairs += [edit for edit in touched.values() if edit is not None]
        return entries_of(pairs)

    def put(self, out: bytearray) -> None:
        """Append the vector to a message that is being written. If there are no entries, append nothing."""
        pairs = self._pairs if self._pairs is not None else self.decoded()
        if pairs:
            primitives.append_entries(out, pairs)

    def size(self) -> int:
        """Return the number of entries. Same as `len`, but C calls it directly."""
        return len(self._pairs or ())

    def __len__(self) -> int:
        return self.size()

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.decoded())

    def __getitem__(self, index: int | slice) -> Any:  # without overloads, since a class in C can define a method only once
        return self.decoded()[index]

    def __eq__(self, other: object) -> bool:
        return self.decoded() == other.decoded() if isinstance(other, TextEntries) else NotImplemented

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"{self.decoded()!r}"


NO_ENTRIES: Final = TextEntries()


def entries_field(buf: bytes, table: int, slot: int) -> TextEntries:
    """
    Return the vector of entries in a field of a table, without reading the entries. If the field is absent, return NO_ENTRIES.

    Raises: RemoteProtocolError: the vector does not lie within the buffer, or has more than `MAX_ENTRIES` entries.
    """
    field = primitives.field_at(buf, table, slot)
    if not field:
        return NO_ENTRIES
    start = primitives.target_at(buf, field)
    count = primitives.table_count(buf, start)
    if count > _MAX_ENTRIES:
        raise RemoteProtocolError(f"a vector has {count} entries; at most {MAX_ENTRIES} are accepted")
    self = EntriesInBuffer.__new__(EntriesInBuffer)
    self._begin(buf, start + 4, count)
    return self


class EntriesInBuffer(TextEntries):
    """Entries of a received message. Each one is decoded on first use."""

    __slots__ = ("_buf", "_count", "_first")

    def _begin(self, buf: bytes, first: int, count: int) -> None:
        self._pairs = None
        self._buf = buf
        self._first = first
        self._count = count

    def decoded(self) -> list[Pair]:
        if self._pairs is None:
            self._pairs = primitives.entries_at(self._buf, self._first, self._count, _MAX_UNFOLDED_BYTES)
        return self._pairs

    def edited(self, edits: Edits, drop: dict[bytes, None]) -> TextEntries:
        # Entries without an edit are copied as bytes, which is much faster than decoding and encoding them.
        touched = _touched(edits, drop)
        lengths = 0
        for key in touched:
            lengths |= primitives.length_bit(len(key))
        buf = self._buf
        unfolded = 0
        out = primitives.new_message(b"")
        primitives.append_offsets(out, self._count + len(edits))  # the largest possible number; unused offsets are allowed
        place = 0
        for index in range(self._count):
            name, name_end, value, value_end = primitives.entry_at(buf, self._first + 4 * index)
            unfolded += name_end - name + value_end - value
            if unfolded > _MAX_UNFOLDED_BYTES:
                raise too_large(_MAX_UNFOLDED_BYTES)
            found = primitives.key_at(buf, name, name_end, lengths)
            if found is None or found not in touched:
                place += 4
                primitives.append_received_entry(out, place, buf, name, name_end, value, value_end)
            elif (edit := touched[found]) is not None:
                place += 4
                primitives.append_entry(out, place, edit[0], edit[1])
                touched[found] = None
        for edit in touched.values():
            if edit is not None:
                place += 4
                primitives.append_entry(out, place, edit[0], edit[1])
        primitives.set_offset(out, 0, place // 4)
        return _written(out, place // 4)

    def value(self, index: int) -> str | None:
        if self._pairs is not None:
            return self._pairs[index][1]
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(index)
        return primitives.entry_value(self._buf, self._first + 4 * index)

    def find(self, name: str, start: int = 0, ignore_case: bool = False) -> int:
        return primitives.entry_index(self._buf, self._first, start, self._count, name, ignore_case)

    def size(self) -> int:
        return self._count


def _written(out: bytearray, count: int) -> "WrittenEntries":
    self = WrittenEntries.__new__(WrittenEntries)
    self._begin(primitives.part_at(out, 0, len(out)), 4, count)
    return self


class WrittenEntries(EntriesInBuffer):
    """A vector that is encoded already, in its own buffer."""

    __slots__ = ()

    def put(self, out: bytearray) -> None:
        if self._count:
            primitives.append_part(out, self._buf)
