# SPDX-License-Identifier: Apache-2.0
"""
Multidicts of the names and values in a message: `request.headers`, `request.args`, `response.headers`.

Theory of operation. A view is in one of two states:

- *Overlay*: the entries stay encoded in the received frame, and the edits are kept beside them, in a dict from each edited name to its new
  value. To look up a name, the frame is searched. Iteration decodes all entries and applies the edits to the result.
- *Materialized*: a multidict of the `multidict` package contains all names and values, and every operation is applied to it.

A view begins as an overlay. An operation that the overlay can't express, such as adding a second value to a name, materializes the view.
It stays materialized. In both states, what has to be sent is computed by comparison with the received entries.

`MultidictView` is the part that only reads, and `mutable_multidict_view.py` has the edits. Subclasses decide how names are compared and
which edits are refused: see `headers.py` and `query.py`.
"""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from multidict import MultiDict, MutableMultiMapping

from apisix.runner.errors import LocalProtocolError
from apisix.runner.http.redaction import shown
from apisix.runner.wire.entries import NO_ENTRIES, TextEntries, entries_of

# multidict has overloads where these methods have one signature, because a class in C can define a method only once: without an argument
# for the default, _T has no type, and the result is a str.
_T = TypeVar("_T")
MISSING: Final[Any] = object()
"""Marks a name without an edit, and an argument `default` that was not given."""

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarOfPython313

    Interface = MutableMultiMapping[str]
    _D = TypeVarOfPython313("_D", default=None)
else:

    class Interface:
        """
        The empty base of the views, because a class in C can't be derived from MutableMultiMapping.

        For type checkers, this name is MutableMultiMapping, and `isinstance` agrees. The views inherit none of the methods of that class,
        because those are wrong for repeated names: `items()` omits values, `==` ignores them, and `update()` keeps the last one.
        """

        __slots__ = ()

    MutableMultiMapping.register(Interface)


