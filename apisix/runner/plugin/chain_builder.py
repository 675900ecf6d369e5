# SPDX-License-Identifier: Apache-2.0
"""Make the chain of a route configuration: find its plugins, read their configurations, make their instances."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final

from apisix.runner.errors import ChainRefused
from apisix.runner.http.phase import Phase
from apisix.runner.legacy.hooks import base_hook, core_hook
from apisix.runner.plugin.chain import COROUTINE, INLINE, SUSPENDABLE, Chain, ChainStep
from apisix.runner.plugin.check import is_coroutine_function
from apisix.runner.plugin.inline_hooks import CORE_ATTRIBUTES, asks_nothing
from apisix.runner.plugin.plugin import defines
from apisix.runner.plugin.plugin_type import PluginType, Problem
from apisix.runner.plugin.registry import Registry
from apisix.runner.plugin.route_configuration import RouteConfiguration
from apisix.runner.plugin.setup import Setup
from apisix.runner.plugin.validation_errors import without_values

SETUP_TIMEOUT_S: Final = 50.0
"""How long a plugin's `setup` may take by default, in seconds."""


def build_chain(registry: Registry, configuration: RouteConfiguration, *, response: bool) -> Chain:
    """
    Make and configure the plugins that a route names, one instance for each entry.

    Never raises for a mistake in a route or a plugin: the chain's `refusal` then contains all the reasons.

    Args:
        response: True if the chain is for the response phase.
    """
    builder = ChainBuilder(registry, configuration, response=response)
    for number in range(len(builder.names)):
        builder.make(number)
    return builder.chain()


class ChainBuilder:
    """
    Make the plugins of one configuration, one after the other.

    The registry is only read in `__init__`. `make` runs the code of authors, which may take long, and may be called in any thread.

    Args:
        configuration: the names and values of the plugins, and the key that names the phase.
        response: True if the chain is for the response phase.
        on_error: "refuse", "pass" or "degrade", for plugins that do not set it themselves.
        setup_timeout_s: how long a plugin's `setup` may take, in seconds.
    Attributes:
        names: the names of the plugins in the route.
    """

    def __init__(
        self,
        registry: Registry,
        configuration: RouteConfiguration,
        *,
        response: bool,
        on_error: str = "refuse",
        setup_timeout_s: float = SETUP_TIMEOUT_S,
    ) -> None:
        self.names = [name for name, _ in configuration.entries]
        self._key = configuration.key
        self._phase = Phase.POST_RESP if response else configuration.phase
        self._response = response
        self._on_error = on_error
        self._setup_timeout_s = setup_timeout_s
        self._entries = configuration.entries
        self._configs = dict(configuration.entries)
        self._found = [_find(registry, name) for name in self.names]
        self._generations = [found.generation for found in self._found if isinstance(found, PluginType)]
        self._steps: list[ChainStep] = []
        self._reasons: list[str] = []

    def make(self, number: int) -> None:
        """Make the plugin with the given number, counted from 0. All have to be made, in their order."""
        name, value = self._entries[number]
        try:
            self._steps.append(self._make_step(self._found[number], value))
        except ChainRefused as refused:
            self._reasons.append(f"plugin {number + 1} of {len(self._entries)}, {name}: {refused}")

    def chain(self) -> Chain:
        """Return the chain of all plugins, or a refused one with the reasons."""
        if self._reasons:
            return Chain(self._key, (), self._phase, "\n".join(self._reasons))
        return Chain(self._key, tuple(self._steps), self._phase)

    def _make_step(self, found: PluginType | ChainRefused, value: str) -> ChainStep:
        """Configure one plugin. Raises: ChainRefused: it cannot be configured; the text says why."""
        if isinstance(found, ChainRefused):
            raise found
        hook_name = ("on_response" if self._response else "on_request") if found.generation == "Plugin" else "filter"
        if hook_name not in found.hooks or (self._response and found.generation != "Plugin"):
            raise ChainRefused(_missing_hook(found, self._phase, self._response))
        try:
            config = found.reader.read(value)
            if found.generation == "Plugin":
                return self._plugin_step(found, config, hook_name)
            # Plugins of one legacy API share the request's and the response's attributes.
            return self._legacy_step(found, config, shares=self._generations.count(found.generation) > 1)
        except (ChainRefused, KeyboardInterrupt):
            raise
        except BaseException as error:  # an author's validator, __init__ or config() may raise anything, SystemExit too
            raise _refusal(found, value, error) from None

    def _plugin_step(self, found: PluginType, config: Any, hook_name: str) -> ChainStep:
        """Make an instance and its hook. Exceptions of the author's code are not caught."""
        cls: Any = found.cls
        instance = cls.__new__(cls)
        instance.config = config
        cls.__init__(instance)
        hook = getattr(instance, hook_name)
        return ChainStep(
            found,
            instance,
            hook,
            COROUTINE if is_coroutine_function(hook) else INLINE if asks_nothing(hook) else SUSPENDABLE,
            needs=found.needs,
            on_error=found.on_error or self._on_error,
            setup=Setup(instance.setup, self._setup_timeout_s) if defines(cls, "setup") else None,
            close=instance.close if defines(cls, "close") else None,
        )

    def _legacy_step(self, found: PluginType, config: Any, *, shares: bool) -> ChainStep:
        """Same as `_plugin_step`, but for plugins of a legacy API."""
        cls: Any = found.cls
        if found.generation == "PluginBase":
            # As in release 0.2, a `config` that fails only fails the call that runs it: the next one may succeed.
            configure = _core_configurator(found, config)
            runs = INLINE if asks_nothing(cls.filter, 2, CORE_ATTRIBUTES) else SUSPENDABLE
            hook = core_hook(configure, self._configs, shares)
            return ChainStep(found, None, hook, runs, on_error=self._on_error, configure=configure)
        instance = cls()
        instance.config = config
        # The request that `filter` gets cannot suspend.
        return ChainStep(found, instance, base_hook(instance, shares), INLINE, on_error=self._on_error)


