# SPDX-License-Identifier: Apache-2.0
"""Build the chain of a route configuration: find its plugins, read their configurations, create their instances."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from apisix.runner.errors import ChainRefused
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain.background import LEASE_S, Background, BackgroundTasks, lease_key
from apisix.runner.plugin.chain.chain import COROUTINE, INLINE, PROCESS, SUSPENDABLE, Chain, ChainStep
from apisix.runner.plugin.chain.plain_hook import plain_hook
from apisix.runner.plugin.chain.setup import Setup
from apisix.runner.plugin.configuration.readers import configuration_refused
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.check import is_coroutine_function
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin import defines
from apisix.runner.plugin.plugin_type import PluginType, Problem
from apisix.runner.state.store import Store

HookInProcess = Callable[[PluginType, str, str], Callable[..., object]]
"""Returns a hook that runs in a process of the pool. The arguments are the plugin, its value in the route, and the name of the hook."""

SETUP_TIMEOUT_S: Final = 50.0
"""How long a plugin's `setup` may take by default, in seconds."""


def build_chain(registry: Registry, configuration: RouteConfiguration, *, response: bool) -> Chain:
    """
    Create and configure the plugins that a route lists, one instance for each entry.

    A mistake in a route or a plugin does not raise an error. The chain's `problem` then contains all reasons.

    Args:
        response: True if the chain is for the response phase.
    """
    builder = ChainBuilder(registry, configuration, response=response)
    for number in range(len(builder.names)):
        builder.make(number)
    return builder.chain()