class MultidictView(Interface):
    """
    The entries of a message as a multidict that is only read.

    Args:
        entries: the received entries. The default is none.
    """

    __slots__ = ("_edits", "_entries", "_materialized")

    _multidict = MultiDict
    """The class that a view becomes when it is materialized."""

    def __init__(self, entries: TextEntries = NO_ENTRIES) -> None:
        self._begin(entries)

    def _begin(self, entries: TextEntries) -> None:
        self._entries = entries
        # From each edited name, as `_identity` returns it, to the new name and value, or to None if the name was deleted.
        self._edits: dict[str, tuple[str, str] | None] | None = None
        self._materialized: MultiDict[str] | None = None

    # How names are compared. `Headers` overrides these methods to ignore the case.

    def _identity(self, key: str) -> str:
        """Return a name in the form in which names are compared. Raise TypeError if it is not a str."""
        if type(key) is str:
            return key
        if not isinstance(key, str):
            raise TypeError(f"a name must be a str, got {type(key).__name__}")
        return str.__str__(key)

    def _index(self, identity: str, start: int) -> int:
        """Return the index of the first received entry with that name, beginning at `start`, or -1."""
        try:
            return self._entries.find(identity, start, False)
        except LocalProtocolError:
            return -1  # no bytes decode to this name

    # Reading the values of one name.

    def _received(self, index: int) -> str:
        value = self._entries.value(index)
        return "" if value is None else value

    def _received_values(self, identity: str) -> list[str]:
        values = []
        index = self._index(identity, 0)
        while index >= 0:
            values.append(self._received(index))
            index = self._index(identity, index + 1)
        return values

    def _first(self, key: str) -> str | None:
        """Return the first value of a name, or None."""
        identity = self._identity(key)
        if self._materialized is not None:
            return self._materialized.get(identity)
        edits = self._edits
        if edits is not None:
            edit = edits.get(identity, MISSING)
            if edit is not MISSING:
                return None if edit is None else edit[1]
        index = self._index(identity, 0)
        return None if index < 0 else self._received(index)

    def _values(self, key: str) -> list[str]:
        """Return all values of a name."""
        identity = self._identity(key)
        if self._materialized is not None:
            return self._materialized.getall(identity, [])
        edits = self._edits
        if edits is not None:
            edit = edits.get(identity, MISSING)
            if edit is not MISSING:
                return [] if edit is None else [edit[1]]
        return self._received_values(identity)

    def __getitem__(self, key: str) -> str:
        value = self._first(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._first(key) is not None

    def get(self, key: str, default: "_D" = None) -> "str | _D":  # type: ignore[assignment]  # _D is None then
        """Return the first value of a name, or the default if the name is missing."""
        value = self._first(key)
        return default if value is None else value

    def getone(self, key: str, default: _T = MISSING) -> str | _T:
        """Return the first value of a name. If the name is missing, return the default, or raise KeyError without one."""
        value = self._first(key)
        return default_or_error(key, default) if value is None else value

    def getall(self, key: str, default: _T = MISSING) -> list[str] | _T:
        """Return all values of a name, in order. If the name is missing, return the default, or raise KeyError without one."""
        values = self._values(key)
        return values if values else default_or_error(key, default)

    # Reading everything.

    def _received_pairs(self) -> list[tuple[str, str]]:
        pairs = self._entries.decoded()
        for pair in pairs:
            if pair[1] is None:  # `?flag` in a query; a header always has a value
                return [(name, value or "") for name, value in pairs]
        return pairs  # type: ignore[return-value]  # no value is None

    def pairs(self) -> list[tuple[str, str]]:
        """Return all names and values. The list must not be changed."""
        if self._materialized is not None:
            # The names of a CIMultiDict are of a class derived from str, which some encoders of JSON refuse.
            return [(str(name), value) for name, value in self._materialized.items()]
        pairs = self._received_pairs()
        return pairs if self._edits is None else self._merged(pairs, self._edits)

    def _merged(self, pairs: list[tuple[str, str]], edits: dict[str, tuple[str, str] | None]) -> list[tuple[str, str]]:
        """Apply edits as a multidict does: a name that is set takes the place of its first entry, and new names are appended."""
        merged: list[tuple[str, str] | None] = list(pairs)
        gaps = False
        for identity, edit in edits.items():
            # There are few edits, so it is cheaper to search for each of them than to fold the names of all pairs.
            index = self._index(identity, 0)
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
        return [pair for pair in merged if pair is not None] if gaps else merged  # type: ignore[return-value]  # there are no gaps

    def names(self) -> list[str]:
        """Return all names. Whether a repeated name is returned once or repeatedly depends on the installed release of multidict."""
        names = [name for name, _ in self.pairs()]
        if len(names) == len({self._identity(name) for name in names}):
            return names
        return list(map(str, self._real()))

    def _real(self) -> MultiDict[str]:
        """Return a multidict with the same content, which must not be changed."""
        return self._multidict(self.pairs()) if self._materialized is None else self._materialized

    def __len__(self) -> int:
        if self._edits is None and self._materialized is None:
            return self._entries.size()
        return len(self.pairs())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def keys(self) -> KeysView[str]:
        """Return a view of the names. Whether a repeated name is in it once or repeatedly depends on the installed release of multidict."""
        return _KeysView(self)  # type: ignore[return-value]  # registered below

    def items(self) -> ItemsView[str, str]:
        """Return a view of the names and values, in order, with repeated names."""
        return _ItemsView(self)  # type: ignore[return-value]  # registered below

    def values(self) -> ValuesView[str]:
        """Return a view of the values, in order."""
        return _ValuesView(self)  # type: ignore[return-value]  # registered below

    def to_dict(self) -> dict[str, list[str]]:
        """Return a dict from each name, in its first spelling, to its list of values."""
        return dict(self._grouped(self.pairs()).values())

    def _grouped(self, pairs: list[tuple[str, str]]) -> dict[str, tuple[str, list[str]]]:
        """Return a dict from each name, as names are compared, to its first spelling and its values."""
        grouped: dict[str, tuple[str, list[str]]] = {}
        for name, value in pairs:
            grouped.setdefault(self._identity(name), (name, []))[1].append(value)
        return grouped

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MultidictView):
            other = other._real()
        return self._real() == other

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({shown(self.pairs())})>"

    def copy(self) -> Self:
        """Return an independent copy with the same edits."""
        copied = type(self).__new__(type(self))
        copied._entries = self._entries
        copied._edits = None if self._edits is None else self._edits.copy()
        copied._materialized = None if self._materialized is None else self._materialized.copy()
        return copied

    def __copy__(self) -> Self:
        return self.copy()

    # What was edited, for the runner.

    def mark(self) -> object:
        """Return the edits so far, as a value that is equal to the result of a later call if nothing was edited in between."""
        if self._materialized is not None:
            return list(self._materialized.items())
        return self._edits.copy() if self._edits else None

    def edited_names(self) -> set[str] | None:
        """Return the names that were edited, as they are compared. Return None if all may have been."""
        return None if self._materialized is not None else set(self._edits or ())

    def changed(self, key: str) -> bool:
        """Return True if the values of a name are not the received ones."""
        identity = self._identity(key)
        if self._materialized is None and (self._edits is None or identity not in self._edits):
            return False
        return self._values(key) != self._received_values(identity)

    def changes(self) -> list[tuple[str, str | None]]:
        """
        Return all values of each name whose values are not the received ones, or None as the value of a deleted name.

        The names are returned as they are compared, so those of headers are in lower case. Source: gateway contract, 5.2 and 5.5.
        """
        changed: list[tuple[str, str | None]] = []
        if self._materialized is not None:
            received, current = self._grouped(self._received_pairs()), self._grouped(self.pairs())
            for identity in received | current:
                values = current[identity][1] if identity in current else []
                if identity not in received or values != received[identity][1]:
                    changed += [(identity, value) for value in values] or [(identity, None)]
        elif self._edits is not None:
            for identity, edit in self._edits.items():
                index = self._index(identity, 0)
                if edit is None:
                    if index >= 0:
                        changed.append((identity, None))
                elif index < 0 or edit[1] != self._received(index) or self._index(identity, index + 1) >= 0:
                    changed.append((identity, edit[1]))
        return changed

    def complete(self, drop: dict[bytes, None]) -> TextEntries:
        """
        Return all entries with the edits applied, except those of some names. In the overlay state, entries are not decoded for this.

        Args:
            drop: the names to leave out, as `wire.entries.names` returns them.
        """
        if self._materialized is None:
            return self._entries.edited(self._edits or {}, drop)
        return entries_of(self.pairs()).edited({}, drop)


