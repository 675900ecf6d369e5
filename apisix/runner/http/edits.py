# SPDX-License-Identifier: Apache-2.0
"""Names and values as a view on the frame, with an overlay of edits: how they are changed."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from apisix.runner.http.views import MISSING, EntriesView, default_of

if TYPE_CHECKING:
    from multidict._abc import MDArg

_T = TypeVar("_T")


class EditableEntries(EntriesView):
    """
    The entries of a message as a mutable multidict that knows what was changed.

    Whatever decides by one name alone stays in the overlay.
    """

    __slots__ = ()

    def _check_repeats(self, pairs: Iterable[tuple[str, str]], *, onto_present: bool) -> None:
        """Refuse a second value where the protocol knows one only. `onto_present`: the pairs come on top of what is there."""

    # Editing.

    def add(self, key: str, value: str) -> None:
        """Add a value to a name, after those that it has."""
        self._check(key, value)
        if self._first(key) is None:
            self[key] = value
            return
        self._check_repeats(((key, value),), onto_present=True)
        self._materialise().add(key, value)
        self._touch(self._identity(key))

    def setdefault(self, key: str, default: str | None = None) -> str:
        """Return the first value of a name, after setting it to the default where there is none."""
        value = self._first(key)
        if value is None:
            self[key] = value = default  # type: ignore[assignment]  # None is refused
        return value  # type: ignore[return-value]

    def popone(self, key: str, default: _T = MISSING) -> str | _T:
        """Remove the first value of a name and return it. Raises: KeyError: there is none, and no default."""
        values = self._values(key)
        if not values:
            return default_of(key, default)
        if len(values) == 1:
            self._delete(key)
        else:
            self._check_repeats([(key, value) for value in values[1:]], onto_present=False)
            self._materialise().popone(key)
            self._touch(self._identity(key))
        return values[0]

    def discard(self, key: str) -> None:
        """Remove all values of a name, if there are any. A multidict does not have this; `del` raises KeyError if there are none."""
        if self._first(key) is not None:
            self._delete(key)

    def pop(self, key: str, default: _T = MISSING) -> str | _T:
        """Do the same as `popone`."""
        return self.popone(key, default)

    def popall(self, key: str, default: _T = MISSING) -> list[str] | _T:
        """Remove all values of a name and return them. Raises: KeyError: there are none, and no default."""
        values = self._values(key)
        if not values:
            return default_of(key, default)
        self._delete(key)
        return values

    def popitem(self) -> tuple[str, str]:
        """Remove the last name and value and return them. Raises: KeyError: nothing is there."""
        md = self._materialise()
        if not md:
            raise KeyError(f"no {type(self).__name__.lower()} are left")
        last = list(md.items())[-1][0]
        self._check_repeats([(last, value) for value in md.getall(last)[:-1]], onto_present=False)
        self._touch(self._identity(last))
        return md.popitem()

    def clear(self) -> None:
        """Remove everything."""
        md = self._materialise()
        for key in md:
            self._touch(self._identity(key))
        md.clear()

    def extend(self, arg: "MDArg[str]" = None, /, **kwargs: str) -> None:
        """Add all names and values, after those that are there."""
        pairs = self._pairs(arg, kwargs)
        self._check_repeats(pairs, onto_present=True)
        for key, value in pairs:
            self.add(key, value)

    def merge(self, arg: "MDArg[str]" = None, /, **kwargs: str) -> None:
        """Add those names and values whose name is not there yet."""
        self.extend([(key, value) for key, value in self._pairs(arg, kwargs) if key not in self])

    def update(self, arg: "MDArg[str]" = None, /, **kwargs: str) -> None:
        """Set all names and values, in the place of those that have the same names."""
        pairs = self._pairs(arg, kwargs)
        identities = {self._identity(key) for key, _ in pairs}
        if len(identities) == len(pairs):
            for key, value in pairs:
                self[key] = value
            return
        self._check_repeats(pairs, onto_present=False)
        self._materialise().update(pairs)
        for identity in identities:
            self._touch(identity)

    def _pairs(self, arg: Any, kwargs: dict[str, str]) -> list[tuple[str, str]]:
        """Return what a method like dict.update was given as checked pairs, before any of it takes effect."""
        if isinstance(arg, Mapping):
            arg = arg.items()  # multidict would look each key up, and lose repeated values
        pairs = [*self._multidict(arg or ()).items(), *kwargs.items()]
        for key, value in pairs:
            self._check(key, value)
        return pairs

    def mark(self) -> Mapping[str, object] | None:
        """Return what was edited so far, to be compared with what this returns later."""
        overlay = self._overlay
        md = self._all
        if not overlay:
            return None
        if md is None:
            return overlay.copy()
        # The overlay still has what was edited before everything was decoded, and None for what was edited or deleted since.
        return {identity: edit or md.getall(identity, []) or None for identity, edit in overlay.items()}