class ChainBuilder:
    """
    Creates the plugins of one configuration, one after the other.

    The registry is read only in `__init__`. `make` runs the code of authors, which may take long, and may be called in any thread.

    Args:
        configuration: the names and values of the plugins, and the key that names the phase.
        response: True if the chain is for the response phase.
        on_error: "refuse", "pass" or "degrade", for plugins that do not set it themselves.
        setup_timeout_s: how long a plugin's `setup` may take, in seconds.
        hook_in_process: makes the hooks of plugins with `runs_in = "process"`. None: they run in this process, with the same data.
        background: the background tasks of the worker. None: the `background` of plugins does not run.
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
        hook_in_process: HookInProcess | None = None,
        background: BackgroundTasks | None = None,
    ) -> None:
        self.names = [name for name, _ in configuration.entries]
        self._configuration = configuration
        self._phase = Phase.POST_RESP if response else configuration.phase
        self._response = response
        self._on_error = on_error
        self._setup_timeout_s = setup_timeout_s
        self._hook_in_process = hook_in_process
        self._background = background
        self._entries = configuration.entries
        self._configs = dict(configuration.entries)
        self._found = [_find(registry, name) for name in self.names]
        self._apis = [found.api for found in self._found if isinstance(found, PluginType)]
        self._steps: list[ChainStep] = []
        self._reasons: list[str] = []

    def make(self, number: int) -> None:
        """Create the plugin with the given number, counted from 0. It must be called for each plugin, in their order."""
        name, value = self._entries[number]
        try:
            self._steps.append(self._make_step(self._found[number], value))
        except ChainRefused as refused:
            self._reasons.append(f"plugin {number + 1} of {len(self._entries)}, {name}: {refused}")

    def chain(self) -> Chain:
        """Return the chain of all plugins, or a refused one with the reasons."""
        if self._reasons:
            return Chain(self._configuration, (), self._phase, "\n".join(self._reasons))
        return Chain(self._configuration, tuple(self._steps), self._phase)

    def _make_step(self, found: PluginType | ChainRefused, value: str) -> ChainStep:
        """Configure one plugin. Raises: ChainRefused: it can't be configured. The text contains the reason."""
        if isinstance(found, ChainRefused):
            raise found
        hook_name = "filter" if found.api.is_legacy else "on_response" if self._response else "on_request"
        if hook_name not in found.hooks or (self._response and found.api.is_legacy):
            raise ChainRefused(_missing_hook(found, self._phase, self._response))
        try:
            config = found.reader.read(value)
            if found.runs_in is not None and self._hook_in_process is not None:
                hook = self._hook_in_process(found, value, hook_name)
                return ChainStep(found, None, hook, PROCESS, needs=found.needs, on_error=found.on_error or self._on_error)
            return self._legacy_step(found, config) if found.api.is_legacy else self._plugin_step(found, config, value, hook_name)
        except (ChainRefused, KeyboardInterrupt):
            raise
        except BaseException as error:  # an author's validator, __init__ or config() may raise anything, SystemExit too
            raise configuration_refused(found, value, error) from None

    def _plugin_step(self, found: PluginType, config: Any, value: str, hook_name: str) -> ChainStep:
        """Create an instance and its step. Exceptions of the author's code are not caught."""
        cls: Any = found.cls
        instance = make_instance(cls, config)
        hook = getattr(instance, hook_name)
        setup = instance.setup if defines(cls, "setup") else None
        close = instance.close if defines(cls, "close") else None
        started = None
        if self._background is not None and defines(cls, "background"):
            lock = partial(Store(found.name).alock, lease_key(value), LEASE_S) if cls.once else None
            background = Background(self._background, found.name, self._configuration.key, instance.background, lock)
            started, close = background.start, partial(_stop_and_close, background, close)
        return ChainStep(
            found,
            instance,
            hook if found.runs_in is None else plain_hook(hook),
            COROUTINE if is_coroutine_function(hook) else INLINE if found.api.may_suspend(cls, hook) is None else SUSPENDABLE,
            needs=found.needs,
            on_error=found.on_error or self._on_error,
            setup=Setup(setup, self._setup_timeout_s, started) if setup or started else None,
            close=close,
        )

    def _legacy_step(self, found: PluginType, config: Any) -> ChainStep:
        """Same as `_plugin_step`, but for plugins of a legacy API. Several of one API share the attributes of the request."""
        assert found.api.configure is not None  # noqa: S101  for the type checker: the caller checks that it is a legacy API
        made = found.api.configure(found, config, self._configs, self._apis.count(found.api) > 1)
        runs = INLINE if made.may_suspend is None else SUSPENDABLE
        return ChainStep(found, made.instance, made.hook, runs, on_error=self._on_error, configure=made.configure)


async def _stop_and_close(background: Background, close: Callable[[], Coroutine[object, object, None]] | None) -> None:
    await background.stop()
    if close is not None:
        await close()


def make_instance(cls: Any, config: object) -> Any:
    """Create an instance of a plugin. Exceptions of the author's code are not caught."""
    instance = cls.__new__(cls)
    instance.config = config
    cls.__init__(instance)
    return instance


def _find(registry: Registry, name: str) -> PluginType | ChainRefused:
    """Return the plugin of a name, or the reason why there is none."""
    found = registry.get(name)
    if found is None:
        near = registry.suggest(name)
        return ChainRefused("there is no plugin of this name" + (f"; did you mean {near}?" if near else ""))
    if isinstance(found, Problem):
        return ChainRefused(f"it could not be loaded: {found}")
    return found


def _missing_hook(found: PluginType, phase: Phase | None, response: bool) -> str:
    """Return which hook the plugin needs for the phase, and where it can be used instead."""
    if found.api.is_legacy:
        return f"it derives from {found.api.name}, which has no response phase; name it under ext-plugin-pre-req or ext-plugin-post-req"
    if response:
        return (
            "it has no on_response, so it can't be used under ext-plugin-post-resp; name it under ext-plugin-pre-req or ext-plugin-post-req"
        )
    advice = "name it under ext-plugin-post-resp, which APISIX has since 2.14"
    return f"it has no on_request, so it can't be used under {phase or 'a request phase'}; {advice}"
