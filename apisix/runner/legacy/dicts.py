# SPDX-License-Identifier: Apache-2.0
"""What plugins of the legacy APIs get instead of a dict, and checks of what they set."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Self

from apisix.runner.errors import UnsupportedEdit
from apisix.runner.http import texts
from apisix.runner.http.edits import EditableEntries
from apisix.runner.legacy import raw_dict

dicts_logger = logging.getLogger("apisix.runner.legacy.dicts")

_MISSING: Any = object()
_NOTHING = (None,)
_left_out: set[str] = set()


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

    __slots__ = ("_spellings",)

    def __init__(self, arg: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **kwargs: Any) -> None:
        # From a name in lower case to the spelling that is the key, where that is another. None as long as all names are in
        # lower case, as the gateway's are.
        self._spellings: dict[str, str] | None = None
        for name, value in [*(arg.items() if isinstance(arg, Mapping) else arg), *kwargs.items()]:
            self[name] = value

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by the constructor, which makes the index first."""
        return type(self), (list(self.items()),)

    def _key(self, name: Any) -> Any:
        """Return the key under which a name is stored, the name itself where it is not."""
        if raw_dict.has_item(self, name):
            return name
        lower = _lower(name)
        if raw_dict.has_item(self, lower):
            return lower
        return name if self._spellings is None else self._spellings.get(lower, name)

    def __missing__(self, name: str) -> Any:
        value = raw_dict.get_item(self, self._key(name), _MISSING)
        if value is _MISSING:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        if raw_dict.has_item(self, name):
            return True
        lower = _lower(name)
        return raw_dict.has_item(self, lower) or (self._spellings is not None and lower in self._spellings)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name, or the default."""
        value = raw_dict.get_item(self, name, _MISSING)
        return raw_dict.get_item(self, self._key(name), default) if value is _MISSING else value

    def __setitem__(self, name: str, value: Any) -> None:
        if self._spellings is None:
            if type(name) is str and texts.is_lower(name):
                raw_dict.set_item(self, name, value)
                return
            self._spellings = {}
        key = self._key(name)
        if key != name:
            del self[key]
        lower = _lower(name)
        if lower != name:
            self._spellings[lower] = name
        raw_dict.set_item(self, name, value)

    def __delitem__(self, name: str) -> None:
        raw_dict.delete_item(self, self._key(name))
        if self._spellings is not None:
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
        name, value = dict.popitem(self)
        if self._spellings is not None:
            self._spellings.pop(_lower(name), None)
        return name, value

    def clear(self) -> None:
        """Remove everything."""
        dict.clear(self)
        self._spellings = None

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


def header_dict(pairs: list[tuple[str, str]]) -> HeaderDict:
    """Make a HeaderDict of what came, half as long as the constructor takes."""
    headers = HeaderDict.__new__(HeaderDict)
    headers._spellings = None
    if not raw_dict.fill(headers, pairs):
        headers.clear()
        for name, value in pairs:
            headers[name] = value
    return headers


def read_back(entries: EditableEntries, given: Mapping[str, Any], shown: list[tuple[str, str]], deletes: bool = False) -> None:
    """
    Make edits of what a plugin did to a dict: an entry that differs is set, None deletes.

    Args:
        shown: what the entries were. Where a name repeats, the dict shows its last value, as in both old releases.
        deletes: whether a name that is missing is deleted. If not, it stays.
    Raises: TypeError, ValueError: an entry can't be sent.
    """
    # Most dicts are what was given out, with few changes: those are found without looking a name up.
    changed = raw_dict.unlike(given, shown) if isinstance(given, dict) else None
    # A dict that knows no case, if it is alike otherwise, can't hold a name of the entries in another spelling.
    are_spelled_so = changed is not None and type(given) is HeaderDict
    if changed is None:
        before = dict(shown)
        for name in before if deletes else ():
            if name not in given:
                entries.popall(name, None)
    if changed is None or (changed and not are_spelled_so):
        changed = list(given.items())  # in their order: of a name in two spellings, the last value counts
    for name, value in changed:
        if value is None:
            entries.popall(name, None)
        elif are_spelled_so or entries.getall(name, _NOTHING)[-1] != value:
            _set(entries, name, value)


def with_values(headers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the headers of an answer without those of None, which deletes."""
    pairs = texts.items_of(headers) if isinstance(headers, dict) else list(headers.items())
    for _, value in pairs:
        if value is None:
            return [(name, value) for name, value in pairs if value is not None]
    return pairs


