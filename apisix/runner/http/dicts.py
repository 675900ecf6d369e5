# SPDX-License-Identifier: Apache-2.0
"""What the older generations of plugins get where they expect a dict."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from apisix.runner.http.edits import EditableEntries

_MISSING: Any = object()
_NOTHING = (None,)


class HeaderDict(dict[str, Any]):
    """
    A real dict of headers (`json.dumps` takes it), one value a name, in which names are looked up without case.

    A name keeps the spelling that it was set with last. It is detached: what is done to it is read back after `filter`.

    >>> headers = HeaderDict([("user-agent", "curl")])
    >>> headers["User-Agent"]
    'curl'
    >>> headers["X-A"] = "1"
    >>> headers.get("x-a"), list(headers)
    ('1', ['user-agent', 'X-A'])
    """

    # From a name in lower case to the spelling that is the key, where that is another: the gateway's names are in lower case.
    _spellings: dict[str, str]

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Make the index first: unpickling and copying set items before anything else."""
        self = super().__new__(cls)
        self._spellings = {}
        return self

    def __init__(self, arg: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **kwargs: Any) -> None:
        pairs = [*(arg.items() if isinstance(arg, Mapping) else arg), *kwargs.items()]
        super().__init__(pairs)
        # The gateway's names are in lower case, and then this was all.
        names = "".join(map(str, self))
        if names != names.lower():
            self.clear()
            for name, value in pairs:
                self[name] = value

    def _key(self, name: Any) -> Any:
        """Return the key under which a name is stored, the name itself where it is not."""
        if super().__contains__(name):
            return name
        lower = _lower(name)
        return lower if super().__contains__(lower) else self._spellings.get(lower, name)

    def __missing__(self, name: str) -> Any:
        key = self._key(name)
        if not super().__contains__(key):
            raise KeyError(name)
        return super().__getitem__(key)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(self._key(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name, or the default."""
        return super().get(self._key(name), default)

    def __setitem__(self, name: str, value: Any) -> None:
        key = self._key(name)
        if key != name:
            del self[key]
        lower = _lower(name)
        if lower != name:
            self._spellings[lower] = name
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(self._key(name))
        self._spellings.pop(_lower(name), None)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the value of a name, after setting it to the default where there is none."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, default: Any = _MISSING) -> Any:
        """Remove a name and return its value. Raises: KeyError: there is none, and no default."""
        if name not in self:
            if default is _MISSING:
                raise KeyError(name)
            return default
        value = self[name]
        del self[name]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last name and value and return them. Raises: KeyError: nothing is there."""
        name, value = super().popitem()
        self._spellings.pop(_lower(name), None)
        return name, value

    def clear(self) -> None:
        """Remove everything."""
        super().clear()
        self._spellings.clear()

    def update(self, arg: Any = (), /, **kwargs: Any) -> None:
        """Set all names and values, in the place of those that have the same names."""
        for name, value in dict(arg, **kwargs).items():
            self[name] = value

    def copy(self) -> "HeaderDict":
        """Return a copy that looks names up in the same way."""
        return HeaderDict(self)

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, dict):
            return NotImplemented
        merged = self.copy()
        merged.update(other)
        return merged

    def __ror__(self, other: Any) -> Any:
        return HeaderDict(other) | self if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]  # dict's has overloads for what update takes anyway
        self.update(other)
        return self


def read_back(entries: EditableEntries, given: Mapping[str, Any], shown: Mapping[str, Any]) -> None:
    """
    Make edits of what a plugin did to a dict: an entry that differs is set, None deletes, a name that is missing stays.

    Args: shown: what the entries were as a dict. Where a name repeats, that is its last value, as in both old releases.
    Raises: TypeError, ValueError: an entry can't be sent.
    """
    for name, value in given.items():
        if value is None:
            entries.popall(name, None)
        elif shown.get(name, _MISSING) != value and entries.getall(name, _NOTHING)[-1] != value:
            # The second look is for headers in another spelling; the first is cheap, and most entries are unchanged.
            entries[name] = value


class EntriesAsDict:
    """
    Headers or arguments as release 0.2 has them: one by one, or as a dict. Once the dict was given out, it is what counts.

    Args: dict_type: makes the dict of pairs.
    """

    __slots__ = ("_dict", "_entries", "_given", "_shown")

    def __init__(self, entries: EditableEntries, dict_type: Callable[[Any], dict[str, Any]]) -> None:
        self._entries = entries
        self._dict = dict_type
        self._given: dict[str, Any] | None = None
        self._shown: dict[str, Any] = {}

    def get(self, name: str) -> str | None:
        """Return the value of a name, the last one where it repeats, or None."""
        if self._given is not None:
            return self._given.get(name)
        values = self._entries.getall(name, None)
        return values[-1] if values else None

    def set(self, name: str, value: str | None) -> bool:
        """Set a name, None deletes it. Return whether both were text."""
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            return False
        if value is None:
            self._entries.popall(name, None)
        else:
            self._entries[name] = value
        if self._given is not None:
            if value is None:
                self._given.pop(name, None)
            else:
                self._given[name] = value
        return True

    def everything(self) -> dict[str, Any]:
        """Give the dict out."""
        if self._given is None:
            self._given = self._dict(self._entries.pairs())
            self._shown = dict(self._given)
        return self._given

    def set_all(self, values: Mapping[str, str | None] | None) -> bool:
        """Set several names, the others stay; None deletes all. Return whether all were text."""
        if values is None:
            values = dict.fromkeys(self.everything())
        if not isinstance(values, Mapping):
            return False
        taken = [self.set(name, value) for name, value in values.items()]
        return all(taken)

    def read_back(self) -> None:
        """Make edits of what was done to the dict, deletions included. Raises: TypeError, ValueError: an entry can't be sent."""
        if self._given is not None:
            for name in self._shown:
                if name not in self._given:
                    self._entries.popall(name, None)
            read_back(self._entries, self._given, self._shown)


def _lower(name: Any) -> Any:
    return name.lower() if isinstance(name, str) else name
