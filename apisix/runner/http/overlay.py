# SPDX-License-Identifier: Apache-2.0
"""
Names and values as a view on the frame, with an overlay of edits.

Looking a name up scans the buffer, setting one writes the overlay, and the overlay is what gets sent. Iterating decodes everything and
lays the overlay over it; only what that can't express builds a real multidict, which holds the values from then on.
Source: design, 9 (decoding 12 headers into a multidict costs 20 us in a running server).
"""

from typing import Any, Final

from multidict import MultiDict

from apisix.runner import primitives
from apisix.runner.errors import LocalProtocolError
from apisix.runner.http.fields import check_header
from apisix.runner.http.interface import Interface
from apisix.runner.wire.entries import NO_ENTRIES, TextEntries, entries_of


class Overlay(Interface):
    """
    The entries of a message and the edits to them. `EntriesView` and `EditableEntries` make a multidict of it.

    Args: entries: what came; nothing by default.
    """

    __slots__ = ("_all", "_entries", "_folds", "_overlay")

    # What a subclass says about its names.
    _ignore_case = False
    _multidict = MultiDict

    def __init__(self, entries: TextEntries = NO_ENTRIES) -> None:
        self._begin(entries, self._ignore_case)

    def _begin(self, entries: TextEntries, folds: bool) -> None:
        self._folds = folds
        self._entries = entries
        # The edited names: the spelling and value set last, or None for a deleted name. Once `_all` is there, it holds
        # the values, and the keys in here only tell which names to compare.
        self._overlay: dict[str, tuple[str, str] | None] | None = None
        self._all: MultiDict[str] | None = None

    def _identity(self, key: str) -> str:
        """Return what two spellings of one name have in common. Raises: TypeError: it is no str."""
        if self._folds:
            folded = _folded.get(key)
            if folded is not None:
                return folded
        if not isinstance(key, str):
            raise TypeError(f"a name must be a str, got {type(key).__name__}")
        return _fold(key) if self._folds else key

    def _came_identity(self, name: str) -> str:
        """Return the same of a name that came. It is not remembered, for it was a client's choice."""
        if not self._folds:
            return name
        folded = _folded.get(name)
        return name.lower() if folded is None else folded

    def _check(self, key: str, value: str) -> None:
        """Refuse what can't be sent, unless it is what came: that goes back as it is, so that all headers can be echoed."""
        try:
            check_header(key, value)
        except ValueError:
            if value not in self._originals(self._identity(key)):
                raise

    # Looking up.

    def _index(self, identity: str, start: int = 0) -> int:
        """Return where the message has the name, from the given entry on, or -1."""
        name = _encoded.get(identity)
        if name is not None:
            return self._entries.find(name, start, self._folds)
        return self._other_index(identity, start)

    def _other_index(self, identity: str, start: int) -> int:
        """Do the same with a name that was not encoded yet."""
        if self._folds and not primitives.is_ascii(identity):
            # The buffer is compared byte by byte, which knows no case beyond ASCII.
            names = [name.lower() for name, _ in self._entries.decoded()]
            return names.index(identity, start) if identity in names[start:] else -1
        try:
            name = primitives.encode_text(identity)
        except LocalProtocolError:
            return -1  # no bytes decode to it
        return self._entries.find(name, start, self._folds)

    def _original(self, index: int) -> str:
        value = self._entries.value(index)
        return "" if value is None else value

    def _originals(self, identity: str) -> list[str]:
        """Return the values that a name had when the message came."""
        values = []
        index = self._index(identity)
        while index >= 0:
            values.append(self._original(index))
            index = self._index(identity, index + 1)
        return values

    def _first(self, key: str) -> str | None:
        """Return the first value of a name as it is now, or None."""
        identity = self._identity(key)
        md = self._all
        if md is not None:
            return md.get(key)
        overlay = self._overlay
        if overlay is not None:
            edit = overlay.get(identity, _MISSING)
            if edit is not _MISSING:
                return None if edit is None else edit[1]
        index = self._index(identity)
        if index < 0:
            return None
        value = self._entries.value(index)
        return "" if value is None else value

    def __getitem__(self, key: str) -> str:
        value = self._first(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._first(key) is not None

    def _values(self, key: str) -> list[str]:
        """Return all values of a name as they are now."""
        identity = self._identity(key)
        md = self._all
        if md is not None:
            return md.getall(key, [])
        overlay = self._overlay
        if overlay is not None:
            edit = overlay.get(identity, _MISSING)
            if edit is not _MISSING:
                return [] if edit is None else [edit[1]]
        return self._originals(identity)

    # Everything at once.

    def pairs(self) -> list[tuple[str, str]]:
        """Return all names and values as a list: do not change it."""
        if self._all is not None:
            return list(self._all.items())
        pairs = _as_text(self._entries)
        return pairs if self._overlay is None else self._merged(pairs, self._overlay)

    def names(self) -> list[str]:
        """Return all names, with or without repeats as the release of multidict has it."""
        if self._all is None:
            names = [name for name, _ in self.pairs()]
            if len(names) == len({self._came_identity(name) for name in names}):
                return names
        return list(self._real())

    def _merged(self, pairs: list[tuple[str, str]], overlay: dict[str, tuple[str, str] | None]) -> list[tuple[str, str]]:
        """Lay the edits over what came, as a multidict does: the first of a name keeps its place, and new names come at the end."""
        merged: list[tuple[str, str] | None] = list(pairs)
        gaps = False
        for identity, edit in overlay.items():
            # Edits are few: to look for each of them is cheaper than to fold the names of all pairs.
            index = self._index(identity)
            if index < 0:
                if edit is not None:
                    merged.append(edit)
                continue
            merged[index] = edit
            gaps = gaps or edit is None
            index = self._index(identity, index + 1)
            while index >= 0:
                merged[index] = None
                gaps = True
                index = self._index(identity, index + 1)
        return [pair for pair in merged if pair is not None] if gaps else merged  # type: ignore[return-value]  # as was just seen

    def _real(self) -> MultiDict[str]:
        """Return a real multidict of what is there now, to be read."""
        return self._multidict(self.pairs()) if self._all is None else self._all

    def _materialise(self) -> MultiDict[str]:
        """Return a real multidict that holds the values from now on."""
        md = self._all
        if md is None:
            md = self._all = self._multidict(self.pairs())
        return md

    # Editing.

    def __setitem__(self, key: str, value: str) -> None:
        self._check(key, value)
        identity = self._identity(key)
        md = self._all
        if md is None:
            overlay = self._overlay
            if overlay is None:
                self._overlay = {identity: (key, value)}
                return
            if overlay.get(identity, _MISSING) is not None:
                overlay[identity] = (key, value)
                return
            # Deleted and set again: it moves to the end, which the overlay can't tell.
            md = self._materialise()
        md[key] = value
        self._touch(identity)

    def __delitem__(self, key: str) -> None:
        if self._first(key) is None:
            raise KeyError(f"there is no {key!r} to delete; if it may be missing, write discard({key!r})")
        self._delete(key)

    def _delete(self, key: str) -> None:
        self._touch(self._identity(key))
        if self._all is not None:
            self._all.popall(key, None)

    def _touch(self, identity: str) -> None:
        if self._overlay is None:
            self._overlay = {}
        self._overlay[identity] = None

    # Sending.

    def changes(self) -> list[tuple[str, str | None]]:
        """
        Return the edits: for each name whose values are not those that came, all its values, or None where it was deleted.

        Names are returned as they compare, so headers in lower case. Source: gateway contract, 5.2 and 5.5.
        """
        overlay = self._overlay
        changed: list[tuple[str, str | None]] = []
        if overlay is None:
            return changed
        md = self._all
        for identity, edit in overlay.items():
            if md is not None:
                now = md.getall(identity, [])
                if now != self._originals(identity):
                    changed += [(identity, value) for value in now] or [(identity, None)]
                continue
            index = self._index(identity)
            if edit is None:
                if index >= 0:
                    changed.append((identity, None))
            elif index < 0 or edit[1] != self._original(index) or self._index(identity, index + 1) >= 0:
                changed.append((identity, edit[1]))
        return changed

    def changed(self, key: str) -> bool:
        """Tell whether the values of one name are not those that came."""
        identity = self._identity(key)
        overlay = self._overlay
        return overlay is not None and identity in overlay and self._values(key) != self._originals(identity)

    def complete(self, drop: dict[bytes, None]) -> TextEntries:
        """
        Return all entries as they are now, less some names. Where nothing was decoded, nothing is.

        Args: drop: the names to leave out, see `wire.entries.names`.
        """
        if self._all is None and self._entries is not None:
            return self._entries.edited(self._overlay or {}, drop)
        return entries_of(self.pairs()).edited({}, drop)


_MISSING: Final[Any] = object()

# Names are few and come again. Long ones are not kept, nor more than a worker can hold: a client could choose them.
_FOLDED_NAMES = 1024
_FOLDED_CHARS = 64
_folded: dict[str, str] = {}
# What they are in a message; only those of ASCII characters, which a message can be searched for.
_encoded: dict[str, bytes] = {}


def _fold(key: str) -> str:
    """Return a name in lower case, and remember it. Looking it up again costs a third."""
    folded = str.lower(key)
    if len(key) <= _FOLDED_CHARS and len(_folded) < _FOLDED_NAMES:
        _folded[str(key)] = folded
        if folded.isascii():
            _encoded[folded] = folded.encode()
    return folded


def _as_text(entries: TextEntries) -> list[tuple[str, str]]:
    pairs = entries.decoded()
    for _, value in pairs:
        if value is None:  # a query's `?flag`: in headers, the list is as it has to be
            return [(name, value or "") for name, value in pairs]
    return pairs  # type: ignore[return-value]  # as was just seen
