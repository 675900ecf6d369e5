# SPDX-License-Identifier: Apache-2.0
"""Vectors of `TextEntry`: headers, arguments, configurations. Found in a buffer without decoding it, or built from pairs."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire import entry_vector, scalars
from apisix.runner.wire.flatbuf import out_of_bounds, read_vector
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES
from apisix.runner.wire.scalars import StructError

Pair = tuple[str, str | None]
Edits = dict[str, tuple[str, str] | None]
"""Names in lower case, and what they become: a name in its new spelling with its only value, or None for a deleted one."""

# The gateway sends 100 headers at most, and 100 arguments. Entries can share all their bytes, so that without a bound
# a few megabytes could unfold to millions of objects.
MAX_ENTRIES: Final = 2**16

# Entries may share their strings: 16 MiB could unfold to terabytes, and take the worker with them.
_MAX_UNFOLDED_BYTES: Final = MAX_PAYLOAD_BYTES


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


def names(*wanted: str) -> dict[bytes, None]:
    """Return names, in lower case, as `TextEntries.edited` takes those to leave out."""
    return {scalars.encode_text(name): None for name in wanted}


def _touched(edits: Edits, drop: dict[bytes, None]) -> dict[bytes, tuple[str, str] | None]:
    """Return what the names become that are not to stay as they are. What is dropped is dropped, whatever it was set to."""
    if not edits:
        return drop  # type: ignore[return-value]  # it is not written to: that happens at an edit only
    touched: dict[bytes, tuple[str, str] | None] = drop.copy()  # type: ignore[assignment]
    for name, edit in edits.items():
        touched.setdefault(scalars.encode_text(name), edit)
    return touched


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

    def edited(self, edits: Edits, drop: dict[bytes, None]) -> "TextEntries":
        """
        Return the entries of headers with edits applied, as a multidict would: a name that is set takes the place of its first entry.

        Each has a value then. Args: drop: the names to leave out, see `names`. Raises: RemoteProtocolError: the message is malformed.
        """
        touched = _touched(edits, drop)
        pairs: list[Pair] = []
        for name, value in self.decoded():
            key = scalars.encode_text(name.lower())
            if key not in touched:
                pairs.append((name, value or ""))
            elif (edit := touched[key]) is not None:
                pairs.append(edit)
                touched[key] = None
        pairs += [edit for edit in touched.values() if edit is not None]
        return entries_of(pairs)

    def put(self, out: bytearray) -> None:
        """Append the vector to a message that is being written. Without entries, append nothing."""
        pairs = self._pairs if self._pairs is not None else self.decoded()
        if pairs:
            entry_vector.append_entries(out, pairs)

    def size(self) -> int:
        """Return how many there are; a method, which compiles to a call in C."""
        return len(self._pairs or ())

    def __len__(self) -> int:
        return self.size()

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
    first, count = read_vector(buf, pos)
    if count > MAX_ENTRIES:
        raise RemoteProtocolError(f"a vector of {count} entries, more than {MAX_ENTRIES} are not read")
    self = EntriesInBuffer.__new__(EntriesInBuffer)
    self._begin(buf, first, count)
    return self


def _too_large() -> RemoteProtocolError:
    return RemoteProtocolError("the entries of a message unfold to more than a message can hold")


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
            pairs = entry_vector.entries_in(self._buf, self._first, self._count, _MAX_UNFOLDED_BYTES)
        except StructError:
            raise self._out_of_bounds() from None
        if pairs is None:
            raise _too_large()
        return pairs

    def edited(self, edits: Edits, drop: dict[bytes, None]) -> TextEntries:
        # Bytes that nobody touched are copied: 12 headers of a response cost 1 us, and 4 by way of texts and a multidict.
        touched = _touched(edits, drop)
        lengths = 0
        for key in touched:
            lengths |= entry_vector.length_bit(len(key))
        buf = self._buf
        unfolded = 0
        out = scalars.new_message(b"")
        scalars.append_places(out, self._count + len(edits))  # as many as there can be: what is left over does no harm
        place = 0
        try:
            for index in range(self._count):
                name, name_end, value, value_end = entry_vector.entry_at(buf, self._first + 4 * index)
                unfolded += name_end - name + value_end - value
                if unfolded > _MAX_UNFOLDED_BYTES:
                    raise _too_large()
                found = entry_vector.key_at(buf, name, name_end, lengths)
                if found is None or found not in touched:
                    place += 4
                    entry_vector.append_found(out, place, buf, name, name_end, value, value_end)
                elif (edit := touched[found]) is not None:
                    place += 4
                    entry_vector.append_entry(out, place, edit[0], edit[1])
                    touched[found] = None
        except StructError:
            raise self._out_of_bounds() from None
        for edit in touched.values():
            if edit is not None:
                place += 4
                entry_vector.append_entry(out, place, edit[0], edit[1])
        scalars.set_offset(out, 0, place // 4)
        return _written(out, place // 4)

    def value(self, index: int) -> str | None:
        if self._pairs is not None:
            return self._pairs[index][1]
        if index < 0:
            index += self._count
        if not 0 <= index < self._count:
            raise IndexError(index)
        try:
            return entry_vector.entry_value(self._buf, self._first + 4 * index)
        except StructError:
            raise self._out_of_bounds() from None

    def find(self, name: bytes, start: int = 0, ignore_case: bool = False) -> int:
        try:
            return entry_vector.entry_index(self._buf, self._first, start, self._count, name, ignore_case)
        except StructError:
            raise self._out_of_bounds() from None

    def _out_of_bounds(self) -> RemoteProtocolError:
        return out_of_bounds("a part of an entry", self._first, self._buf)

    def size(self) -> int:
        return self._count


def _written(out: bytearray, count: int) -> "WrittenEntries":
    self = WrittenEntries.__new__(WrittenEntries)
    self._begin(scalars.frozen(out), 4, count)
    return self


class WrittenEntries(EntriesInBuffer):
    """A vector as it will be sent, in a buffer of its own."""

    __slots__ = ()

    def put(self, out: bytearray) -> None:
        if self._count:
            scalars.append_part(out, self._buf)
