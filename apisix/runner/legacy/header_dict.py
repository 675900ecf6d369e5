# SPDX-License-Identifier: Apache-2.0
"""`HeaderDict`, the dict of headers that plugins of the legacy APIs get. It ignores the case of names."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from apisix.runner import primitives

_MISSING: Any = object()


class HeaderDict(dict[str, Any]):
    """
    A dict of headers with one value for each name. Lookups ignore the case of a name.

    It is a subclass of `dict`, so that `json.dumps` accepts it. A name has the spelling with which it was last set. The dict is a copy of
    the headers. After `filter`, the changes that the plugin made are applied to the request.

    >>> headers = HeaderDict([("user-agent", "curl")])
    >>> headers["User-Agent"]
    'curl'
    >>> headers["X-A"] = "1"
    >>> headers.get("x-a"), list(headers)
    ('1', ['user-agent', 'X-A'])
    """

    __slots__ = ("_spellings",)

    def __init__(self, arg: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **kwargs: Any) -> None:
        # Maps a name in lower case to its key, if the key is not in lower case. None while all keys are in lower case, as those from the
        # gateway are.
        self._spellings: dict[str, str] | None = None
        for name, value in [*(arg.items() if isinstance(arg, Mapping) else arg), *kwargs.items()]:
            self[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        """Called by `copy` and `pickle`. The copy is created by the constructor, because the index must exist before the first entry."""
        return type(self), (list(self.items()),)

    def _key(self, name: Any) -> Any:
        """Return the key under which a name is stored, or the name itself if it is not in the dict."""
        if primitives.dict_contains(self, name):
            return name
        lower = _lower(name)
        if primitives.dict_contains(self, lower):
            return lower
        return name if self._spellings is None else self._spellings.get(lower, name)

    def __missing__(self, name: str) -> Any:
        value = primitives.dict_get(self, self._key(name), _MISSING)
        if value is _MISSING:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        if primitives.dict_contains(self, name):
            return True
        lower = _lower(name)
        return primitives.dict_contains(self, lower) or (self._spellings is not None and lower in self._spellings)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name, or the default."""
        value = primitives.dict_get(self, name, _MISSING)
        return primitives.dict_get(self, self._key(name), default) if value is _MISSING else value

    def __setitem__(self, name: str, value: Any) -> None:
        if self._spellings is None:
            if type(name) is str and primitives.is_lower(name):
                primitives.dict_set(self, name, value)
                return
            self._spellings = {}
        key = self._key(name)
        if key != name:
            del self[key]
        lower = _lower(name)
        if lower != name:
            self._spellings[lower] = name
        primitives.dict_set(self, name, value)

    def __delitem__(self, name: str) -> None:
        primitives.dict_delete(self, self._key(name))
        if self._spellings is not None:
            self._spellings.pop(_lower(name), None)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the value of a name. If the name is missing, set it to the default first."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, default: Any = _MISSING) -> Any:
        """Remove a name and return its value. Raises: KeyError: the name is missing and no default was given."""
        if name not in self:
            if default is _MISSING:
                raise KeyError(name)
            return default
        value = self[name]
        del self[name]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last name and value and return them. Raises: KeyError: the dict is empty."""
        name, value = dict.popitem(self)
        if self._spellings is not None:
            self._spellings.pop(_lower(name), None)
        return name, value

    def clear(self) -> None:
        """Remove everything."""
        dict.clear(self)
        self._spellings = None

    def update(self, arg: Any = (), /, **kwargs: Any) -> None:
        """Set all names and values. They replace those with the same names."""
        for name, value in dict(arg, **kwargs).items():
            self[name] = value

    def copy(self) -> "HeaderDict":
        """Return a copy whose lookups ignore case too."""
        return HeaderDict(self)

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, dict):
            return NotImplemented
        merged = self.copy()
        merged.update(other)
        return merged

    def __ror__(self, other: Any) -> Any:
        return HeaderDict(other) | self if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]  # dict has overloads for arguments that `update` accepts
        self.update(other)
        return self


def header_dict(pairs: list[tuple[str, str]]) -> HeaderDict:
    """Return a HeaderDict of received headers. This is faster than the constructor."""
    headers = HeaderDict.__new__(HeaderDict)
    headers._spellings = None
    if not primitives.dict_fill(headers, pairs):
        headers.clear()
        for name, value in pairs:
            headers[name] = value
    return headers


def with_values(headers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the headers of a response without those whose value is None."""
    pairs = primitives.dict_items(headers) if isinstance(headers, dict) else list(headers.items())
    for _, value in pairs:
        if value is None:
            return [(name, value) for name, value in pairs if value is not None]
    return pairs


def _lower(name: Any) -> Any:
    return name.lower() if isinstance(name, str) else name
