# SPDX-License-Identifier: Apache-2.0
"""Turn what a plugin of a legacy API sets into edits of the request: check the values, and find the changes of dicts."""

import logging
from collections.abc import Mapping
from typing import Any

from apisix.runner import primitives
from apisix.runner.errors import UnsupportedEdit
from apisix.runner.http.mutable_multidict_view import MutableMultidictView
from apisix.runner.legacy.header_dict import HeaderDict, header_dict

edits_logger = logging.getLogger("apisix.runner.legacy.edits")

_NOTHING = (None,)
_reported: set[tuple[str, str]] = set()


def warn_once(plugin: str, what: str, reported_as: str = "") -> None:
    """
    Warn that something a plugin does has no effect. Each message is logged once for each plugin.

    Args:
        plugin: the name of the plugin, or "" if the test kit created the request.
        what: the message, a sentence without its subject, which is the plugin.
        reported_as: identifies the message, so that it is not logged twice. The default is the message.
    """
    key = (plugin, reported_as or what)
    if key not in _reported:
        _reported.add(key)
        edits_logger.warning("plugin %s %s", plugin or "(without a name)", what)


def read_back(
    entries: MutableMultidictView, given: Mapping[str, Any], shown: list[tuple[str, str]], plugin: str, deletes: bool = False
) -> None:
    """
    Apply the changes that a plugin made to a dict as edits. An entry that differs is set. A value of None deletes the name.

    Args:
        entries: the headers or arguments of the request.
        given: the dict, after `filter`.
        shown: the entries from which the dict was made. If a name repeats, the dict has its last value, as in both legacy APIs.
        plugin: the plugin's name, for warnings.
        deletes: True if a name that is missing in the dict is deleted. Otherwise it is not changed.
    Raises: TypeError, ValueError: an entry can't be sent.
    """
    # Most dicts have few changes. They are found without looking up any name.
    changed = primitives.dict_changes(given, shown) if isinstance(given, dict) else None
    # If a HeaderDict contains the same names as before, they also have the same spelling.
    has_same_spellings = changed is not None and type(given) is HeaderDict
    if changed is None:
        before = dict(shown)
        for name in before if deletes else ():
            if name not in given:
                entries.popall(name, None)
    if changed is None or (changed and not has_same_spellings):
        changed = list(given.items())  # in their order, because the last value is used if a name has two spellings
    for name, value in changed:
        if value is None:
            entries.popall(name, None)
        elif has_same_spellings or entries.getall(name, _NOTHING)[-1] != value:
            set_value(entries, name, value, plugin)


def set_value(entries: MutableMultidictView, name: str, value: str, plugin: str) -> None:
    """
    Set a name. An edit that the runner does not support is ignored, with a warning.

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

    Args: given: the dict that the plugin got, or None if it got none.
    Returns: True if the name was set.
    Raises: TypeError, ValueError: name or value can't be sent.
    """
    text = given_text("a name", name) and given_value("", name, value)
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


def given_value(kind: str, name: object, value: object) -> str:
    """Same as `given_text`, but for the value of a name. Args: kind: what has the name, such as "header "."""
    # Most values are plain strings, for which no error message is needed.
    return value if type(value) is str else given_text(f"the value of {kind}{name!r}", value)


def given_mapping(what: str, value: object) -> Mapping[str, Any]:
    """
    Return a dict that a plugin set, or {} for None.

    Raises: TypeError: the value is not a mapping.
    """
    if type(value) is dict:
        return value
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a dict, got {type(value).__name__}")
    return value


def given_body(body: object) -> bytes:
    """Return a body that a plugin set, or b"" for None. Raises: TypeError: the body is neither str nor bytes."""
    if isinstance(body, str):
        return str.encode(body, "utf-8", "surrogateescape")
    if body is None:
        return b""
    if isinstance(body, bytes):
        return bytes(body)  # compiled code accepts no subclass of bytes
    hint = "; for data, write json.dumps(...)" if isinstance(body, dict | list) else ""
    raise TypeError(f"body must be a str or bytes, got {type(body).__name__}{hint}")


def check_body(body: object) -> None:
    """Raise TypeError if a body that a plugin set is neither None, str nor bytes, and ValueError if it can't be sent."""
    if type(body) is not str or not body.isascii():
        given_body(body)


def given_number(what: str, value: object) -> int:
    """Return an int that a plugin set, or 0 for None. Raises: TypeError: the value is not an int."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, got {type(value).__name__}")
    return value


class GivenDict:
    """
    The headers or arguments that a plugin of release 0.2 got as a dict. After `filter`, the changes of the dict become edits.

    Args:
        entries: the headers or arguments of the request.
        is_headers: True if lookups in the dict ignore case.
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
        """Set a name in the dict."""
        self.shown[name] = value

    def replace(self, values: Mapping[str, Any]) -> None:
        """
        Replace the dict that the plugin gets by one with these values, which are set in the request too.

        Other names are not in the dict any more, but remain in the request, as in release 0.2.

        Raises: TypeError: a name or a value is not text.
        """
        pairs = [
            (name, None if value is None else given_value("", name, value)) for name, value in values.items() if given_text("a name", name)
        ]
        self._deletes = self._deletes and values is self.shown
        if values is not self.shown:
            self.shown = HeaderDict(pairs) if self._is_headers else dict(pairs)

    def read_back(self) -> None:
        """Apply the changes of the dict as edits, deletions included. Raises: TypeError, ValueError: an entry can't be sent."""
        read_back(self._entries, self.shown, self._pairs, self._plugin, self._deletes)


def refuse_awaitable(result: object) -> None:
    """
    Raise TypeError if `filter` returned an awaitable, because a decorator made it async. Its code has not run, so the call must fail.
    """
    if hasattr(result, "__await__"):
        raise TypeError("filter() is async, which Base and PluginBase do not support: derive from apisix.Plugin")
