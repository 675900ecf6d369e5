# SPDX-License-Identifier: Apache-2.0
"""
Multidict views that can be edited. The theory of operation is in `multidict_view.py`.

Subclasses decide how names are compared and which edits are refused: see `headers.py` and `query.py`.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from multidict import MultiDict

from apisix.runner.http.multidict_view import MISSING, MultidictView, default_or_error

if TYPE_CHECKING:
    from multidict._abc import MDArg

_T = TypeVar("_T")


class MutableMultidictView(MultidictView):
    """The entries of a message as a multidict that can be edited. Subclasses refuse what can't be sent."""

    __slots__ = ()

    def _check(self, key: str, value: str) -> None:
        """Raise TypeError or ValueError if a name or value can't be sent."""
        raise NotImplementedError

    def _check_repeats(self, pairs: Iterable[tuple[str, str]], *, onto_present: bool) -> None:
        """Raise UnsupportedEdit if a name would get a second value that can't be sent. `onto_present`: the pairs are added to the view."""

    def _materialize(self) -> MultiDict[str]:
        """Enter the materialized state and return the multidict that can be edited."""
        md = self._materialized
        if md is None:
            md = self._materialized = self._multidict(self.pairs())
            self._edits = None
        return md

    def __setitem__(self, key: str, value: str) -> None:
        self._check(key, value)
        identity = self._identity(key)
        if self._materialized is None:
            edits = self._edits
            if edits is None:
                self._edits = {identity: (key, value)}
                return
            if edits.get(identity, MISSING) is not None:
                edits[identity] = (key, value)
                return
            # A name that was deleted and is set again moves to the end, which the overlay can't express.
        self._materialize()[key] = value

    def __delitem__(self, key: str) -> None:
        if self._first(key) is None:
            raise KeyError(f"there is no {key!r} to delete; if it may be missing, write discard({key!r})")
        self._delete(key)

    def _delete(self, key: str) -> None:
        if self._materialized is not None:
            self._materialized.popall(key)
        elif self._edits is None:
            self._edits = {self._identity(key): None}
        else:
            self._edits[self._identity(key)] = None

    def discard(self, key: str) -> None:
        """Delete all values of a name, if there are any. Multidicts do not have this method; `del` raises KeyError if there are none."""
        if self._first(key) is not None:
            self._delete(key)

    def setdefault(self, key: str, default: str | None = None) -> str:
        """Return the first value of a name. If the name is missing, set it to the default first."""
        value = self._first(key)
        if value is None:
            self[key] = value = default  # type: ignore[assignment]  # None is refused
        return value  # type: ignore[return-value]

    def add(self, key: str, value: str) -> None:
        """Add a value to a name, after its present values."""
        self._check(key, value)
        if self._first(key) is None:
            self[key] = value
            return
        self._check_repeats(((key, value),), onto_present=True)
        self._materialize().add(key, value)

    def popone(self, key: str, default: _T = MISSING) -> str | _T:
        """Delete the first value of a name and return it. If the name is missing, return the default, or raise KeyError without one."""
        values = self._values(key)
        if not values:
            return default_or_error(key, default)
        if len(values) == 1:
            self._delete(key)
        else:
            self._check_repeats([(key, value) for value in values[1:]], onto_present=False)
            self._materialize().popone(key)
        return values[0]

    def pop(self, key: str, default: _T = MISSING) -> str | _T:
        """Same as `popone`."""
        return self.popone(key, default)

    def popall(self, key: str, default: _T = MISSING) -> list[str] | _T:
        """Delete all values of a name and return them. If the name is missing, return the default, or raise KeyError without one."""
        values = self._values(key)
        if not values:
            return default_or_error(key, default)
        self._delete(key)
        return values

    def popitem(self) -> tuple[str, str]:
        """Delete the last name and value and return them. Raise KeyError if there are none."""
        pairs = self.pairs()
        if not pairs:
            raise KeyError(f"no {type(self).__name__.lower()} are left")
        last = pairs[-1][0]
        self._check_repeats([(last, value) for value in self._values(last)[:-1]], onto_present=False)
        name, value = self._materialize().popitem()
        return str(name), value

    def clear(self) -> None:
        """Delete everything."""
        if len(self):
            self._materialize().clear()

    def extend(self, arg: "MDArg[str]" = None, /, **kwargs: str) -> None:
        """Add names and values to the present ones."""
        pairs = self._checked(arg, kwargs)
        self._check_repeats(pairs, onto_present=True)
        for key, value in pairs:
            self.add(key, value)

    def merge(self, arg: "MDArg[str]" = None, /, **kwargs: str) -> None:
        """Add the names and values whose name is missing."""
        self.extend([(key, value) for key, value in self._checked(arg, kwargs) if key not in self])

    def update(self, arg: "MDArg[str]" = None, /, **kwargs: str) -> None:
        """Set names and values. They replace all values of the same names."""
        pairs = self._checked(arg, kwargs)
        if len({self._identity(key) for key, _ in pairs}) == len(pairs):
            for key, value in pairs:
                self[key] = value
            return
        self._check_repeats(pairs, onto_present=False)
        self._materialize().update(pairs)

    def _checked(self, arg: Any, kwargs: dict[str, str]) -> list[tuple[str, str]]:
        """Return the arguments of a method like `dict.update` as pairs, all of them checked before the first one takes effect."""
        if isinstance(arg, Mapping):
            arg = arg.items()  # multidict would look up each key, and lose repeated values
        pairs = [*((str(key), value) for key, value in self._multidict(arg or ()).items()), *kwargs.items()]
        for key, value in pairs:
            self._check(key, value)
        return pairs
