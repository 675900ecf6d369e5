# SPDX-License-Identifier: Apache-2.0
"""The test client: send a request or a response through plugins, as the gateway does."""

import asyncio
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, Unpack, cast

from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.http.metadata import Metadata
from apisix.runner.http.phase import Phase
from apisix.runner.logging.tracebacks import past_runner
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.plugin.plugin_type import PluginType, Problem
from apisix.runner.records.format import CallRecord
from apisix.runner.settings.table import Settings
from apisix.runner.state.memory import MemoryBackend
from apisix.runner.state.store import Store
from apisix.runner.wire.messages import Var
from apisix.testing.options import RequestOptions, RespondOptions
from apisix.testing.replaying.reading import RecordedCall
from apisix.testing.replaying.recorded import RecordedRequest, RecordedResponse, keep_metadata, sent_by
from apisix.testing.replaying.replayed import ReplayResult, replay_maker, replay_result, to_replay
from apisix.testing.results.gateway_view import request_of, result_of
from apisix.testing.results.result import Result
from apisix.testing.running.engine import Engine, Limits, Outcome
from apisix.testing.running.entries import Offers, PluginEntry
from apisix.testing.sending.messages import HeadersLike, SentRequest, SentResponse, Variables, make_request, make_response
from apisix.testing.verbs import Verbs

DEFAULT_TIMEOUT_S: Final = Settings().plugin_timeout_s
"""The time limit of a call, in seconds. It is the default of the runner, so that a call that succeeds in `dev` also succeeds in a test."""

