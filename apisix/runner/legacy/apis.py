# SPDX-License-Identifier: Apache-2.0
"""How plugins of the legacy APIs are checked when they are loaded, and configured for a route."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from apisix.runner.legacy.base import Base
from apisix.runner.legacy.base_adapter import base_hook
from apisix.runner.legacy.plugin_base import PluginBase
from apisix.runner.legacy.plugin_base_adapter import plugin_base_hook
from apisix.runner.plugin.apis import ConfiguredHook, Hooks, PluginApi
from apisix.runner.plugin.configuration.readers import ObjectReader, TextReader, configuration_refused
from apisix.runner.plugin.loading.check import ClassCheck, first_line, is_coroutine_function
from apisix.runner.plugin.loading.inline_hooks import may_suspend
from apisix.runner.plugin.naming import snake_case
from apisix.runner.plugin.plugin_type import PluginType, Problem, Source

BASE_HOOKS: Final[Hooks] = {"filter": ("self", "request", "response")}
PLUGIN_BASE_HOOKS: Final[Hooks] = {"name": ("self",), "config": ("self", "conf"), "filter": ("self", "conf", "request", "response")}

PLUGIN_BASE_ATTRIBUTES: Final = frozenset(
    f"{verb}_{name}"
    for verb in ("get", "set")
    for name in ("arg", "args", "config", "configs", "header", "headers", "id", "method", "remote_addr", "uri")
)
"""Methods of a `PluginBase` request that never wait for the gateway."""

_RUNS_A_LOOP: Final = re.compile(r"\basyncio\.run\(|\basyncio\.Runner\(|\brun_until_complete\(|\bfrom asyncio import .*\b(run|Runner)\b")


def _check_base(cls: type[Base], source: Source, stem: str | None) -> PluginType | list[Problem]:
    """Check a class that derives from `Base`."""
    check = ClassCheck(cls, source)
    _check_legacy(check, "Base", BASE_HOOKS)
    name = stem or snake_case(cls.__name__)
    if check.problems:
        return check.named(name)
    aliases = tuple(dict.fromkeys((cls.__name__, snake_case(cls.__name__))))
    blocking = _blocking(cls, source)
    return PluginType(name, cls, BASE, source, ("filter",), first_line(cls), ObjectReader(), aliases, blocking=blocking)


def _check_plugin_base(cls: type[PluginBase], source: Source, stem: str | None) -> PluginType | list[Problem]:
    """Check a class that derives from `PluginBase`. Its name is what its method `name` returns."""
    check = ClassCheck(cls, source)
    _check_legacy(check, "PluginBase", PLUGIN_BASE_HOOKS)
    name = _name_of(check)
    if check.problems or name is None:
        return check.named(name)
    blocking = _blocking(cls, source)
    return PluginType(name, cls, PLUGIN_BASE, source, ("filter",), first_line(cls), TextReader(), blocking=blocking)


def _check_legacy(check: ClassCheck, base: str, hooks: Hooks) -> None:
    """Run the checks that both APIs share."""
    cls = check.cls
    for hook, arguments in hooks.items():
        function = getattr(cls, hook, None)
        if not callable(function) or function in (PluginBase.name, PluginBase.filter):
            check.add(f"{cls.__name__} has no {hook}({', '.join(arguments)})", _advice_for_missing(cls, hook, arguments))
    check.check_init()
    check.check_hooks(hooks)
    check.check_blocking()
    for hook in hooks:
        function = getattr(cls, hook, None)
        if callable(function) and is_coroutine_function(function):
            check.add(f"{cls.__name__}.{hook} is async, which {base} does not support", "Derive from apisix.Plugin", function)


def _advice_for_missing(cls: type, hook: str, arguments: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(hook, [name for name in vars(cls) if not name.startswith("__")], n=1, cutoff=0.6)
    call = f"{hook}({', '.join(arguments)})"
    return f"Rename {close[0]} to {call}" if close else f"Define {call}"


def _name_of(check: ClassCheck) -> str | None:
    """Return the result of `name()`, even if the class has other problems, so that they can be reported for routes that use this name."""
    cls = check.cls
    code = getattr(cls.name, "__code__", None)
    is_faulty = code is not None and any((each.file, each.line) == (code.co_filename, code.co_firstlineno) for each in check.problems)
    if is_faulty or cls.name is PluginBase.name:
        return None
    try:
        name = cls().name()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an author's code may raise anything, including SystemExit
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        check.add(f"{cls.__name__}().name() raises {text}", "Make it return the name as a str", cls.name)
        return None
    return name if check.check_name(name, cls.name) else None


def _blocking(cls: type[Any], source: Source) -> bool | None:
    """
    Return the attribute `blocking` of a class. If it has none, return True if its file runs an event loop.

    An event loop can be run only in a thread in which no loop is running. In the legacy releases, each call had such a thread.
    """
    blocking: bool | None = getattr(cls, "blocking", None)
    if blocking is None:
        try:
            text = Path(source.file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
        return True if _RUNS_A_LOOP.search(text) else None
    return blocking


def _configure_base(found: PluginType, config: Any, configs: Mapping[str, str], shares: bool) -> ConfiguredHook:
    """Create the instance of a `Base`. All calls of the route configuration run on it."""
    cls: Any = found.cls
    instance = cls()
    instance.config = config
    return ConfiguredHook(base_hook(instance, found.name, shares), instance, None)


def _configure_plugin_base(found: PluginType, value: str, configs: Mapping[str, str], shares: bool) -> ConfiguredHook:
    """
    Return the hook of a `PluginBase`, which creates an instance for each call.

    As in release 0.2, if `config` fails, only the call that runs it is refused. The next call may succeed.
    """
    cls: Any = found.cls

    def configure() -> tuple[Any, Any]:
        try:
            instance = cls()
            return instance, instance.config(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an author's code may raise anything, including SystemExit
            raise configuration_refused(found, value, error) from None

    hook = plugin_base_hook(configure, configs, found.name, shares)
    return ConfiguredHook(hook, None, PLUGIN_BASE.may_suspend(cls, cls.filter), configure)


def _base_may_suspend(cls: type[Any], hook: Callable[..., object]) -> str | None:
    """Return None, because the objects that the `filter` of a `Base` gets never wait for the gateway."""
    return None


def _plugin_base_may_suspend(cls: type[Any], hook: Callable[..., object]) -> str | None:
    """Return why the `filter` of a `PluginBase` may suspend a call, or None if it runs inline."""
    return may_suspend(hook, 2, PLUGIN_BASE_ATTRIBUTES)


BASE: Final = PluginApi(
    Base, "apisix.runner.plugin.base", BASE_HOOKS, _check_base, _base_may_suspend, ignores_case=True, configure=_configure_base
)
PLUGIN_BASE: Final = PluginApi(
    PluginBase,
    "apisix.runner.plugin.core",
    PLUGIN_BASE_HOOKS,
    _check_plugin_base,
    _plugin_base_may_suspend,
    configure=_configure_plugin_base,
)
