# SPDX-License-Identifier: Apache-2.0
"""Decide which calls are recorded."""

import math
import random
from functools import lru_cache

from apisix.runner.call.observing.trace import CallTrace
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration, phase_of
from apisix.runner.settings.table import Settings
from apisix.runner.wire.messages import ErrResp

CACHED: int = 4096
"""For how many configurations it is remembered whether their calls are recorded."""


MAX_GAP: int = 2**53
"""More calls than a worker runs."""


class Selection:
    """
    The calls that the settings select.

    Attributes:
        selects_all: True if calls of all routes and plugins are selected.
    """

    def __init__(self, settings: Settings) -> None:
        self._sample = settings.record_sample
        self._routes = frozenset(settings.record_routes)
        self._plugins = frozenset(settings.record_plugins)
        self._only_failures = settings.record_only_failures
        self.selects_all = not (self._routes or self._plugins)
        self._selects = lru_cache(CACHED)(self._selects_configuration)

    def gap(self, calls: int = 0) -> int:
        """
        Return how many calls to leave out before the next one of the sample.

        Args: calls: how many calls of the sample to leave out, too.

        The number is random, with a geometric distribution. So each call is in the sample with the same chance, whatever happened to the
        calls before it, as if a number was drawn for each call.
        """
        if self._sample >= 1.0:
            return calls
        if self._sample <= 0.0:
            return MAX_GAP
        return min(calls + sum(self._gap() for _ in range(calls + 1)), MAX_GAP)

    def _gap(self) -> int:
        chance = 1.0 - random.random()  # noqa: S311  # no secret; above 0 and up to 1
        return int(min(math.log(chance) / math.log1p(-self._sample), MAX_GAP))

    def selects(self, chain: Chain) -> bool:
        """Return True if the route and the plugins of a chain are selected."""
        return self.selects_all or self._selects(chain.configuration)

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
