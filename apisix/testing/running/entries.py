# SPDX-License-Identifier: Apache-2.0
"""What stands in `plugins=[...]`: names as in a route, or classes that no directory of plugins holds."""

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
    What is loaded, and before it the classes that a test offers itself.

    Attributes:
        offered: the classes of the call that begins, by name. Chains are built when a call begins, so there is no other.
    """

    def __init__(self, loaded: Registry) -> None:
        super().__init__()
        self.types = loaded.types
        self.problems = loaded.problems
        self.offered: Mapping[str, PluginType] = {}
        self._loaded = loaded

    def get(self, name: str) -> PluginType | Problem | None:
        """Return what the test offers by a name, else what is loaded."""
        return self.offered.get(name) or self._loaded.get(name)


class Offers:
    """The classes that a test has offered so far, each checked once, as loading does it."""

    def __init__(self) -> None:
        self._types: dict[type, PluginType] = {}

    def conf_of(self, entries: Iterable[PluginEntry]) -> tuple[tuple[tuple[str, str], ...], dict[str, PluginType]]:
        """
        Write the `conf` of a route. Returns: names and values, and the offered classes by name.

        Raises: TypeError: something is no plugin. ChainRefused: a class is not what a plugin must be. ValueError: two have one name.
        """
        if isinstance(entries, str | type):
            raise TypeError(f"plugins is a list, got {entries!r}; write plugins=[{_FORMS.partition(', (')[0]}]")
        conf: list[tuple[str, str]] = []
        offered: dict[str, PluginType] = {}
        for entry in entries:
            plugin, value = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
            if isinstance(plugin, type) and issubclass(plugin, Plugin | Base | PluginBase):
                plugin_type = self._type_of(plugin)
                name = plugin_type.name
                if offered.setdefault(name, plugin_type) is not plugin_type:
                    raise ValueError(f"two classes of one chain have the name {name}; give one of them another `name`")
            elif isinstance(plugin, str):
                name = plugin
            else:
                raise TypeError(f"{entry!r} is no plugin; an entry of plugins is one of {_FORMS}")
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
    """Return a route's `value`: a str as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return msgspec.json.encode({} if value is None else value, enc_hook=_encode_model).decode()


def _encode_model(value: object) -> object:
    """Let pydantic models stand in a configuration: they bring their own JSON."""
    if hasattr(value, "model_dump_json"):
        return msgspec.Raw(value.model_dump_json().encode())
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def _with_lines(cls: type, problems: Iterable[Problem]) -> Iterable[Problem]:
    """Put the line of the class where none is known. Only now, because Python parses the whole file to find it."""
    try:
        line = inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        line = 1
    return (replace(problem, line=line) if problem.line == 1 else problem for problem in problems)