_View = TypeVar("_View", bound=MultidictView)


def begin(view: _View, entries: TextEntries) -> _View:
    """Same as the constructor, but compiled to a call in C. `view` comes from `__new__`. Return the view."""
    view._begin(entries)
    return view


def default_or_error(key: str, default: _T) -> _T:
    """Return the default. Raise KeyError if none was given."""
    if default is MISSING:
        raise KeyError(key)
    return default


# What `keys()`, `items()` and `values()` return. They show the view's current content, also after edits. Iteration uses a list of what is
# there when it begins, so the view may be edited meanwhile. Everything else is delegated to the dict views of the materialized form.


class _DictView:
    """A view of the names, values, or pairs."""

    __slots__ = ("_view",)

    def __init__(self, view: MultidictView) -> None:
        self._view = view

    def _real(self) -> Any:
        """Return the dict view of the materialized form."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._real())

    def __contains__(self, item: object) -> bool:
        return item in self._real()

    def __reversed__(self) -> Iterator[Any]:
        return iter(reversed(self._real()))

    def __repr__(self) -> str:
        return repr(self._real())


class _ValuesView(_DictView):
    """The values."""

    __slots__ = ()

    def _real(self) -> Any:
        return self._view._real().values()

    def __iter__(self) -> Iterator[str]:
        return iter([value for _, value in self._view.pairs()])


class _SetView(_DictView):
    """The part that keys and items have in common: the operations of a set."""

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
        """Return True if no element of `other` is in this view."""
        disjoint: bool = self._real().isdisjoint(other)
        return disjoint


class _KeysView(_SetView):
    """The names."""

    __slots__ = ()

    def _real(self) -> Any:
        return self._view._real().keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.names())


class _ItemsView(_SetView):
    """The pairs of name and value."""

    __slots__ = ()

    def _real(self) -> Any:
        return self._view._real().items()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._view.pairs())


KeysView.register(_KeysView)
ItemsView.register(_ItemsView)
ValuesView.register(_ValuesView)
