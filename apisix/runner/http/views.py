# SPDX-License-Identifier: Apache-2.0
"""Names and values as a view on the frame, with an overlay of edits: how they are looked up."""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Final, Self, TypeVar, overload

from multidict import MultiMapping

from apisix.runner.http.overlay import Overlay

_T = TypeVar("_T")
MISSING: Final = object()
"""The default of a `default` that may be anything."""


class EntriesView(Overlay, MultiMapping[str]):
    """
    The entries of a message as a multidict. `edits.EditableEntries` adds what changes them.

    Every method is overridden: the mix-ins that `MultiMapping` inherits are wrong for repeated names.
    """

    __slots__ = ()

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, /, default: str | _T) -> str | _T: ...
    def get(self, key: str, default: object = None) -> object:
        """Return the first value of a name, or the default."""
        value = self._first(key)
        return default if value is None else value

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

    @staticmethod
    def _or_default(found: object, key: str, default: object) -> object:
        if found is not None:
            return found
        if default is MISSING:
            raise KeyError(key)
        return default

    # Everything at once.

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
        twin._folds = self._folds
        twin._entries = self._entries
        twin._overlay = None if self._overlay is None else self._overlay.copy()
        twin._all = None if self._all is None else self._all.copy()
        return twin

    __copy__ = copy
