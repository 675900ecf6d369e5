# SPDX-License-Identifier: Apache-2.0
"""
The chains that a worker has built, by token: built before the first call runs, kept while in use, closed when they are not.

Building runs code of authors (`__init__`, `config()`, validators), which may take long: each plugin is made in a thread, and only the
calls of its own configuration wait.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Final, Protocol

from apisix.runner.call import where
from apisix.runner.call.forked import EndingInChild
from apisix.runner.call.threads import PluginThreads
from apisix.runner.call.watching import watched
from apisix.runner.errors import ChainRefused, UnknownToken
from apisix.runner.http.phase import Phase
from apisix.runner.plugin.chain import Chain, ChainBuilder, Link, phase_of
from apisix.runner.plugin.plugin_type import PluginType
from apisix.runner.plugin.registry import Registry

chains_logger = logging.getLogger("apisix.runner.call.chains")

FIRST_RETRY_S: Final = 1.0
"""How long after a failed `setup` it is tried again, in seconds. Doubles with each failure."""
MAX_FAILURE: Final = 1000
"""How many characters of a failure of `setup` are kept until it is tried again."""
LONGEST_RETRY_S: Final = 60.0
"""Where the doubling ends, in seconds."""


class Configuration(Protocol):
    """What a token stands for."""

    @property
    def key(self) -> str | None:
        """`conf_type#conf_id#plugin-name#conf_version`, or None from an old gateway."""

    @property
    def conf(self) -> Sequence[tuple[str, str]]:
        """Names and values of the plugins, in the order in which they run."""


class Lookup(Protocol):
    """Where configurations are kept."""

    def get(self, token: int) -> Configuration | None:
        """Return what `token` stands for and note that it is in use, or None where it was never given."""


class Setup:
    """
    One plugin instance's `setup`: run once, shared by the calls that wait for it, tried again with back-off.

    Source: design, 3c.
    """

    __slots__ = ("_delay_s", "_failure", "_function", "_retry_at_s", "_task", "_timeout_s", "done")

    def __init__(self, function: Callable[[], Awaitable[None]], timeout_s: float) -> None:
        self._function = function
        self._timeout_s = timeout_s
        self._delay_s = FIRST_RETRY_S
        self._retry_at_s = 0.0
        self._failure: str | None = None  # not the exception, whose traceback refers to all variables of the setup
        self._task: asyncio.Task[BaseException | None] | None = None
        self.done = False

    async def ensure(self) -> None:
        """
        Return once the instance is set up.

        Raises: whatever `setup` raised, also during the back-off, without trying again before it is over.
        """
        if self.done:
            return
        loop = asyncio.get_running_loop()
        if self._task is None:
            if self._failure is not None and loop.time() < self._retry_at_s:
                raise ChainRefused(f"setup failed: {self._failure}; it is tried again later")
            self._task = loop.create_task(self._attempt())
        # A call that gives up must not end what other calls wait for.
        failure = await asyncio.shield(self._task)
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame

    async def _attempt(self) -> BaseException | None:
        watched.set(None)  # it is no hook: what it assigns is meant for all calls
        try:
            async with asyncio.timeout(self._timeout_s):
                await EndingInChild(self._function())
        except BaseException as error:  # an author's setup may raise anything, and a task must not let SystemExit out
            self._failure = repr(error)[:MAX_FAILURE]
            self._retry_at_s = asyncio.get_running_loop().time() + self._delay_s
            self._delay_s = min(2 * self._delay_s, LONGEST_RETRY_S)
            return error
        else:
            self._failure = None
            self.done = True
            return None
        finally:
            self._task = None


def log_close_failure(name: str, error: BaseException) -> None:
    """Say which plugin failed to close, and why."""
    chains_logger.error("plugin %s failed to close", name, exc_info=error)


class Step:
    """
    One plugin of a chain, with what each call needs of it at hand.

    Attributes:
        straight: whether a call may begin its hook without a greenlet: it waits for nothing, or in a task of its own.
        on_error: what a failure does, by the plugin's word or else by the settings.
        passes: whether that is to go on without its edits.
        setup: None where the plugin has none.
    """

    __slots__ = ("hook", "is_coroutine", "name", "needs", "on_error", "passes", "plugin_type", "setup", "straight")

    def __init__(self, link: Link, setup: Setup | None, on_error: str) -> None:
        self.name = link.name
        self.hook = link.hook
        self.is_coroutine = link.is_coroutine
        self.needs = link.needs
        self.on_error = link.on_error or on_error
        self.plugin_type = link.plugin_type
        self.setup = setup
        self.passes = self.on_error == "pass"
        waits_for_nothing = link.asks_nothing or link.is_coroutine
        self.straight = waits_for_nothing and setup is None and not link.needs and not self.passes


class PreparedChain:
    """
    A chain with what its calls share.

    Attributes:
        chain: what it was made of.
        steps: its plugins, as a call runs them.
        users: how many calls run it now.
        used: whether it was used since the eviction last looked.
        warned: whether its route was warned of responses without a body.
    """

    __slots__ = ("chain", "evicted", "key", "phase", "refused", "renew_at_s", "steps", "used", "users", "warned")

    def __init__(self, chain: Chain, setup_timeout_s: float, on_error: str) -> None:
        self.chain = chain
        self.key = chain.key
        self.phase = chain.phase
        self.refused = chain.refusal is not None
        self.steps = tuple(Step(link, None if link.setup is None else Setup(link.setup, setup_timeout_s), on_error) for link in chain.links)
        self.renew_at_s = 0.0
        self.users = 0
        self.used = False
        self.evicted = False
        self.warned = False


class Chains:
    """
    Build and keep the chains of a worker. Where they are too many, the oldest goes that no call has used since this last happened.

    Args:
        registry: the plugins that are loaded.
        lookup: where tokens are resolved.
        threads: where plugins are made.
        capacity: how many chains are kept.
        renew_s: after how many seconds of use `lookup` is told again that a token is used.
        setup_timeout_s: how long a plugin's `setup` may take, in seconds.
        on_error: "refuse", "pass" or "degrade", for plugins that do not say it themselves.
        spawn: starts a coroutine in the background: the `close` of plugins that are no longer used.
        close_failed: told the name of a plugin whose `close` raises, and what.
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
        # By the token, twice, and one more for the chain of the response phase. In the order of their age.
        self._chains: dict[int, PreparedChain] = {}
        self._building: dict[int, asyncio.Task[None]] = {}
        # The name of the plugin that is being made for a chain, and `threading.get_ident()` of the thread that makes it.
        self._making: dict[int, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._chains)

    def acquire(self, token: int, response: bool, now_s: float) -> PreparedChain | None:
        """
        Return the chain behind `token`, of which the caller is a user now, or None if it has to be built first.

        The caller must `release` it.

        Args:
            token: as the gateway sent it.
            response: whether the chain is for the response phase.
            now_s: a monotonic time in seconds.
        """
        prepared: PreparedChain | None = self._chains.get(2 * token + response)
        if prepared is None:
            return None
        if now_s >= prepared.renew_at_s:
            self._lookup.get(token)
            prepared.renew_at_s = now_s + self._renew_s
        prepared.used = True
        prepared.users += 1
        return prepared

    def build(self, token: int, response: bool) -> "asyncio.Future[None]":
        """
        Return a future that is done once `acquire` finds the chain behind `token`. All callers wait for one build, which none can cancel.

        Raises: UnknownToken: nothing is known of it.
        """
        slot = 2 * token + response
        task = self._building.get(slot)
        if task is None:
            configuration = self._lookup.get(token)
            if configuration is None:
                raise UnknownToken(token)
            builder = ChainBuilder(self._registry, configuration.conf, configuration.key, response=response)
            named = configuration.key or f"token {token}"
            task = self._building[slot] = asyncio.get_running_loop().create_task(self._build(slot, builder, named))
        return asyncio.shield(task)

    def place(self, token: int, response: bool) -> str | None:
        """Return which plugin is being made for the chain behind `token`, and in which line that is; None if no plugin is."""
        making = self._making.get(2 * token + response)
        if making is None:
            return None
        name, thread_id = making
        return f"the constructor or validation of plugin {name}, {where.of_thread(thread_id) or 'outside of its code'}"

    def arrived(self, token: int, key: str | None, conf: Sequence[tuple[str, str]]) -> None:
        """Build the chain of a configuration that the gateway has sent, and set its plugins up, if one of them is `eager`."""
        found = [self._registry.get(name) for name, _ in conf]
        if any(isinstance(plugin_type, PluginType) and plugin_type.eager for plugin_type in found):
            self._spawn(self._set_up(token, phase_of(key) is Phase.POST_RESP))

    def release(self, prepared: PreparedChain) -> None:
        """Take note that a call no longer uses a chain that it has acquired. Closes the plugins of an evicted one after its last call."""
        prepared.users -= 1
        if prepared.evicted and not prepared.users:
            self._close(prepared)

    def closable(self) -> list[str]:
        """Return the names of the plugins whose `close` would be awaited now."""
        return [name for prepared in self._chains.values() for name, _ in _closers(prepared)]

    async def close(self) -> None:
        """Close all plugins, for the end of the worker. What is being built is given up."""
        for task in self._building.values():
            task.cancel()
        chains = list(self._chains.values())
        self._chains.clear()
        await asyncio.gather(*(close_plugins(prepared, self._close_failed) for prepared in chains))

    async def _build(self, slot: int, builder: ChainBuilder, named: str) -> None:
        try:
            for number, name in enumerate(builder.names):
                await self._threads.of(name).run(partial(self._make, slot, name, builder, number))
            chain = builder.chain()
            if chain.refusal is not None:
                # Once for each configuration, so it is no repetition that the log should limit.
                chains_logger.error(
                    "the plugins of %s are refused, each of its calls fails: %s", named, chain.refusal, extra={"limited": False}
                )
            prepared = self._chains[slot] = PreparedChain(chain, self._setup_timeout_s, self._on_error)
            prepared.used = True
            while len(self._chains) > self._capacity:
                self._evict_oldest()
        finally:
            del self._building[slot]
            self._making.pop(slot, None)

    def _make(self, slot: int, name: str, builder: ChainBuilder, number: int) -> None:
        self._making[slot] = name, threading.get_ident()
        builder.make(number)

    async def _set_up(self, token: int, response: bool) -> None:
        prepared = self.acquire(token, response, 0.0)
        while prepared is None:
            await self.build(token, response)
            prepared = self.acquire(token, response, 0.0)
        try:
            for step in prepared.steps:
                if step.plugin_type.eager and step.setup is not None:
                    await step.setup.ensure()
        except BaseException:  # an author's setup may raise anything
            chains_logger.exception(
                "a plugin of %s could not be set up when its configuration came; its first call tries again", prepared.key
            )
        finally:
            self.release(prepared)

    def _evict_oldest(self) -> None:
        key = next(iter(self._chains))
        oldest = self._chains.pop(key)
        if oldest.used:
            # A second chance, as the youngest: to move a chain with each call that uses it would cost each call 0.3 us.
            oldest.used = False
            self._chains[key] = oldest
            return
        oldest.evicted = True
        if not oldest.users:
            self._close(oldest)

    def _close(self, prepared: PreparedChain) -> None:
        if any(link.close is not None for link in prepared.chain.links):
            self._spawn(close_plugins(prepared, self._close_failed))


async def close_plugins(prepared: PreparedChain, failed: Callable[[str, BaseException], None] = log_close_failure) -> None:
    """Await the `close` of each plugin of a chain that was set up, or needs no setup; `failed` is told of those that raise."""
    for name, close in _closers(prepared):
        try:
            await EndingInChild(close())
        except BaseException as error:  # an author's close may raise anything, and the others must be closed all the same
            failed(name, error)


def _closers(prepared: PreparedChain) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    return [
        (link.name, link.close)
        for link, step in zip(prepared.chain.links, prepared.steps, strict=True)
        if link.close is not None and (step.setup is None or step.setup.done)
    ]
