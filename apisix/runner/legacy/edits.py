# SPDX-License-Identifier: Apache-2.0
"""From what a plugin of a legacy API sets to edits of the request: checks of the values, and dicts that are read back."""

import logging
from collections.abc import Mapping
from typing import Any

from apisix.runner import primitives
from apisix.runner.errors import UnsupportedEdit
from apisix.runner.http.multidict_view import MutableMultidictView
from apisix.runner.legacy.header_dict import HeaderDict, header_dict

edits_logger = logging.getLogger("apisix.runner.legacy.edits")

_NOTHING = (None,)
_reported: set[tuple[str, str]] = set()


def warn_once(plugin: str, what: str, reported_as: str = "") -> None:
    """
    Log what a plugin does without effect, once for each plugin.

    Args:
        plugin: its name; "" if the test kit created the request.
        what: the message, a sentence about the plugin.
        reported_as: the part of the message that decides whether it was logged before. By default all of it.
    """
    key = (plugin, reported_as or what)
    if key not in _reported:
        _reported.add(key)
        edits_logger.warning("plugin %s %s", plugin or "(without a name)", what)


def read_back(
    entries: MutableMultidictView, given: Mapping[str, Any], shown: list[tuple[str, str]], plugin: str, deletes: bool = False
) -> None:
    """
    Apply the changes that a plugin made to a dict as edits: an entry that differs is set, and a value of None deletes.

    Args:
        given: the dict, as the plugin left it.
        shown: the entries from which the dict was made. If a name repeats, the dict has its last value, as in both legacy APIs.
        plugin: the plugin's name, for warnings.
        deletes: whether a name that is missing in the dict is deleted. If not, it stays.
    Raises: TypeError, ValueError: an entry can't be sent.
    """
    # Most dicts have few changes. These are found without looking up any name.
    changed = primitives.dict_changes(given, shown) if isinstance(given, dict) else None
    # In a HeaderDict that contains the same names, no name of the entries can have another spelling.
    has_same_spellings = changed is not None and type(given) is HeaderDict
    if changed is None:
        before = dict(shown)
        for name in before if deletes else ():
            if name not in given:
                entries.popall(name, None)
    if changed is None or (changed and not has_same_spellings):
        changed = list(given.items())  # in their order: if a name has two spellings, the last value counts
    for name, value in changed:
        if value is None:
            entries.popall(name, None)
        elif has_same_spellings or entries.getall(name, _NOTHING)[-1] != value:
            set_value(entries, name, value, plugin)


def set_value(entries: MutableMultidictView, name: str, value: str, plugin: str) -> None:
    """
    Set a name. An edit that can't be sent is left out with a warning.

    Releases 0.1 and 0.2 accepted such edits, and plugins written for them set `content-length` together with a body.
    """
    try:
        entries[name] = value
    except UnsupportedEdit as error:
        warn_once(plugin, f"sets {name}, which is not sent: {error}", name)


def last_value(entries: MutableMultidictView, name: str) -> str | None:
    """Return the value of a name, or None. If the name repeats, return its last value."""
    values = entries.getall(name, None)
    return values[-1] if values else None


def set_entry(entries: MutableMultidictView, given: "GivenDict | None", name: str, value: str | bytes | None, plugin: str) -> bool:
    """
    Set a name in the entries, and in the dict that the plugin got. An empty name or value, or None, changes nothing.

    Returns: True if it was set.
    Raises: TypeError, ValueError: name or value can't be sent.
    """
    text = given_text("a name", name) and given_text(f"the value of {name!r}", value)
    if not text:
        return False
    set_value(entries, name, text, plugin)
    if given is not None:
        given.set(name, text)
    return True


def given_text(what: str, value: object) -> str:
    """
    Return a text that a plugin of release 0.2 set, or "" for None. That release accepted bytes too.

    Args: what: how an error names the value, such as "the value of 'x-user'".
    Raises: TypeError: the value is neither str nor bytes.
    """
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)  # compiled code accepts no subclass of str
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    hint = f", write str({value!r})" if isinstance(value, int | float) else ""
    raise TypeError(f"{what} must be a str, got {type(value).__name__}{hint}")


def given_mapping(what: str, value: object) -> Mapping[str, Any]:
    """
    Return a dict that a plugin set, or {} for None.

    Raises: TypeError: the value is not a mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a dict, got {type(value).__name__}")
    return value


def given_body(body: object) -> bytes:
    """Return a body that a plugin set, or b"" for None. Raises: TypeError: it is neither str nor bytes."""
    if isinstance(body, str):
        return str.encode(body, "utf-8", "surrogateescape")
    if body is None:
        return b""
    if isinstance(body, bytes):
        return bytes(body)  # compiled code accepts no subclass of bytes
    hint = "; for data, write json.dumps(...)" if isinstance(body, dict | list) else ""
    raise TypeError(f"body must be a str or bytes, got {type(body).__name__}{hint}")


def given_number(what: str, value: object) -> int:
    """Return an int that a plugin set, or 0 for None. Raises: TypeError: it is not an int."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, got {type(value).__name__}")
    return value


class GivenDict:
    """
    The headers or arguments that a plugin of release 0.2 got as a dict. From then on, the dict is what counts.

    Args:
        entries: the headers or arguments of the request.
        is_headers: whether lookups in the dict ignore case.
        plugin: the plugin's name, for warnings.
    Attributes:
        shown: the dict that the plugin has.
    """

    __slots__ = ("_deletes", "_entries", "_is_headers", "_pairs", "_plugin", "shown")

    def __init__(self, entries: MutableMultidictView, is_headers: bool, plugin: str) -> None:
        self._entries = entries
        self._is_headers = is_headers
        self._plugin = plugin
        self._deletes = True
        self._pairs = entries.pairs()
        self.shown: dict[str, Any] = header_dict(self._pairs) if is_headers else dict(self._pairs)

    def set(self, name: str, value: str) -> None:
        """Set a name."""
        self.shown[name] = value

    def replace(self, values: Mapping[str, Any]) -> None:
        """
        Show these values from now on, and set them. Other names are no longer shown, but stay in the request, as in release 0.2.

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
        """Apply the changes of the dict as edits, deletions included. Raises: TypeError, ValueError: an entry can't be sent."""
        read_back(self._entries, self.shown, self._pairs, self._plugin, self._deletes)


def refuse_awaitable(result: object) -> None:
    """
    Refuse the result of a `filter` that a decorator made async. Such a `filter` has not run, so the request must not continue.

    Raises: TypeError: the result would have to be awaited.
    """
    if hasattr(result, "__await__"):
        raise TypeError("filter() is async, which Base and PluginBase do not support: derive from apisix.Plugin")
