# SPDX-License-Identifier: Apache-2.0
"""Decide which calls are recorded."""

import random
from functools import lru_cache

from apisix.runner.call.observing.trace import CallTrace
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration, phase_of
from apisix.runner.settings.table import Settings
from apisix.runner.wire.messages import ErrResp

CACHED: int = 4096
"""For how many configurations it is remembered whether their calls are recorded."""


class Selection:
    """The calls that the settings select."""

    def __init__(self, settings: Settings) -> None:
        self._sample = settings.record_sample
        self._routes = frozenset(settings.record_routes)
        self._plugins = frozenset(settings.record_plugins)
        self._only_failures = settings.record_only_failures
        self._selects_all = not (self._routes or self._plugins)
        self._selects = lru_cache(CACHED)(self._selects_configuration)

    def may_want(self, chain: Chain) -> bool:
        """Return True if a call of this chain is in the sample, and its route and plugins are selected."""
        if self._sample < 1.0 and random.random() >= self._sample:  # noqa: S311  # no secret
            return False
        return self._selects_all or self._selects(chain.configuration)

    def wants(self, trace: CallTrace) -> bool:
        """Return True if a call that has ended is to be recorded."""
        return not self._only_failures or failed(trace)

    def _selects_configuration(self, configuration: RouteConfiguration) -> bool:
        if self._routes and self._routes.isdisjoint(names_of_route(configuration.key)):
            return False
        return not self._plugins or not self._plugins.isdisjoint(name for name, _ in configuration.entries)


def failed(trace: CallTrace) -> bool:
    """Return True if a call was refused, or a plugin failed in it."""
    if trace.error is not None or isinstance(trace.reply, ErrResp):
        return True
    return any(step.error is not None for step in trace.steps)


def names_of_route(key: str | None) -> set[str]:
    """
    Return the names by which a setting can refer to a route: its key, and the ids in it.

    >>> sorted(names_of_route("route&service#a&b#ext-plugin-post-req#1&2"))
    ['a', 'a&b', 'b', 'route&service#a&b#ext-plugin-post-req#1&2']
    """
    if key is None:
        return set()
    phase = phase_of(key)
    before = key if phase is None else key.rpartition(f"#{phase.value}")[0]
    ids = before.partition("#")[2]
    return {key, ids, *ids.split("&")} - {""}
