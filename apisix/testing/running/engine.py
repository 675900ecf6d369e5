# SPDX-License-Identifier: Apache-2.0
"""The runner's engine on one event loop, for calls of tests."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from apisix.runner.call.blocking.detector import BlockingDetector
from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.observing.trace import CallListener, CallObserver, CallTrace
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.errors import ChainRefused
from apisix.runner.http.body.content_encoding import DEFAULT_MAX_DECOMPRESSED_BYTES
from apisix.runner.http.metadata import MetadataStore
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import PluginType
from apisix.runner.state.backend import Backend, using
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp, HTTPRespCallResp, PrepareConfReq
from apisix.testing.running.entries import OfferingRegistry
from apisix.testing.running.loopback import Loopback
from apisix.testing.sending.messages import SentRequest, SentResponse

MAX_IN_FLIGHT: Final = 1000
BLOCKING_THREADS: Final = 32
CHAINS: Final = 1000

_ADVICE: Final = (
    "The fixture client loads the plugins in plugins/ under pytest's root directory and in the directories of --apisix-plugins. "
    "Client([DIRECTORY]) loads those in a directory. Any other plugin can be given as a class, as in plugins=[(KeyAuth, {...})]"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings of the runner that tests can change. `on_error` is "refuse", "pass" or "degrade"."""

    plugin_timeout_s: float
    on_error: str


OfferedTypes = tuple[tuple[str, PluginType], ...]
"""The classes that a test offers for a call, by their names in the route."""


@dataclass(slots=True)
class Outcome:
    """
    The outcome of a call.

    Attributes:
        reply: the reply of the runner.
        asked: the info requests, in order.
        effects: what each plugin did, in order.
        error: the exception if the call failed; otherwise None.
    """

    reply: HTTPReqCallResp | HTTPRespCallResp | ErrResp
    asked: tuple[str, ...]
    trace: CallTrace | None
    error: BaseException | None

    @property
    def is_error(self) -> bool:
        """True if the runner replied with an error."""
        return isinstance(self.reply, ErrResp)


class _Tokens:
    """
    The tokens of the route configurations. They are numbers from 1 upwards, and are valid as long as the engine exists.

    The chain cache uses this class as its `Lookup`.
    """

    def __init__(self) -> None:
        self._tokens: dict[tuple[RouteConfiguration, OfferedTypes], int] = {}
        self._configurations: list[RouteConfiguration] = []

    def find(self, configuration: RouteConfiguration, types: OfferedTypes) -> int:
        """Return the token of a configuration that was added with the same classes, or 0 if there is none."""
        return self._tokens.get((configuration, types), 0)

    def put(self, configuration: RouteConfiguration, types: OfferedTypes) -> int:
        self._configurations.append(configuration)
        token = self._tokens[configuration, types] = len(self._configurations)
        return token

    def get(self, token: int) -> RouteConfiguration | None:
        return self._configurations[token - 1] if 0 < token <= len(self._configurations) else None


class _NoDetection(BlockingDetector):
    """Marks no plugin as blocking, so that a slow hook, or one in a debugger, always runs in the same thread."""

    def record(self, plugin_type: PluginType, held_s: float, now_s: float) -> None:
        """Do nothing."""


class _RunningCall:
    """A call in progress, with what the engine has reported about it."""

    def __init__(self) -> None:
        self.trace: CallTrace | None = None
        self.error: BaseException | None = None


class _Traces(CallListener):
    """Keeps the trace of each call."""

    def __init__(self, calls: dict[int, _RunningCall]) -> None:
        super().__init__()
        self._calls = calls

    def ended(self, trace: CallTrace) -> None:
        """Keep a trace."""
        if trace.call_id in self._calls:
            self._calls[trace.call_id].trace = trace


