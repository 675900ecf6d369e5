# SPDX-License-Identifier: Apache-2.0
"""
Names and values as a view on the frame, with an overlay of edits: how they are looked up.

Looking a name up scans the buffer, setting one writes the overlay, and the overlay is what gets sent. Only iterating, and what
one name alone can't decide, decodes everything into a real multidict. Source: design 9 (decoding 12 headers into a multidict
costs 20 us in a running server).
"""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import ClassVar, Final, Self, TypeVar, overload

from multidict import MultiDict, MultiMapping

from apisix.runner.wire.entries import TextEntries

_T = TypeVar("_T")
MISSING: Final = object()
"""The default of a `default` that may be anything."""


class EntriesView(MultiMapping[str]):
    """
    The entries of a message as a multidict. `edits.EditableEntries` adds what changes them.

    Every method is overridden: the mix-ins that `MultiMapping` inherits are wrong for repeated names.

    Args: entries: what came, or None to begin with nothing.
    """

    __slots__ = ("_all", "_entries", "_overlay")

    _ignore_case: ClassVar[bool] = False
    _multidict: ClassVar[type[MultiDict[str]]] = MultiDict

    _entries: TextEntries | None
    # The edited names: the spelling and value set last, or None for a deleted name. Once `_all` is there, it holds
    # the values, and the keys in here only tell which names to compare.
    _overlay: dict[str, tuple[str, str] | None] | None
    _all: MultiDict[str] | None

    def __init__(self, entries: TextEntries | None = None) -> None:
        self._entries = entries
        self._overlay = None
        self._all = None if entries is not None else self._multidict()

    # What a subclass says about its names.

    @staticmethod
    def _identity(key: str) -> str:
        """Return what two spellings of one name have in common. Raises: TypeError: it is no str."""
        if not isinstance(key, str):
            raise TypeError(f"a name must be a str, got {type(key).__name__}")
        return key

    # Looking up.

    def _find(self, identity: str, start: int = 0) -> int:
        """Return where the buffer has the name, from the given entry on, or -1."""
        assert self._entries is not None  # noqa: S101  only the lazy state asks
        try:
            name = identity.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return -1  # no bytes decode to it
        return self._entries.find(name, start, ignore_case=self._ignore_case)

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
            if not self._ignore_case or identity.isascii():
                index = self._find(identity)
                return None if index < 0 else self._original(index)
            md = self._materialise()
        return md.get(key)

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, /, default: str | _T) -> str | _T: ...
    def get(self, key: str, default: object = None) -> object:
        """Return the first value of a name, or the default."""
        value = self._first(key)
        return default if value is None else value

    def __getitem__(self, key: str) -> str:
        value = self._first(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._first(key) is not None

    @overload
    def getone(self, key: str) -> str: ...
    @overload
    def getone(self, key: str, default: _T) -> str | _T: ...
    def getone(self, key: str, default: object = MISSING) -> object:
        """Return the first value of a name. Raises: KeyError: there is none, and no default."""
        return self._or_default(self._first(key), key, default)

    @overload
    def getall(self, key: str) -> list[str]: ...
    @overload
    def getall(self, key: str, default: _T) -> list[str] | _T: ...
    def getall(self, key: str, default: object = MISSING) -> object:
        """Return all values of a name, in order. Raises: KeyError: there are none, and no default."""
        return self._or_default(self._values(key) or None, key, default)

    def _values(self, key: str) -> list[str]:
        identity = self._identity(key)
        md = self._all
        if md is None:
            overlay = self._overlay
            if overlay is not None and identity in overlay:
                edit = overlay[identity]
                return [] if edit is None else [edit[1]]
            if not self._ignore_case or identity.isascii():
                return self._originals(identity)
            md = self._materialise()
        return md.getall(key, [])

    def _originals(self, identity: str) -> list[str]:
        """Return the values that a name had when the message came."""
        if self._entries is None:
            return []
        if self._ignore_case and not identity.isascii():
            return [value or "" for name, value in self._entries.decoded() if name.lower() == identity]
        values = []
        index = self._find(identity)
        while index >= 0:
            values.append(self._original(index))
            index = self._find(identity, index + 1)
        return values

    @staticmethod
    def _or_default(found: object, key: str, default: object) -> object:
        if found is not None:
            return found
        if default is MISSING:
            raise KeyError(key)
        return default

    # Everything at once.

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
            return _as_text(self._entries)
        return list(self._materialise().items())

    def __len__(self) -> int:
        if self._all is None and self._overlay is None and self._entries is not None:
            return len(self._entries)
        return len(self._materialise())

    def __iter__(self) -> Iterator[str]:
        return iter(self._materialise())

    def keys(self) -> KeysView[str]:
        """Return a view of the names. Whether a repeated one counts once is up to the release of multidict."""
        return self._materialise().keys()

    def items(self) -> ItemsView[str, str]:
        """Return a view of the names and values, repeats included, in order."""
        return self._materialise().items()

    def values(self) -> ValuesView[str]:
        """Return a view of the values, in order."""
        return self._materialise().values()

    def to_dict(self) -> dict[str, list[str]]:
        """Return a dict from each name, in its first spelling, to its values."""
        grouped: dict[str, tuple[str, list[str]]] = {}
        for name, value in self.items():
            grouped.setdefault(self._identity(name), (name, []))[1].append(value)
        return dict(grouped.values())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EntriesView):
            other = other._materialise()
        return self._materialise() == other

    __hash__ = None  # type: ignore[assignment]  # mutable, as every multidict

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({', '.join(f'{name!r}: {value!r}' for name, value in self.items())})>"

    def copy(self) -> Self:
        """Return a detached twin with the same edits so far. Costs next to nothing as long as nothing was iterated."""
        twin = type(self).__new__(type(self))
        twin._entries = self._entries
        twin._overlay = None if self._overlay is None else self._overlay.copy()
        twin._all = None if self._all is None else self._all.copy()
        return twin

    __copy__ = copy


def _as_text(entries: TextEntries) -> list[tuple[str, str]]:
    return [(name, "" if value is None else value) for name, value in entries.decoded()]
