# SPDX-License-Identifier: Apache-2.0
"""
What `keys()`, `items()` and `values()` return: they show what is there whenever they are asked, also after edits.

Whoever iterates gets what was there when the iteration began, and may edit meanwhile. Set operations, comparisons and `repr` are those
of the release of multidict that is installed.
"""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from apisix.runner.http.overlay import Overlay


class Live:
    """One of the three, of the names and values of a message."""

    __slots__ = ("_overlay",)

    _overlay: Overlay

    def _real(self) -> Any:
        """Return what a real multidict with the same content has in the place of this."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._overlay.pairs())

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __repr__(self) -> str:
        return repr(self._real())


class LiveValues(Live):
    """The values, repeats included."""

    __slots__ = ()

    def _real(self) -> Any:
        return self._overlay._real().values()

    def __iter__(self) -> Iterator[str]:
        return iter([value for _, value in self._overlay.pairs()])

    def __contains__(self, value: object) -> bool:
        return any(value == found for found in self)


class LiveSet(Live):
    """What names and pairs have in common: they are sets, as far as repeats let them."""

    __slots__ = ()

    def __and__(self, other: Any) -> Any:
        return self._real() & other

    def __rand__(self, other: Any) -> Any:
        return other & self._real()

    def __or__(self, other: Any) -> Any:
        return self._real() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._real()

    def __sub__(self, other: Any) -> Any:
        return self._real() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self._real()

    def __xor__(self, other: Any) -> Any:
        return self._real() ^ other

    def __rxor__(self, other: Any) -> Any:
        return other ^ self._real()

    def __eq__(self, other: object) -> Any:
        return self._real() == other

    def __lt__(self, other: Any) -> Any:
        return self._real() < other

    def __le__(self, other: Any) -> Any:
        return self._real() <= other

    def __gt__(self, other: Any) -> Any:
        return self._real() > other

    def __ge__(self, other: Any) -> Any:
        return self._real() >= other

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def isdisjoint(self, other: Any) -> bool:
        """Tell whether nothing is in both."""
        disjoint: bool = self._real().isdisjoint(other)
        return disjoint


class LiveNames(LiveSet):
    """The names. Whether a repeated one counts once is up to the release of multidict."""

    __slots__ = ()

    def _real(self) -> Any:
        return self._overlay._real().keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._overlay.names())

    def __len__(self) -> int:
        return len(self._real())

    def __reversed__(self) -> Iterator[str]:
        return iter(reversed(self._real()))

    def __contains__(self, name: object) -> bool:
        return name in self._overlay


class LiveItems(LiveSet):
    """The pairs of name and value, repeats included, in order."""

    __slots__ = ()

    def _real(self) -> Any:
        return self._overlay._real().items()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._overlay.pairs())

    def __contains__(self, pair: object) -> bool:
        return pair in self._real()


KeysView.register(LiveNames)
ItemsView.register(LiveItems)
ValuesView.register(LiveValues)


def names_of(overlay: Overlay) -> KeysView[str]:
    """Return a view of the names."""
    self = LiveNames.__new__(LiveNames)
    self._overlay = overlay
    return self  # type: ignore[return-value]  # registered above


def items_of(overlay: Overlay) -> ItemsView[str, str]:
    """Return a view of the pairs."""
    self = LiveItems.__new__(LiveItems)
    self._overlay = overlay
    return self  # type: ignore[return-value]  # registered above


def values_of(overlay: Overlay) -> ValuesView[str]:
    """Return a view of the values."""
    self = LiveValues.__new__(LiveValues)
    self._overlay = overlay
    return self  # type: ignore[return-value]  # registered above
