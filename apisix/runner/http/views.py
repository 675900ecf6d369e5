# SPDX-License-Identifier: Apache-2.0
"""Names and values as a view on the frame, with an overlay of edits: how they are looked up."""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from apisix.runner.http.live import items_of, names_of, values_of
from apisix.runner.http.overlay import Overlay
from apisix.runner.http.redaction import shown

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarOfPython313

    _D = TypeVarOfPython313("_D", default=None)

# One signature where multidict overloads, for a class in C has room for one only: a call without default is no _T, so a str.
_T = TypeVar("_T")
MISSING: Final[Any] = object()
"""The default of a `default` that may be anything."""


class EntriesView(Overlay):
    """The entries of a message as a multidict. `edits.EditableEntries` adds what changes them."""

    __slots__ = ()

    def get(self, key: str, default: "_D" = None) -> "str | _D":  # type: ignore[assignment]  # _D is None then
        """Return the first value of a name, or the default."""
        value = self._first(key)
        return default if value is None else value

    def getone(self, key: str, default: _T = MISSING) -> str | _T:
        """Return the first value of a name. Raises: KeyError: there is none, and no default."""
        value = self._first(key)
        return default_of(key, default) if value is None else value

    def getall(self, key: str, default: _T = MISSING) -> list[str] | _T:
        """Return all values of a name, in order. Raises: KeyError: there are none, and no default."""
        values = self._values(key)
        return values if values else default_of(key, default)

    # Everything at once.

    def __len__(self) -> int:
        if self._all is not None:
            return len(self._all)
        return len(self._entries if self._overlay is None else self.pairs())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def keys(self) -> KeysView[str]:
        """Return a view of the names. Whether a repeated one counts once is up to the release of multidict."""
        return names_of(self)

    def items(self) -> ItemsView[str, str]:
        """Return a view of the names and values, repeats included, in order."""
        return items_of(self)

    def values(self) -> ValuesView[str]:
        """Return a view of the values, in order."""
        return values_of(self)

    def to_dict(self) -> dict[str, list[str]]:
        """Return a dict from each name, in its first spelling, to its values."""
        grouped: dict[str, tuple[str, list[str]]] = {}
        for name, value in self.pairs():
            grouped.setdefault(self._came_identity(name), (name, []))[1].append(value)
        return dict(grouped.values())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Overlay):
            other = other._real()
        return self._real() == other

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({shown(self.pairs())})>"

    def copy(self) -> Self:
        """Return a detached twin with the same edits so far. Costs next to nothing as long as nothing was decoded for good."""
        twin = type(self).__new__(type(self))
        twin._folds = self._folds
        twin._entries = self._entries
        twin._overlay = None if self._overlay is None else self._overlay.copy()
        twin._all = None if self._all is None else self._all.copy()
        return twin

    def __copy__(self) -> Self:
        return self.copy()


def default_of(key: str, default: _T) -> _T:
    """Return what a name has that is not there. Raises: KeyError: no default was given."""
    if default is MISSING:
        raise KeyError(key)
    return default
