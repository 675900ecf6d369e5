# SPDX-License-Identifier: Apache-2.0
"""What the older generations of plugins get where they expect a dict."""

from collections.abc import Iterable, Mapping
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
        if any(name != _lower(name) for name in self):
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


def _lower(name: Any) -> Any:
    return name.lower() if isinstance(name, str) else name
