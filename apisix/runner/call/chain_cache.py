# SPDX-License-Identifier: Apache-2.0
"""
The chains of a worker by token. They are built for the first call, kept while they are in use, and closed afterwards.

Building a chain runs code of authors (`__init__`, `config()`, validators), which may take long. So each plugin is created in a thread, and
only the calls of its route configuration wait.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Protocol

from apisix.runner.call.blocking import places
from apisix.runner.call.threads import PluginThreads
from apisix.runner.errors import UnknownToken
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain.background import BackgroundTasks
from apisix.runner.plugin.chain.builder import ChainBuilder, HookInProcess
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.forked import EndingInChild
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import PluginType

chain_cache_logger = logging.getLogger("apisix.runner.call.chain_cache")


class Lookup(Protocol):
    """Finds route configurations. In a worker, this is the conf store."""

    def get(self, token: int) -> RouteConfiguration | None:
        """Return the route configuration of `token` and record that it is in use. Return None if the token is unknown."""


def log_close_failure(name: str, error: BaseException) -> None:
    """Log which plugin failed to close, and why."""
    chain_cache_logger.error("plugin %s failed to close", name, exc_info=error)


class CachedChain:
    """
    A chain in the cache, and how it is used.

    Attributes:
        chain: the chain.
        users: how many calls use it now.
        used: True if it was used since the last eviction.
        evicted: True if it is no longer in the cache. Then its plugins are closed after its last call.
        renew_at_s: when to record again that the token is in use, a time as `primitives.now_s()` returns it.
    """

    __slots__ = ("_warned", "chain", "evicted", "renew_at_s", "used", "users")

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.renew_at_s = 0.0
        self.users = 0
        self.used = True
        self.evicted = False
        self._warned = False

    def warn_of_second_request(self, status: int) -> None:
        """Log once that the upstream sends responses without a body. Args: status: the status of such a response."""
        if not self._warned:
            self._warned = True
            chain_cache_logger.warning(
                "%s: the upstream replied with status %d, which has no body. The gateway sends such a request a second time. "
                "Remove ext-plugin-post-resp from routes whose upstream replies with this status",
                self.chain.key,
                status,
            )


class ChainCache:
    """
    Build and keep the chains of a worker. A call acquires the chain that belongs to its token, and releases it at its end.

    If there are too many chains, the oldest chain that no call has used since the last eviction is removed.

    Args:
        registry: the plugins that are loaded.
        lookup: finds the route configuration of a token.
        threads: create the plugins.
        capacity: how many chains are kept.
        renew_s: after how many seconds to record again, with `lookup.get`, that a token is in use.
        setup_timeout_s: how long a plugin's `setup` may take, in seconds.
        on_error: "refuse", "pass" or "degrade", for plugins that do not set it themselves.
        spawn: starts a coroutine in the background, for example the `close` of plugins that are no longer used.
        close_failed: called with the name of a plugin whose `close` raised an error, and with the error.
        hook_in_process: makes the hooks of plugins with `runs_in = "process"`. None: they run in this process.
        background: the background tasks of the worker. None: the `background` of plugins does not run.
    """

    def __init__(
        self,
        registry: Registry,
        lookup: Lookup,
        threads: PluginThreads,
        *,
        capacity: int,
        renew_s: float,
        setup_timeout_s: float,
        on_error: str,
        spawn: Callable[[Coroutine[object, object, None]], object],
        close_failed: Callable[[str, BaseException], None] = log_close_failure,
        hook_in_process: HookInProcess | None = None,
        background: BackgroundTasks | None = None,
    ) -> None:
        self._registry = registry
        self._lookup = lookup
        self._threads = threads
        self._capacity = capacity
        self._renew_s = renew_s
        self._setup_timeout_s = setup_timeout_s
        self._on_error = on_error
        self._spawn = spawn
        self._close_failed = close_failed
        self._hook_in_process = hook_in_process
        self._background = background
        # The key is twice the token, plus one if the chain is for the response phase. The oldest chain comes first.
        self._chains: dict[int, CachedChain] = {}
        self._building: dict[int, asyncio.Task[None]] = {}
        # The name of the plugin that is being created for a chain, and `threading.get_ident()` of the thread that creates it.
        self._making: dict[int, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._chains)

    def acquire(self, token: int, response: bool, now_s: float) -> CachedChain | None:
        """
        Return the chain that belongs to `token`, or None if it has to be built first. The caller must `release` the chain after use.

        Args:
            token: the token that the gateway sent.
            response: True if the chain is for the response phase.
            now_s: the current time, as `primitives.now_s()` returns it.
        """
        cached: CachedChain | None = self._chains.get(2 * token + response)
        if cached is None:
            return None
        if now_s >= cached.renew_at_s:
            self._lookup.get(token)
            cached.renew_at_s = now_s + self._renew_s
        cached.used = True
        cached.users += 1
        return cached

    def release(self, cached: CachedChain) -> None:
        """Called once for each `acquire` that returned a chain. Closes the plugins of an evicted chain after its last call."""
        cached.users -= 1
        if cached.evicted and not cached.users:
            self._close(cached)

    def build(self, token: int, response: bool) -> "asyncio.Future[None]":
        """
        Return a future that is done when `acquire` can return the chain that belongs to `token`.

        All callers wait for the same build. Cancelling the future does not cancel the build.

        Raises: UnknownToken: the token is unknown.
        """
        slot = 2 * token + response
        task = self._building.get(slot)
        if task is None:
            configuration = self._lookup.get(token)
            if configuration is None:
                raise UnknownToken(token)
            builder = ChainBuilder(
                self._registry,
                configuration,
                response=response,
                on_error=self._on_error,
                setup_timeout_s=self._setup_timeout_s,
                hook_in_process=self._hook_in_process,
                background=self._background,
            )
            named = configuration.key or f"token {token}"
            task = self._building[slot] = asyncio.get_running_loop().create_task(self._build(slot, builder, named))
        return asyncio.shield(task)

    def place(self, token: int, response: bool) -> str | None:
        """Return which plugin is being created for the chain of `token`, and the current line; None if no plugin is being created."""
        making = self._making.get(2 * token + response)
        if making is None:
            return None
        name, thread_id = making
        return f"the constructor or validation of plugin {name}, {places.of_thread(thread_id) or 'outside of its code'}"

    def received(self, token: int, configuration: RouteConfiguration) -> None:
        """Called when the gateway has sent a configuration. If a plugin in it is `eager`, builds the chain and sets this plugin up."""
        found = [self._registry.get(name) for name, _ in configuration.entries]
        if any(isinstance(plugin_type, PluginType) and plugin_type.eager for plugin_type in found):
            self._spawn(self._set_up(token, configuration.phase is Phase.POST_RESP))

    def closable(self) -> list[str]:
        """Return the names of the plugins whose `close` would be awaited if the cache was closed now."""
        return [step.name for cached in self._chains.values() for step in cached.chain.steps if step.is_closable]

    async def close(self) -> None:
        """Close all plugins, at the end of the worker. Builds in progress are cancelled."""
        for task in self._building.values():
            task.cancel()
        chains = list(self._chains.values())
        self._chains.clear()
        await asyncio.gather(*(close_plugins(cached.chain, self._close_failed) for cached in chains))

    async def _build(self, slot: int, builder: ChainBuilder, named: str) -> None:
        try:
            for number, name in enumerate(builder.names):
                await self._threads.of(name).run(partial(self._make, slot, name, builder, number))
            chain = builder.chain()
            if chain.problem is not None:
                # This is logged once for each configuration, so the log must not limit it as a repetition.
                chain_cache_logger.error(
                    "the plugins of %s are refused, each of its calls fails: %s", named, chain.problem, extra={"limited": False}
                )
            self._chains[slot] = CachedChain(chain)
            while len(self._chains) > self._capacity:
                self._evict_oldest()
        finally:
            del self._building[slot]
            self._making.pop(slot, None)

    def _make(self, slot: int, name: str, builder: ChainBuilder, number: int) -> None:
        self._making[slot] = name, threading.get_ident()
        builder.make(number)

    async def _set_up(self, token: int, response: bool) -> None:
        cached = self.acquire(token, response, 0.0)
        while cached is None:
            await self.build(token, response)
            cached = self.acquire(token, response, 0.0)
        try:
            for step in cached.chain.steps:
                if step.plugin_type.eager and step.setup is not None:
                    await step.setup.ensure()
        except BaseException:  # an author's setup may raise anything
            chain_cache_logger.exception(
                "a plugin of %s could not be set up when its configuration arrived; its first call tries again", cached.chain.key
            )
        finally:
            self.release(cached)

    def _evict_oldest(self) -> None:
        slot = next(iter(self._chains))
        oldest = self._chains.pop(slot)
        if oldest.used:
            # Keep it as the newest one. Moving a chain to the end in each call that uses it would be slower.
            oldest.used = False
            self._chains[slot] = oldest
            return
        oldest.evicted = True
        if not oldest.users:
            self._close(oldest)

    def _close(self, cached: CachedChain) -> None:
        if any(step.close is not None for step in cached.chain.steps):
            self._spawn(close_plugins(cached.chain, self._close_failed))


async def close_plugins(chain: Chain, failed: Callable[[str, BaseException], None] = log_close_failure) -> None:
    """Await the `close` of each plugin of a chain that is set up or has no `setup`. Call `failed` for each `close` that raises an error."""
    for step in chain.steps:
        if step.close is not None and step.is_closable:
            try:
                await EndingInChild(step.close())
            except BaseException as error:  # an author's close may raise anything, and the other plugins must still be closed
                failed(step.name, error)