class Engine:
    """
    Runs calls on one event loop.

    Args:
        loop: the event loop on which the plugins run. `call` must be awaited on it.
        registry: the loaded plugins.
        limits: the settings of the runner.
        state: has the entries of the shared store.
        metadata_store: keeps the metadata of requests between their phases; None for one in memory that no other engine uses.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        registry: Registry,
        limits: Limits,
        state: Backend,
        metadata_store: MetadataStore | None = None,
    ) -> None:
        self.loop = loop
        self._state = state
        self._registry = OfferingRegistry(registry)
        self._tokens = _Tokens()
        self._ids = count()  # the first call of a gateway has the id 0 (gateway contract, 4)
        self._calls: dict[int, _RunningCall] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._close_errors: list[BaseException] = []
        self._ending: AsyncGenerator[None, None] | None = None
        threads = PluginThreads(BLOCKING_THREADS)
        self._chains = ChainCache(
            self._registry,
            self._tokens,
            threads,
            capacity=CHAINS,
            renew_s=float("inf"),
            setup_timeout_s=limits.plugin_timeout_s,
            on_error=limits.on_error,
            spawn=self._spawn,
            close_failed=lambda _, error: self._close_errors.append(error),
        )
        self._runtime = Runtime(
            loop=loop,
            chains=self._chains,
            threads=threads,
            plugin_timeout_s=limits.plugin_timeout_s,
            max_in_flight=MAX_IN_FLIGHT,
            on_error=limits.on_error,
            max_decompressed_bytes=DEFAULT_MAX_DECOMPRESSED_BYTES,
            blocking_detector=_NoDetection(),
            observer=CallObserver([_Traces(self._calls)], watch_hooks=True),
            failure_observer=self._observe_failure,
            metadata_store=metadata_store,
        )

    async def call(
        self, sent: SentRequest | SentResponse, key: str | None, conf: Sequence[tuple[str, str]], offered: Mapping[str, PluginType]
    ) -> Outcome:
        """
        Run a call through plugins, and return its outcome.

        Args:
            sent: the request or response.
            key: the key of the route configuration.
            conf: the names and configurations of the plugins.
            offered: the plugins that the test has given as classes, by name.
        """
        call_id = next(self._ids)
        with using(self._state):  # the call runner copies the context, and runs hooks in it
            loopback = Loopback(self._runtime, sent.info_reply)
        running = self._calls[call_id] = _RunningCall()
        configuration = RouteConfiguration(key, tuple(conf))
        types = tuple(offered.items())
        token = self._tokens.find(configuration, types)

        def begin() -> None:
            nonlocal token
            self._registry.offered = offered
            try:
                token = token or loopback.prepare(PrepareConfReq(conf, key), prepare)
                loopback.call(sent.message(call_id, token))
            except Exception as error:  # the message does not fit in a frame
                loopback.reply.set_exception(error)

        def prepare(message: PrepareConfReq) -> int:
            return self._tokens.put(RouteConfiguration(message.key, tuple(message.conf)), types)

        with using(self._state):
            self.loop.call_soon(begin)
        try:
            reply = await loopback.reply
        finally:
            self.loop.call_soon(loopback.hang_up)
            del self._calls[call_id]
        await asyncio.sleep(0)  # until `hang_up` has run, because in a plain test the event loop stops after this coroutine
        error = running.error or loopback.error
        if error is None and not isinstance(reply, HTTPReqCallResp):
            error = self._problem_of(token, response=isinstance(sent, SentResponse))
        return Outcome(reply, tuple(loopback.asked), running.trace, error)

    async def follow_loop(self) -> None:
        """
        Close the plugins when the running event loop is closed, unless `close` is awaited before.

        The event loop of a test is closed before fixtures are torn down. The last thing that is closed with it are its async generators,
        so this method starts one that closes the plugins.
        """
        if self._ending is None:
            self._ending = self._close_at_end()
            await anext(self._ending)

    @property
    def has_to_close(self) -> bool:
        """True if `close` must be awaited on the event loop. Otherwise `close_at_once` is sufficient."""
        return self._ending is not None or bool(self._background) or bool(self._chains.closable())

    def close_at_once(self) -> None:
        """Same as `close`, if nothing has to be awaited."""
        self._runtime.close_threads()
        self.raise_close_error()

    async def close(self) -> None:
        """
        Close the plugins and the idle threads.

        Raises: BaseException: the first exception that `close` of a plugin raised.
        """
        if self._ending is None:
            await self._close()
        else:
            await self._ending.aclose()
        self.raise_close_error()

    def raise_close_error(self) -> None:
        """Raise the first exception that `close` of a plugin raised, if there is one."""
        if self._close_errors:
            raise self._close_errors[0]

    async def _close_at_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close()

    async def _close(self) -> None:
        with using(self._state):
            await self._chains.close()
        await asyncio.gather(*self._background)
        self._runtime.close_threads()

    def unclosed(self) -> list[str]:
        """Return the names of the plugins whose `close` was not called."""
        return self._chains.closable()

    def _problem_of(self, token: int, *, response: bool) -> ChainRefused | None:
        """Return why the plugins of a route configuration can't run, or None if they can."""
        cached = self._chains.acquire(token, response, self.loop.time())
        if cached is None:
            return None
        self._chains.release(cached)
        problem = cached.chain.problem
        configuration = self._tokens.get(token)
        if problem is not None and configuration is not None and any(self._registry.get(name) is None for name, _ in configuration.entries):
            problem += f"\n{_ADVICE}"
        return None if problem is None else ChainRefused(problem)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self.loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _observe_failure(self, call_id: int, error: BaseException) -> None:
        if call_id in self._calls:
            self._calls[call_id].error = error
