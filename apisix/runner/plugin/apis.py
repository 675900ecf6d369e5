# SPDX-License-Identifier: Apache-2.0
"""
The plugin APIs: the base classes from which plugins derive.

`loading/check.py` registers `Plugin`. The package `apisix.runner.legacy` registers `Base` and `PluginBase` when it is imported, which is
the case as soon as one of these classes is imported. Nothing else in this package depends on the legacy APIs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apisix.runner.plugin.plugin_type import PluginType, Problem, Source

Hooks = Mapping[str, tuple[str, ...]]
"""The names of hooks, each with the names of its arguments, `self` included."""


@dataclass(slots=True)
class ConfiguredHook:
    """
    The hook of a plugin of a legacy API for one route configuration.

    Attributes:
        hook: called with the request. Returns a Reply or None.
        instance: the plugin, or None if each call creates its own.
        may_suspend: why the hook may suspend the call, or None if it runs inline.
        configure: creates an instance, and raises ChainRefused if that fails. None if calls share an instance. Used by checks, which do not
            make a call.
    """

    hook: Callable[[Any], object]
    instance: object
    may_suspend: str | None
    configure: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PluginApi:
    """
    A base class from which plugins derive, and how such plugins are checked and configured.

    Attributes:
        base: the base class.
        import_path: the module from which plugins import it.
        hooks: the methods that the runner calls.
        check: returns the plugin of a class, or all problems of the class. The last argument is the name of the class's file without
            suffix if routes can use it for this class, else None.
        may_suspend: returns why a hook of a plugin may suspend a call, or None if it runs inline. The arguments are the class and the
            hook, which is a function or a method.
        ignores_case: True if routes can write a plugin's name in upper or lower case.
        configure: for legacy APIs, returns the hook for a route's configuration. The arguments are the plugin, its configuration, the
            names and values of all plugins of the route, and whether several of them have this API. None for `Plugin`.
    """

    base: type
    import_path: str
    hooks: Hooks
    check: Callable[[Any, Source, str | None], PluginType | list[Problem]]
    may_suspend: Callable[[Any, Callable[..., object]], str | None]
    ignores_case: bool = False
    configure: Callable[[PluginType, Any, Mapping[str, str], bool], ConfiguredHook] | None = None

    @property
    def name(self) -> str:
        """The name of the base class."""
        return self.base.__name__

    @property
    def is_legacy(self) -> bool:
        """True for the APIs of earlier releases, which have the hook `filter` in the request phases only."""
        return self.configure is not None


APIS: dict[type, PluginApi] = {}
"""The registered APIs, by their base class."""


def register(api: PluginApi) -> None:
    """Add a plugin API. Plugins that derive from its base class can be loaded from then on."""
    APIS[api.base] = api


def api_of(cls: type) -> PluginApi | None:
    """Return the API from which a class derives, or None if it derives from none."""
    return next((api for base, api in APIS.items() if issubclass(cls, base)), None)
