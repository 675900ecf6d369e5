# SPDX-License-Identifier: Apache-2.0
"""From a route's configuration to the chain of plugins that its calls run through."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from apisix.runner.errors import ChainRefused
from apisix.runner.http.phase import Phase
from apisix.runner.legacy.hooks import base_hook, core_hook
from apisix.runner.plugin.check import is_coroutine_function
from apisix.runner.plugin.inline_hooks import CORE_ATTRIBUTES, asks_nothing
from apisix.runner.plugin.plugin import OnError, defines
from apisix.runner.plugin.plugin_type import PluginType, Problem
from apisix.runner.plugin.registry import Registry
from apisix.runner.plugin.validation_errors import without_values

_PHASES: Final = {phase.value: phase for phase in Phase}


@dataclass(slots=True)
class Link:
    """
    One plugin in a chain, configured: what a call runs at this place.

    `hook` takes the request or the response and returns None, a Reply, or an awaitable of these where `is_coroutine`.
    The older generations are wrapped so that their hooks keep the same contract. `asks_nothing`: provably.

    Of a `PluginBase`, each call makes its own instance, so `instance` is None. `configure` makes one too, and raises ChainRefused if
    that fails: for checks, which make no call.
    """

    name: str
    hook: Callable[[Any], object]
    is_coroutine: bool
    needs: tuple[str, ...]
    on_error: OnError | None
    plugin_type: PluginType
    instance: object
    setup: Callable[[], Coroutine[object, object, None]] | None = None
    close: Callable[[], Coroutine[object, object, None]] | None = None
    asks_nothing: bool = False
    configure: Callable[[], object] | None = None


@dataclass(slots=True)
class Chain:
    """
    The plugins of one configuration, in the order that the gateway gave.

    `refusal` is the reason in full why calls of this configuration can't run, None where they can. A refused chain has
    no links.
    """

    links: tuple[Link, ...] = ()
    phase: Phase | None = None
    key: str | None = None
    refusal: str | None = None


def build_chain(registry: Registry, conf: Sequence[tuple[str, str]], key: str | None, *, response: bool) -> Chain:
    """
    Make and configure the plugins that a route names, one instance for each entry.

    Never raises for what a route or a plugin does wrong: the chain's `refusal` then holds all the reasons.

    Args:
        conf: names and values, in the gateway's order.
        key: the configuration's key, which tells the phase; None from old gateways.
        response: whether the chain is for the response phase.
    """
    builder = ChainBuilder(registry, conf, key, response=response)
    for number in range(len(conf)):
        builder.make(number)
    return builder.chain()


class ChainBuilder:
    """
    Make the plugins of one configuration, one after the other. For the arguments, see `build_chain`.

    The registry is only read in `__init__`. `make` runs the code of authors, which may take long, and may be called in any thread.

    Attributes:
        names: what the plugins are called in the route.
    """

    def __init__(self, registry: Registry, conf: Sequence[tuple[str, str]], key: str | None, *, response: bool) -> None:
        self.names = [name for name, _ in conf]
        self._key = key
        self._phase = Phase.POST_RESP if response else phase_of(key)
        self._response = response
        self._conf = conf
        self._configs = dict(conf)
        self._found = [_find(registry, name) for name in self.names]
        self._generations = [found.generation for found in self._found if isinstance(found, PluginType)]
        self._links: list[Link] = []
        self._reasons: list[str] = []

    def make(self, number: int) -> None:
        """Make the plugin with the given number, counted from 0. Each has to be made, in their order."""
        name, value = self._conf[number]
        try:
            self._links.append(_build_link(self._found[number], value, self._configs, self._generations, self._phase, self._response))
        except ChainRefused as refused:
            self._reasons.append(f"plugin {number + 1} of {len(self._conf)}, {name}: {refused}")

    def chain(self) -> Chain:
        """Return the chain of all plugins, or the reasons why there is none."""
        if self._reasons:
            return Chain((), self._phase, self._key, "\n".join(self._reasons))
        return Chain(tuple(self._links), self._phase, self._key)


def phase_of(key: str | None) -> Phase | None:
    """
    Return the phase that a configuration's key names; None if it names none.

    What stands before and after the name has any number of parts: ids come before it, versions after it. An id may look like a phase, a
    version can't, so the last name counts. Source: gateway contract, 3.

    >>> phase_of("route&service#a&b#ext-plugin-post-req#1&2").value
    'ext-plugin-post-req'
    """
    for part in reversed((key or "").split("#")):
        if part in _PHASES:
            return _PHASES[part]
    return None


def _find(registry: Registry, name: str) -> PluginType | ChainRefused:
    """Return the plugin that a name means, or why there is none."""
    found = registry.get(name)
    if found is None:
        near = registry.suggest(name)
        return ChainRefused("there is no plugin of this name" + (f"; did you mean {near}?" if near else ""))
    if isinstance(found, Problem):
        return ChainRefused(f"it could not be loaded: {found}")
    return found


def _build_link(
    found: PluginType | ChainRefused,
    value: str,
    configs: Mapping[str, str],
    generations: Sequence[str],
    phase: Phase | None,
    response: bool,
) -> Link:
    """
    Configure one plugin.

    Args:
        configs: all plugins of the route, of which PluginBase shows the names and values.
        generations: the APIs of all plugins of the route. Those of one earlier API share what they are given.
    Raises: ChainRefused: it can't be; the text says why.
    """
    if isinstance(found, ChainRefused):
        raise found
    hook_name = ("on_response" if response else "on_request") if found.generation == "Plugin" else "filter"
    if hook_name not in found.hooks or (response and found.generation != "Plugin"):
        raise ChainRefused(_missing_hook(found, phase, response))
    try:
        return _link(found, found.reader.read(value), hook_name, configs, generations.count(found.generation) > 1)
    except (ChainRefused, KeyboardInterrupt):
        raise
    except BaseException as error:  # an author's validator, __init__ or config() may raise anything, SystemExit too
        raise _refusal(found, value, error) from None


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


def _link(found: PluginType, config: Any, hook_name: str, configs: Mapping[str, str], shares: bool) -> Link:
    """Make an instance and its hook. Whatever the author's code raises comes through."""
    cls: Any = found.cls
    if found.generation == "PluginBase":
        # As in release 0.2, a `config` that fails only costs the call that runs it: the next one may succeed.
        configure = _core_configurator(found, config)
        asking_nothing = asks_nothing(cls.filter, 2, CORE_ATTRIBUTES)
        hook = core_hook(configure, configs, shares)
        return Link(found.name, hook, False, (), None, found, None, asks_nothing=asking_nothing, configure=configure)
    if found.generation == "Base":
        instance = cls()
        instance.config = config
        # The request that `filter` gets can't ask.
        return Link(found.name, base_hook(instance, shares), False, (), None, found, instance, asks_nothing=True)
    instance = cls.__new__(cls)
    instance.config = config
    cls.__init__(instance)
    hook = getattr(instance, hook_name)
    setup = instance.setup if defines(cls, "setup") else None
    close = instance.close if defines(cls, "close") else None
    is_coroutine = is_coroutine_function(hook)
    return Link(found.name, hook, is_coroutine, found.needs, found.on_error, found, instance, setup, close, asks_nothing(hook))


def _core_configurator(found: PluginType, value: str) -> Callable[[], tuple[Any, Any]]:
    """Return a function that makes an instance of a `PluginBase` for one call, and what its `config` makes of the route's value."""
    cls: Any = found.cls

    def configure() -> tuple[Any, Any]:
        try:
            instance = cls()
            return instance, instance.config(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in `_build_link`
            raise _refusal(found, value, error) from None

    return configure
