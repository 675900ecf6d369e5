# SPDX-License-Identifier: Apache-2.0
"""The hook of a plugin with `runs_in = "process"`, as it is in the chain of a worker."""

import sys
from functools import partial

from apisix.runner.http.plain_data import apply_edits, to_plain
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.chain.builder import HookInProcess
from apisix.runner.plugin.plugin_type import PluginType
from apisix.runner.process_pool.messages import PluginPlace, Run
from apisix.runner.process_pool.pool import ProcessPool


def place_of(plugin_type: PluginType) -> PluginPlace:
    """Return where a process of the pool finds the class of a plugin."""
    cls = plugin_type.cls
    directory = None
    if plugin_type.source.kind == "directory":
        directory = sys.modules[cls.__module__.partition(".")[0]].__path__[0]
    return PluginPlace(directory, cls.__module__, cls.__qualname__)


def hooks_in(pool: ProcessPool) -> HookInProcess:
    """Return a function that makes hooks which run in a pool."""
    return partial(_make_hook, pool)


def _make_hook(pool: ProcessPool, plugin_type: PluginType, value: str, name: str) -> "PooledHook":
    return PooledHook(pool, place_of(plugin_type), value, name)


class PooledHook:
    """
    A hook that runs in a process of the pool.

    Args:
        pool: the pool.
        plugin: where the class of the plugin is.
        value: its configuration, as it is in the route.
        name: the name of the hook.
    """

    def __init__(self, pool: ProcessPool, plugin: PluginPlace, value: str, name: str) -> None:
        self._pool = pool
        self._plugin = plugin
        self._value = value
        self._name = name

    async def __call__(self, message: Request | Response) -> Reply | None:
        """
        Run the hook, and apply its edits to `message`.

        Returns: its Reply, None if there is none.
        Raises: the same errors as `ProcessPool.run`.
        """
        edits = await self._pool.run(Run(self._plugin, self._value, self._name, to_plain(message)), message)
        return apply_edits(message, edits)
