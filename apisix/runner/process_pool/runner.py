# SPDX-License-Identifier: Apache-2.0
"""Create plugins in a process of the pool, and run their hooks."""

import asyncio
import importlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from apisix.runner.errors import ChainRefused, InfoUnavailable
from apisix.runner.http.plain_data import PlainEdits, edits_of, explain, from_plain, state_of
from apisix.runner.http.reply import Reply
from apisix.runner.plugin.chain.builder import make_instance
from apisix.runner.plugin.chain.setup import Setup
from apisix.runner.plugin.loading.check import check_class
from apisix.runner.plugin.loading.sibling_modules import open_package
from apisix.runner.plugin.plugin import defines
from apisix.runner.plugin.plugin_type import PluginType, Source
from apisix.runner.process_pool.messages import MAX_INSTANCES, Hello, InfoRefused, InfoReplies, InfoWanted, PluginPlace, Run
from apisix.runner.settings.table import Settings
from apisix.runner.state import backend

logger = logging.getLogger(__name__)

RequestInfo = Callable[[InfoWanted], InfoReplies | InfoRefused]
"""Sends info requests to the worker and returns the reply."""


class HookRunner:
    """
    Runs hooks, one after the other.

    Args:
        hello: the first message of the worker.
        request_info: sends info requests to the worker and returns the reply.
    """

    def __init__(self, hello: Hello, request_info: RequestInfo) -> None:
        self._settings = msgspec.msgpack.decode(hello.settings, type=Settings)
        if hello.store is not None:
            module, _, function = hello.store.partition(":")
            backend.choose(getattr(importlib.import_module(module), function)(self._settings))
        self._request_info = request_info
        self._loop = asyncio.Runner()
        self._directories: set[str] = set()
        self._types: dict[PluginPlace, PluginType] = {}
        self._instances: OrderedDict[tuple[PluginPlace, str], tuple[Any, Setup | None]] = OrderedDict()

    def run(self, run: Run) -> PlainEdits:
        """Run a hook and return its edits. Raise what the hook raised, or why there is no such plugin."""
        instance = self._prepared(run.plugin, run.value)
        message = from_plain(run.call, self._fetch, self._settings.max_decompressed_bytes)
        before = state_of(message)
        try:
            result = getattr(instance, run.hook)(message)
            if isinstance(result, Awaitable) and not isinstance(result, Reply):
                result = self._loop.run(_await(result))
        except Reply as reply:
            result = reply
        except BaseException as error:
            explain(run.call, error)
            raise
        if result is not None and not isinstance(result, Reply):
            raise TypeError(f"a hook returns None or a Reply, but {run.plugin.qualname} returned {type(result).__name__}")
        return edits_of(run.call, before, message, result)

    def warm_up(self, place: PluginPlace, value: str) -> None:
        """Create and set up an instance. Raise what the author's code raised. It is tried again when the instance is needed."""
        try:
            self._prepared(place, value)
        except BaseException:
            self._instances.pop((place, value), None)
            raise

    def close(self) -> None:
        """Close all plugins."""
        for instance, setup in self._instances.values():
            self._close(instance, setup)
        self._loop.close()

    def _fetch(self, names: list[str | None]) -> list[bytes | None]:
        reply = self._request_info(InfoWanted(names))
        if isinstance(reply, InfoRefused):
            raise InfoUnavailable(reply.reason)
        return reply.values

    def _prepared(self, place: PluginPlace, value: str) -> Any:
        """Return the instance of a plugin for a configuration, which is set up."""
        instance, setup = self._instance(place, value)
        if setup is not None and not setup.done:
            self._loop.run(setup.ensure())
        return instance

    def _instance(self, place: PluginPlace, value: str) -> tuple[Any, Setup | None]:
        """Return the instance of a plugin for a configuration, and its setup, None if it has none."""
        key = (place, value)
        found = self._instances.get(key)
        if found is not None:
            self._instances.move_to_end(key)
            return found
        plugin_type = self._type(place)
        instance = make_instance(plugin_type.cls, plugin_type.reader.read(value))
        setup = Setup(instance.setup, self._settings.plugin_timeout_s) if defines(plugin_type.cls, "setup") else None
        self._instances[key] = instance, setup
        if len(self._instances) > MAX_INSTANCES:
            _, (oldest, its_setup) = self._instances.popitem(last=False)
            self._close(oldest, its_setup)
        return instance, setup

    def _type(self, place: PluginPlace) -> PluginType:
        found = self._types.get(place)
        if found is None:
            if place.directory is not None and place.directory not in self._directories:
                self._directories.add(place.directory)
                open_package(Path(place.directory))
            value: Any = importlib.import_module(place.module)
            for name in place.qualname.split("."):
                value = getattr(value, name)
            checked = check_class(value, Source("module", str(getattr(value, "__module__", "")), 0, place.module), None)
            if not isinstance(checked, PluginType):
                raise ChainRefused("; ".join(map(str, checked)))
            found = self._types[place] = checked
        return found

    def _close(self, instance: Any, setup: Setup | None) -> None:
        if not defines(type(instance), "close") or (setup is not None and not setup.done):
            return
        try:
            self._loop.run(_await(instance.close()))
        except BaseException:  # an author's close may raise anything, and the other plugins must still be closed
            logger.exception("plugin %s failed to close in a process of the pool", type(instance).__name__)


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