REQUEST_PHASES: Final = (Phase.PRE_REQ, Phase.POST_REQ)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that is ready to run, with the options that the test has given for it."""

    sent: SentRequest | SentResponse
    key: str | None
    conf: tuple[tuple[str, str], ...]
    offered: dict[str, PluginType]
    raise_errors: bool
    allow_degradation: bool


class Client(Verbs):
    """
    Run plugins as if a gateway sent the calls.

    Calls with the same configuration and key share one instance of a plugin. Close the client after use, or use it as a context
    manager. Closing it calls `close` of the plugins.

    In a plain test, calls run on an event loop of the client. In an async test, use the async variants, whose names begin with `a`.
    They run on the event loop of the test.

    Args:
        directories: directories of plugin files.
        modules: importable modules with plugins, as `package.module`.
        registry: loaded plugins, instead of directories and modules.
        raise_errors: True to raise exceptions of plugins in the test, False to return what the client of a gateway would get.
        allow_degradation: True if requests continue after an error, as in a route with this option.
        on_error: "refuse", "pass" or "degrade", as in the setting `plugins.on_error`.
        plugin_timeout_s: the time limit of a call, in seconds. By default it is that of the runner, `limits.plugin_timeout`.
        share_store: another client whose store this client uses too, as two workers do. By default, the store is empty.
    """

    def __init__(
        self,
        directories: Sequence[str | Path] = (),
        *,
        modules: Sequence[str] = (),
        registry: Registry | None = None,
        raise_errors: bool = True,
        allow_degradation: bool = False,
        on_error: str = "refuse",
        plugin_timeout_s: float = DEFAULT_TIMEOUT_S,
        share_store: "Client | None" = None,
        _runner: asyncio.Runner | None = None,
    ) -> None:
        self._registry = Registry.load(directories, modules) if registry is None else registry
        self._raise_errors = raise_errors
        self._allow_degradation = allow_degradation
        self._limits = Limits(plugin_timeout_s, on_error)
        self._state: MemoryBackend = MemoryBackend() if share_store is None else share_store._state
        self._offers = Offers()
        self._replay_maker = replay_maker()
        # The pytest plugin passes one runner to all clients and closes it itself, because creating an event loop for each test is slow.
        self._runner = _runner
        self._owns_runner = _runner is None
        self._engines: dict[asyncio.AbstractEventLoop, Engine] = {}
        self._metadata = MemoryMetadata()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def plugin(self, name: str) -> type:
        """
        Return the class of a plugin, for example to replace something in its module.

        Raises: LookupError: there is no such plugin, or it can't be loaded.
        """
        found = self._registry.get(name)
        if isinstance(found, PluginType):
            return found.cls
        near = self._registry.suggest(name)
        reason = f"plugin {name} could not be loaded: {found}" if isinstance(found, Problem) else f"there is no plugin {name}"
        raise LookupError(reason + (f"; did you mean {near}?" if near and found is None else ""))

    def store(self, name: str) -> Store:
        """Return the store of a plugin, or another named store, with the entries that the calls of this client see."""
        return Store(name, _backend=lambda: self._state)

    def advance(self, seconds: float) -> None:
        """Let time pass for the entries of the store, so that a test does not have to wait until they expire."""
        self._state.advance(seconds)

    def request(self, method: str, url: str, **options: Unpack[RequestOptions]) -> Result:
        """
        Send a client's request through plugins.

        Args:
            method: an HTTP method that the wire protocol supports.
            url: a path or a URL, percent-encoded, with or without a query.
            plugins: the chain, in order. An entry is a name, a name and a configuration, a class, or a class and a configuration. A
                configuration that is not a str becomes JSON.
            params: arguments after those of the URL. A list has several values, and None means no value (`?flag`).
            headers: the headers of the request. `host` is always set, and so are the length and type of a body.
            body, json, form: the body, in one of three ways.
            vars: the gateway's variables. Variables that depend only on the request (`uri`, `remote_addr`, `arg_*`, `http_*`,
                `cookie_*`, ...) are already set, and so is `request_id`. All others are None.
            of: the result of an earlier phase of the same request, whose metadata this call sees.
            metadata: metadata that the call finds, as if an earlier phase had stored it, in addition to that of `of`.
            phase: "ext-plugin-pre-req" (default) or "ext-plugin-post-req".
            remote_addr: the client's address.
            route_key: the key of the route configuration.
            raise_errors, allow_degradation: same as in `Client`, but only for this call.
        Raises:
            ChainRefused: the plugins can't run, because a name is unknown, a configuration is not valid, or a hook is missing.
            DeadlineExceeded: a plugin exceeded the time limit.
            BaseException: the exception that a plugin raised, with its traceback.
        """
        __tracebackhide__ = True
        return self._run(self._request_call(method, url, **options))

    async def arequest(self, method: str, url: str, **options: Unpack[RequestOptions]) -> Result:
        """Same as `request`, but for async tests."""
        __tracebackhide__ = True
        return await self._arun(self._request_call(method, url, **options))

    def respond(
        self, status: int = 200, headers: HeadersLike | None = None, body: bytes | str = b"", **options: Unpack[RespondOptions]
    ) -> Result:
        """
        Send an upstream's response through plugins.

        Args:
            status, headers, body, json: the response. Its content-length is set, and its content-type if `json` is given.
            plugins, vars, remote_addr, route_key, raise_errors, allow_degradation: same as in `request`.
            method, url, request_headers: the request to which the upstream responds.
            of: the result of that request, instead of these three. The call sees its metadata and its edits.
            metadata: same as in `request`.
        Raises: same as `request`.
        """
        __tracebackhide__ = True
        return self._run(self._response_call(status, headers, body, **options))

    async def arespond(
        self, status: int = 200, headers: HeadersLike | None = None, body: bytes | str = b"", **options: Unpack[RespondOptions]
    ) -> Result:
        """Same as `respond`, but for async tests."""
        __tracebackhide__ = True
        return await self._arun(self._response_call(status, headers, body, **options))

    def replay(self, record: RecordedCall | CallRecord, *, plugins: Iterable[PluginEntry] | None = None) -> ReplayResult:
        """
        Run a recorded call through the plugins as they are now. Info requests are answered from the record, and the metadata of the
        client's request is what the recorded call has found.

        `assert client.replay(record).differences == []` fails with a list of what differs. Exceptions of plugins are not raised, but
        compared.

        Args:
            record: a call of a file, as `apisix.testing.records` yields it, or the `record` of a result.
            plugins: the chain, as in `request`; by default that of the record, if its file contains it.
        Raises:
            NotComparable: the record lacks something, or a plugin refuses the call and the record has no secrets.
        """
        __tracebackhide__ = True
        recorded, call = self._replay_call(record, plugins)
        return self._replayed(recorded, call, self._run(call))

    async def areplay(self, record: RecordedCall | CallRecord, *, plugins: Iterable[PluginEntry] | None = None) -> ReplayResult:
        """Same as `replay`, but for async tests."""
        __tracebackhide__ = True
        recorded, call = self._replay_call(record, plugins)
        return self._replayed(recorded, call, await self._arun(call))

    def close(self) -> None:
        """
        Close the plugins and the event loop of the client. Later calls create new ones.

        Raises:
            RuntimeError: calls were made on an event loop that is still running. Use `await aclose()`.
            BaseException: the exception that `close` of a plugin raised.
        """
        if any(loop.is_running() for loop in self._engines):
            raise RuntimeError("this client was used in an async test that is still running; call `await client.aclose()` in that test")
        with ExitStack() as stack:  # each callback runs, even if `close` of a plugin raises
            if self._runner is not None and self._owns_runner:
                stack.callback(self._runner.close)
                self._runner = None
            elif self._runner is not None:
                stack.callback(_cancel_tasks, self._runner)
            for loop, engine in self._engines.items():
                stack.callback(_end, loop, engine)
            self._engines = {}

    async def aclose(self) -> None:
        """Close the plugins that were used on the running event loop."""
        engine = self._engines.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.close()

    def _replay_call(self, record: RecordedCall | CallRecord, plugins: Iterable[PluginEntry] | None) -> tuple[RecordedCall, _Call]:
        recorded = to_replay(record, has_plugins=plugins is not None)
        configuration = recorded.configuration
        entries = [] if configuration is None else [(entry.name, entry.value) for entry in configuration.plugins]
        conf, offered = self._offers.conf_of(entries if plugins is None else plugins)
        keep_metadata(recorded.call, self._metadata)
        return recorded, _Call(sent_by(recorded.call), recorded.call.route_key, conf, offered, raise_errors=False, allow_degradation=False)

    def _replayed(self, recorded: RecordedCall, call: _Call, result: Result) -> ReplayResult:
        __tracebackhide__ = True
        return replay_result(recorded, cast("RecordedRequest | RecordedResponse", call.sent).replies, result, self._replay_maker)

    def _request_call(
        self,
        method: str,
        url: str,
        *,
        plugins: Iterable[PluginEntry],
        phase: str = Phase.PRE_REQ,
        route_key: str | None = None,
        raise_errors: bool | None = None,
        allow_degradation: bool | None = None,
        of: Result | None = None,
        metadata: Mapping[str, object] | None = None,
        **sent: Any,
    ) -> _Call:
        __tracebackhide__ = True
        if phase not in REQUEST_PHASES:
            raise ValueError(f"phase must be {' or '.join(REQUEST_PHASES)}, not {phase!r}; for a response, use respond()")
        request = make_request(method, url, **sent)
        if of is not None:
            request = replace(request, request_id=request_of(of).request_id)
        self._add_metadata(request, metadata)
        return self._call(request, Phase(phase), plugins, route_key, raise_errors, allow_degradation)

    def _response_call(
        self,
        status: int,
        headers: HeadersLike | None,
        body: bytes | str,
        *,
        plugins: Iterable[PluginEntry],
        json: object = None,
        route_key: str | None = None,
        raise_errors: bool | None = None,
        allow_degradation: bool | None = None,
        of: Result | None = None,
        metadata: Mapping[str, object] | None = None,
        **sent: Any,
    ) -> _Call:
        __tracebackhide__ = True
        response = make_response(_request_of(of, **sent), status, headers, body, json)
        self._add_metadata(response, metadata)
        return self._call(response, Phase.POST_RESP, plugins, route_key, raise_errors, allow_degradation)

    def _add_metadata(self, sent: SentRequest | SentResponse, metadata: Mapping[str, object] | None) -> None:
        """Store metadata for the request of a call. Raise TypeError or ValueError if it is not possible in a plugin either."""
        if metadata:
            stored = Metadata(self._metadata, (sent.info_reply(Var("request_id")) or b"").decode("latin-1"))
            stored.update(metadata)
            stored.end(is_last=False)

    def _call(
        self,
        sent: SentRequest | SentResponse,
        phase: Phase,
        plugins: Iterable[PluginEntry],
        route_key: str | None,
        raise_errors: bool | None,
        allow_degradation: bool | None,
    ) -> _Call:
        conf, offered = self._offers.conf_of(plugins)
        return _Call(
            sent,
            f"route#1#{phase}#1" if route_key is None else route_key,
            conf,
            offered,
            self._raise_errors if raise_errors is None else raise_errors,
            self._allow_degradation if allow_degradation is None else allow_degradation,
        )

    def _run(self, call: _Call) -> Result:
        __tracebackhide__ = True
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "an event loop is already running; in an async test, await the async variant, such as `await client.aget(...)`"
            )
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # not a uvloop, which takes longer to create and close
        loop = self._runner.get_loop()
        return _finished(call, loop.run_until_complete(self._engine_on(loop).call(call.sent, call.key, call.conf, call.offered)))

    async def _arun(self, call: _Call) -> Result:
        __tracebackhide__ = True
        engine = self._engine_on(asyncio.get_running_loop())
        await engine.follow_loop()
        return _finished(call, await engine.call(call.sent, call.key, call.conf, call.offered))

    def _engine_on(self, loop: asyncio.AbstractEventLoop) -> Engine:
        engine = self._engines.get(loop)
        if engine is None:
            engine = self._engines[loop] = Engine(loop, self._registry, self._limits, self._state, self._metadata)
        return engine


def _request_of(
    of: Result | None,
    *,
    method: str = "GET",
    url: str = "/",
    request_headers: HeadersLike | None = None,
    vars: Variables | None = None,
    remote_addr: str = "127.0.0.1",
) -> SentRequest:
    """Return the request to which an upstream responds: that of an earlier result, or the one that the other arguments describe."""
    __tracebackhide__ = True
    described = make_request(method, url, headers=request_headers, vars=vars, remote_addr=remote_addr)
    if of is None:
        return described
    if described != make_request("GET", "/", vars=vars):
        raise TypeError("a response takes its request from `of`, or from method, url, request_headers and remote_addr, not from both")
    request = request_of(of)
    return replace(request, variables={**request.variables, **described.variables})


def _finished(call: _Call, outcome: Outcome) -> Result:
    __tracebackhide__ = True
    error = outcome.error
    if error is not None and call.raise_errors:
        raise error.with_traceback(past_runner(error.__traceback__))
    return result_of(call.sent, outcome, allow_degradation=call.allow_degradation)


def _cancel_tasks(runner: asyncio.Runner) -> None:
    """Cancel the tasks that plugins have left on an event loop that other clients use too, as closing it would do."""
    if tasks := asyncio.all_tasks(runner.get_loop()):
        for task in tasks:
            task.cancel()
        runner.run(_gathered(tasks))


async def _gathered(tasks: Iterable[asyncio.Task[object]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _end(loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
    if not engine.has_to_close:
        engine.close_at_once()
        return
    if not loop.is_closed():
        loop.run_until_complete(engine.close())
        return
    names = engine.unclosed()
    if names:
        warnings.warn(
            f"the event loop of the test was closed before {', '.join(names)} could be closed; "
            f"call `await client.aclose()` in the test, or use `async with Client() as client`",
            ResourceWarning,
            stacklevel=2,
        )
    engine.raise_close_error()
