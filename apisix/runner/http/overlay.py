# SPDX-License-Identifier: Apache-2.0
"""
Names and values as a view on the frame, with an overlay of edits: what decides by one name alone.

Looking a name up scans the buffer, setting one writes the overlay, and the overlay is what gets sent. Only iterating, and what
one name alone can't decide, decodes everything into a real multidict. Source: design, 9 (decoding 12 headers into a multidict
costs 20 us in a running server).
"""

from typing import cast

from multidict import MultiDict

from apisix.runner.errors import LocalProtocolError
from apisix.runner.http.fields import check_header
from apisix.runner.wire import scalars
from apisix.runner.wire.entries import TextEntries, entries_of


class Overlay:
    """
    The entries of a message and the edits to them. `EntriesView` and `EditableEntries` make a multidict of it.

    A class of its own, which derives from nothing, so that it can be compiled to one in C.

    Args: entries: what came, or None to begin with nothing.
    """

    __slots__ = ("_all", "_entries", "_folds", "_overlay")

    # What a subclass says about its names.
    _ignore_case = False
    _multidict = MultiDict

    def __init__(self, entries: TextEntries | None = None) -> None:
        self._folds = self._ignore_case
        self._entries = entries
        # The edited names: the spelling and value set last, or None for a deleted name. Once `_all` is there, it holds
        # the values, and the keys in here only tell which names to compare.
        self._overlay: dict[str, tuple[str, str] | None] | None = None
        self._all: MultiDict[str] | None = None if entries is not None else self._multidict()

    def _identity(self, key: str) -> str:
        """Return what two spellings of one name have in common. Raises: TypeError: it is no str."""
        if not isinstance(key, str):
            raise TypeError(f"a name must be a str, got {type(key).__name__}")
        if not self._folds:
            return key
        folded = _folded.get(key)
        return _fold(key) if folded is None else folded

    def _check(self, key: str, value: str) -> None:
        """Refuse what can't be sent."""
        check_header(key, value)

    # Looking up.

    def _find(self, identity: str, start: int = 0) -> int:
        """Return where the buffer has the name, from the given entry on, or -1."""
        assert self._entries is not None  # noqa: S101  only the lazy state asks
        try:
            name = scalars.encode_text(identity)
        except LocalProtocolError:
            return -1  # no bytes decode to it
        return self._entries.find(name, start, self._folds)

    def _original(self, index: int) -> str:
        assert self._entries is not None  # noqa: S101
        value = self._entries.value(index)
        return "" if value is None else value

    def _first(self, key: str) -> str | None:
        """Return the first value of a name as it is now, or None."""
        identity = self._identity(key)
        md = self._all
        if md is None:
            overlay = self._overlay
            if overlay is not None and identity in overlay:
                edit = overlay[identity]
                return None if edit is None else edit[1]
            # The buffer is compared byte by byte, which knows no case beyond ASCII.
            if not self._folds or identity.isascii():
                index = self._find(identity)
                return None if index < 0 else self._original(index)
            md = self._materialise()
        return md.get(key)

    def __getitem__(self, key: str) -> str:
        value = self._first(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._first(key) is not None

    def _values(self, key: str) -> list[str]:
        identity = self._identity(key)
        md = self._all
        if md is None:
            overlay = self._overlay
            if overlay is not None and identity in overlay:
                edit = overlay[identity]
                return [] if edit is None else [edit[1]]
            if not self._folds or identity.isascii():
                return self._originals(identity)
            md = self._materialise()
        return md.getall(key, [])

    def _originals(self, identity: str) -> list[str]:
        """Return the values that a name had when the message came."""
        if self._entries is None:
            return []
        if self._folds and not identity.isascii():
            return [value or "" for name, value in self._entries.decoded() if name.lower() == identity]
        values = []
        index = self._find(identity)
        while index >= 0:
            values.append(self._original(index))
            index = self._find(identity, index + 1)
        return values

    def _materialise(self) -> MultiDict[str]:
        """Decode all entries into a real multidict, apply the overlay, and work on that from now on."""
        md = self._all
        if md is None:
            assert self._entries is not None  # noqa: S101
            md = self._multidict(_as_text(self._entries))
            for identity, edit in (self._overlay or {}).items():
                if edit is None:
                    md.popall(identity, None)
                else:
                    md[edit[0]] = edit[1]
            self._all = md
        return md

    def pairs(self) -> list[tuple[str, str]]:
        """Return all names and values as a list, without a multidict in between where nothing was edited."""
        if self._all is None and self._overlay is None and self._entries is not None:
            return list(_as_text(self._entries))
        return list(self._materialise().items())

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
            raise KeyError(key)
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
        if not overlay:
            return []
        md = self._all
        changed: list[tuple[str, str | None]] = []
        for identity, edit in overlay.items():
            before = self._originals(identity)
            if md is not None:
                now = md.getall(identity, [])
                if now != before:
                    changed += [(identity, value) for value in now] or [(identity, None)]
            elif edit is None:
                if before:
                    changed.append((identity, None))
            elif before != [edit[1]]:
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


_MISSING = object()

# Names are few and come again. Long ones are not kept, nor more than a worker can hold: a client could choose them.
_FOLDED_NAMES = 1024
_FOLDED_CHARS = 64
_folded: dict[str, str] = {}


def _fold(key: str) -> str:
    """Return a name in lower case, and remember it. Looking it up again costs a third."""
    folded = str.lower(key)
    if len(key) <= _FOLDED_CHARS and len(_folded) < _FOLDED_NAMES:
        _folded[str(key)] = folded
    return folded


def _as_text(entries: TextEntries) -> list[tuple[str, str]]:
    pairs = entries.decoded()
    for _, value in pairs:
        if value is None:  # a query's `?flag`: in headers, the list is as it has to be
            return [(name, value or "") for name, value in pairs]
    return cast("list[tuple[str, str]]", pairs)
