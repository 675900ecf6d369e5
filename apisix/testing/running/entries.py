# SPDX-License-Identifier: Apache-2.0
"""The entries of `plugins=[...]`: names as in a route, or plugin classes."""

import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from apisix.runner.errors import ChainRefused
from apisix.runner.legacy.base import Base
from apisix.runner.legacy.plugin_base import PluginBase
from apisix.runner.plugin.loading.check import check_class
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin import Plugin
from apisix.runner.plugin.plugin_type import PluginType, Problem, Source

AnyPlugin = type[Plugin[Any]] | type[Base] | type[PluginBase]
PluginEntry = str | AnyPlugin | tuple[str | AnyPlugin, object]

_FORMS = '"key-auth", ("key-auth", {"keys": ["alpha"]}), KeyAuth.configured(keys=["alpha"]), KeyAuth, (KeyAuth, {...})'


class OfferingRegistry(Registry):
    """
    The loaded plugins, and the classes that a test offers. An offered class replaces a loaded plugin of the same name.

    Attributes:
        offered: the classes of the call that is being started, by name. A chain is built when a call starts.
    """

    def __init__(self, loaded: Registry) -> None:
        super().__init__()
        self.types = loaded.types
        self.problems = loaded.problems
        self.offered: Mapping[str, PluginType] = {}
        self._loaded = loaded

    def get(self, name: str) -> PluginType | Problem | None:
        """Return the offered class of a name or, if there is none, the loaded plugin."""
        return self.offered.get(name) or self._loaded.get(name)


class Offers:
    """The classes that a test has offered so far. Each is checked once, as if it were loaded."""

    def __init__(self) -> None:
        self._types: dict[type, PluginType] = {}

    def conf_of(self, entries: Iterable[PluginEntry]) -> tuple[tuple[tuple[str, str], ...], dict[str, PluginType]]:
        """
        Return the `conf` of a route for the entries of `plugins=[...]`.

        Returns: the names and values, and the offered classes by name.
        Raises:
            TypeError: an entry is not a plugin.
            ChainRefused: a class is not a correct plugin.
            ValueError: two classes have the same name.
        """
        if isinstance(entries, str | type):
            shown = repr(entries) if isinstance(entries, str) else entries.__name__
            raise TypeError(f"plugins must be a list, not {shown}; write plugins=[{shown}]")
        conf: list[tuple[str, str]] = []
        offered: dict[str, PluginType] = {}
        for entry in entries:
            plugin, value = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
            if isinstance(plugin, type) and issubclass(plugin, Plugin | Base | PluginBase):
                plugin_type = self._type_of(plugin)
                name = plugin_type.name
                if offered.setdefault(name, plugin_type) is not plugin_type:
                    raise ValueError(f"two classes in plugins have the name {name}; set the attribute `name` of one of them")
            elif isinstance(plugin, str):
                name = plugin
            else:
                raise TypeError(f"{entry!r} in plugins is not a plugin; an entry is one of {_FORMS}")
            conf.append((name, _value_of(value)))
        return tuple(conf), offered

    def _type_of(self, cls: type) -> PluginType:
        plugin_type = self._types.get(cls)
        if plugin_type is None:
            file = getattr(sys.modules.get(cls.__module__), "__file__", None) or "?"
            checked = check_class(cls, Source("module", file, 1, cls.__module__), None)
            if not isinstance(checked, PluginType):
                raise ChainRefused("\n".join(map(str, _with_lines(cls, checked))))
            plugin_type = self._types[cls] = checked
        return plugin_type


def _value_of(value: object) -> str:
    """Return the `value` of a plugin in a route: a str is not changed, and anything else is encoded as JSON."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode({} if value is None else value, enc_hook=_encode_model).decode()


def _encode_model(value: object) -> object:
    """Return the JSON of a pydantic model in a configuration. Raise TypeError if the value is something else."""
    if hasattr(value, "model_dump_json"):
        return msgspec.Raw(value.model_dump_json().encode())
    raise TypeError(f"a configuration contains a value of the type {type(value).__name__}, which can't be encoded as JSON")


def _with_lines(cls: type, problems: Iterable[Problem]) -> Iterable[Problem]:
    """Add the line of the class to problems that have none. Only a refused class needs it, because Python parses the whole file for it."""
    try:
        line = inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        line = 1
    return (replace(problem, line=line) if problem.line == 1 else problem for problem in problems)
