# SPDX-License-Identifier: Apache-2.0
"""The service that a worker provides for its connections: the interface between the processes and the plugins."""

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from apisix.runner.ipc.channel import MAX_MESSAGE_BYTES, Problem
from apisix.runner.settings.table import Settings

if TYPE_CHECKING:
    import asyncio  # only for types: the import is slow, and the socket has to be bound first

    from apisix.runner.conf_store.memory_fallback import MemoryFallback
    from apisix.runner.conf_store.write_lock import WriteLock
    from apisix.runner.metrics.collecting import Reporter
    from apisix.runner.metrics.families import Family
    from apisix.runner.tracing.provider import Tracing
    from apisix.runner.worker.observers import Recording


class Connections(Protocol):
    """
    The connections of a worker.

    Attributes:
        on_idle: called, while it is set, when a connection has become idle or was closed.
        on_activity: called and reset to None, while it is set, when something arrives on a connection.
    """

    on_idle: Callable[[], None] | None
    on_activity: Callable[[], None] | None

    @property
    def connections(self) -> int:
        """How many connections are open."""

    @property
    def in_flight(self) -> int:
        """How many calls are waiting for something."""

    @property
    def calls(self) -> int:
        """How many calls have finished since the worker started."""

    async def adopt(self, sock: socket.socket) -> None:
        """Serve an accepted connection. `sock` must be non-blocking, and belongs to the connections from now on."""

    def release_idle(self, limit: int | None = None) -> list[socket.socket]:
        """Stop serving up to `limit` connections that are between calls, and return their sockets for another process."""

    async def close(self, timeout_s: float) -> None:
        """Wait for up to `timeout_s` seconds until the calls in progress finish. Then close all connections."""


@dataclass(frozen=True)
class Opened:
    """
    A service that is open in one worker.

    Attributes:
        problems: the plugins that could not be loaded.
        files: the files of all plugins. If one changes, the plugins are reloaded with `reload`.
        mark_blocking: called with the name of each plugin that was found to block, in this worker or in another one.
        abandon: called in a child process that a plugin has forked. Closes what belongs to the worker.
        reporter: reports the worker's metrics; None if they are not wanted.
        sleep: called when the worker becomes idle.
        wake: called when the worker is no longer idle.
        leave: called before connections are passed to another worker or runner for good.
        recording: records calls while it is on; None if calls can't be recorded.
        tracing: exports spans; None if they are not wanted.
    """

    connections: Connections
    problems: tuple[Problem, ...]
    files: tuple[str, ...]
    mark_blocking: Callable[[str], None]
    reporter: "Reporter | None" = None
    abandon: Callable[[], None] = lambda: None
    sleep: Callable[[], None] = lambda: None
    wake: Callable[[], None] = lambda: None
    recording: "Recording | None" = None
    tracing: "Tracing | None" = None
    leave: Callable[[], None] = lambda: None


class Service(Protocol):
    """The code that runs in the workers of a supervisor."""

    def prepare(self, managed: bool) -> None:
        """Prepare, once and in the supervisor, what all workers need. Must not import a plugin or start a thread."""

    def open(self, loop: "asyncio.AbstractEventLoop", report_blocking: Callable[[str], None]) -> Opened:
        """
        Open the service in a worker, after the fork and before the event loop runs.

        Args: report_blocking: call it, from any thread, with the name of a plugin that was found to block.
        Raises: Exception: the worker can't serve. The text of the exception is logged.
        """


class PluginService:
    """Runs plugins for the calls of the gateway."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store_path = Path()
        self._write_lock: WriteLock | None = None
        self._fallback: MemoryFallback | None = None

    def prepare(self, managed: bool) -> None:
        """Import the libraries, so that the workers share their memory, and choose the path of the conf store that they share."""
        # Late: the socket has to be bound first, or connections of a gateway that starts this runner are refused. Source: design, 7.
        import uvloop  # noqa: F401

        import apisix.runner.worker.connection_handler  # noqa: F401
        from apisix.runner.conf_store.memory_fallback import MemoryFallback
        from apisix.runner.conf_store.store import choose_path, clear_stale
        from apisix.runner.conf_store.write_lock import WriteLock
        from apisix.runner.worker.shared_store import memory_directory

        socket_path = Path(self._settings.socket_file)
        if managed:
            clear_stale(socket_path.parent, memory_directory())
        file = self._settings.conf_store_file
        self._store_path = choose_path(socket_path, None if file is None else Path(file))
        if self._settings.tracing_enabled:
            from apisix.runner.tracing.provider import prepare_tracing

            prepare_tracing()
        if self._settings.state_url is not None:
            from apisix.runner.state import redis_server  # noqa: F401
        self._write_lock = WriteLock()
        self._fallback = MemoryFallback()

    def open(self, loop: "asyncio.AbstractEventLoop", report_blocking: Callable[[str], None]) -> Opened:
        """Load the plugins and open the store."""
        from apisix.runner.conf_store.store import ConfStore
        from apisix.runner.logging import setup as logs
        from apisix.runner.plugin.loading.registry import Registry
        from apisix.runner.plugin.plugin_type import PluginType
        from apisix.runner.state import backend
        from apisix.runner.worker import shared_store
        from apisix.runner.worker.connection_handler import ConnectionHandlers
        from apisix.runner.worker.context import make_context
        from apisix.runner.worker.log_redaction import LogRedaction
        from apisix.runner.worker.observers import Recording

        settings = self._settings
        backend.choose(shared_store.opener_for(settings))  # before plugins are imported, which may use it
        if not settings.log_effects:  # in the terminal of `dev`, authors see what they log
            logs.set_replacement(LogRedaction(settings))
        store = ConfStore(
            self._store_path,
            expire_s=settings.conf_expire_s,
            max_entries=settings.conf_store_max_entries,
            write_lock=self._write_lock,
            fallback=self._fallback,
        )
        tracing = None
        if settings.tracing_enabled:  # before plugins are imported, which may create tracers
            from apisix.runner.tracing.provider import Tracing

            tracing = Tracing(settings)
        registry = Registry.load(settings.plugins, settings.plugin_modules)
        context = make_context(settings, registry, store, loop, [] if tracing is None else [tracing.listener])
        context.runtime.blocking_detector.on_mark = report_blocking
        recording = Recording(context.runtime, settings)

        def further() -> "Iterable[Family]":
            from apisix.runner.metrics.collecting import families_of_background, families_of_pool

            yield from recording.families()
            yield from shared_store.families()
            yield from families_of_pool(context.pool)
            yield from families_of_background(context.plugin_tasks)
            yield from context.metadata.families()

        reporter = None
        if settings.metrics_address is not None:
            from apisix.runner.metrics.collecting import Reporter

            reporter = Reporter(context.runtime, store.count, MAX_MESSAGE_BYTES - 64, further)

        def mark_blocking(name: str) -> None:
            plugin_type = registry.get(name)
            # If the author has set `blocking`, that applies.
            if isinstance(plugin_type, PluginType) and plugin_type.blocking is None:
                plugin_type.blocking = True

        handlers = ConnectionHandlers(loop, context)

        def abandon() -> None:
            recording.abandon()
            handlers.abandon()

        return Opened(
            handlers,
            tuple(Problem(f"{problem.file}:{problem.name or ''}", str(problem)) for problem in registry.problems),
            tuple({*(plugin_type.source.file for plugin_type in registry.types), *(problem.file for problem in registry.problems)}),
            mark_blocking,
            reporter,
            abandon,
            context.runtime.blocking_detector.sleep,
            context.runtime.blocking_detector.wake,
            recording,
            tracing,
            context.metadata.share,
        )