def _find(registry: Registry, name: str) -> PluginType | ChainRefused:
    """Return the plugin that a name means, or why there is none."""
    found = registry.get(name)
    if found is None:
        near = registry.suggest(name)
        return ChainRefused("there is no plugin of this name" + (f"; did you mean {near}?" if near else ""))
    if isinstance(found, Problem):
        return ChainRefused(f"it could not be loaded: {found}")
    return found


def _refusal(found: PluginType, value: str, error: BaseException) -> ChainRefused:
    """Say that a plugin can't be configured, and where it failed. The text does not repeat the route's value, which may hold secrets."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == found.source.file]
    line = frames[-1].lineno if frames else found.source.line
    text = f"{type(error).__name__}: {without_values(str(error), value)}".rstrip(": ")
    if found.generation == "Plugin" and isinstance(error, RuntimeError) and "event loop" in str(error):
        text += ". It is configured in a thread, without an event loop: make what needs one in `async def setup(self)`"
    return ChainRefused(f"it can't be configured: {text} ({found.source.file}:{line})")


def _missing_hook(found: PluginType, phase: Phase | None, response: bool) -> str:
    """Say which hook a plugin lacks for the phase, and where it may be named instead."""
    if found.generation != "Plugin":
        return f"it derives from {found.generation}, which has no response phase; name it under ext-plugin-pre-req or ext-plugin-post-req"
    if response:
        return (
            "it has no on_response, so it can't stand under ext-plugin-post-resp; name it under ext-plugin-pre-req or ext-plugin-post-req"
        )
    advice = "name it under ext-plugin-post-resp, which APISIX has since 2.14"
    return f"it has no on_request, so it can't stand under {phase or 'a request phase'}; {advice}"


def _core_configurator(found: PluginType, value: str) -> Callable[[], tuple[Any, Any]]:
    """Return a function that makes an instance of a `PluginBase` for one call, and what its `config` makes of the route's value."""
    cls: Any = found.cls

    def configure() -> tuple[Any, Any]:
        try:
            instance = cls()
            return instance, instance.config(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in `_make_step`
            raise _refusal(found, value, error) from None

    return configure