def _set(entries: EditableEntries, name: str, value: str) -> None:
    """
    Set a name. An edit that can't be sent is left out, with one warning for each name: in releases 0.1 and 0.2 it was accepted, and
    plugins written for them set `content-length` beside a body.
    """
    try:
        entries[name] = value
    except UnsupportedEdit as error:
        if name not in _left_out:
            _left_out.add(name)
            dicts_logger.warning("an edit by a plugin of an earlier API is not sent: %s", error)


def last_value(entries: EditableEntries, name: str) -> str | None:
    """Return the value of a name, the last one where it repeats, or None."""
    values = entries.getall(name, None)
    return values[-1] if values else None


def set_entry(entries: EditableEntries, given: "GivenDict | None", name: str, value: str | bytes | None) -> bool:
    """
    Set a name in the entries, and in the dict that was given out of them. An empty name or value, or None, changes nothing.

    Returns: whether it was set.
    Raises: TypeError, ValueError: name or value can't be sent.
    """
    text = given_text("a name", name) and given_text(f"the value of {name!r}", value)
    if not text:
        return False
    _set(entries, name, text)
    if given is not None:
        given.set(name, text)
    return True


def given_text(what: str, value: object) -> str:
    """
    Return what a plugin of release 0.2 gave as text, "" for None. That release took bytes too.

    Args: what: how the error names it, such as "the value of 'x-user'".
    Raises: TypeError: it is neither str nor bytes.
    """
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)  # compiled code takes no subclass of str
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    hint = f", write str({value!r})" if isinstance(value, int | float) else ""
    raise TypeError(f"{what} must be a str, got {type(value).__name__}{hint}")


def given_mapping(what: str, value: object) -> Mapping[str, Any]:
    """
    Return what a plugin of release 0.2 gave as a dict, {} for None.

    Raises: TypeError: it is not a mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a dict, got {type(value).__name__}")
    return value


def given_body(body: object) -> bytes:
    """Return a body that was given by a plugin of an earlier API, b"" for None. Raises: TypeError: it is neither str nor bytes."""
    if isinstance(body, str):
        return str.encode(body, "utf-8", "surrogateescape")
    if body is None:
        return b""
    if isinstance(body, bytes):
        return bytes(body)  # compiled code takes no subclass of bytes
    hint = "; for data, write json.dumps(...)" if isinstance(body, dict | list) else ""
    raise TypeError(f"body must be a str or bytes, got {type(body).__name__}{hint}")


def given_number(what: str, value: object) -> int:
    """Return an int that was given by a plugin of an earlier API, 0 for None. Raises: TypeError: it is not an int."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, got {type(value).__name__}")
    return value


class GivenDict:
    """
    Headers or arguments that release 0.2 was given as a dict: from then on, it is the dict that counts.

    Args: is_headers: whether names are looked up without case.
    """

    __slots__ = ("_deletes", "_entries", "_is_headers", "_pairs", "shown")

    def __init__(self, entries: EditableEntries, is_headers: bool) -> None:
        self._entries = entries
        self._is_headers = is_headers
        self._deletes = True
        self._pairs = entries.pairs()
        self.shown: dict[str, Any] = header_dict(self._pairs) if is_headers else dict(self._pairs)

    def set(self, name: str, value: str) -> None:
        """Set a name."""
        self.shown[name] = value

    def replace(self, values: Mapping[str, Any]) -> None:
        """
        Show these values from now on, and set them. Other names are no longer shown, but stay in the request: as in release 0.2.

        Raises: TypeError: a name or a value is not text.
        """
        texts_of = [
            (name, None if value is None else given_text(f"the value of {name!r}", value))
            for name, value in values.items()
            if given_text("a name", name)
        ]
        self._deletes = self._deletes and values is self.shown
        if values is not self.shown:
            self.shown = HeaderDict(texts_of) if self._is_headers else dict(texts_of)

    def read_back(self) -> None:
        """Make edits of what was done to the dict, deletions included. Raises: TypeError, ValueError: an entry can't be sent."""
        read_back(self._entries, self.shown, self._pairs, self._deletes)


def _lower(name: Any) -> Any:
    return name.lower() if isinstance(name, str) else name
