# SPDX-License-Identifier: Apache-2.0
"""What a worker does for its connections: the seam between the processes and the plugins."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from apisix.runner.ipc.channel import MAX_MESSAGE_BYTES, Problem
from apisix.runner.settings.table import Settings

if TYPE_CHECKING:
    import asyncio  # some 30 ms that would stand before the socket

    from apisix.runner.conf_store.memory_fallback import MemoryFallback
    from apisix.runner.conf_store.write_lock import WriteLock
    from apisix.runner.metrics.collecting import Reporter


class Connections(Protocol):
    """
    The connections of a worker.

    Attributes:
        on_idle: called, while it is set, when a connection has become idle or has gone.
        on_activity: called and reset to None, while it is set, when something arrives on a connection.
    """

    on_idle: Callable[[], None] | None
    on_activity: Callable[[], None] | None

    @property
    def connections(self) -> int:
        """How many connections are open."""

    @property
    def in_flight(self) -> int:
        """How many calls wait for something now."""

    @property
    def calls(self) -> int:
        """How many calls were answered in all."""

    async def adopt(self, sock: socket.socket) -> None:
        """Serve an accepted, non-blocking connection, which belongs to the loop from now on."""

    def release_idle(self, limit: int | None = None) -> list[socket.socket]:
        """Stop serving up to `limit` connections that are between calls, and return their sockets for another process to go on."""

    async def close(self, timeout_s: float) -> None:
        """Let running calls end, for up to `timeout_s` seconds, then cut all connections."""


@dataclass(frozen=True)
class Opened:
    """
    A service that is open in one worker.

    Attributes:
        problems: the plugins that could not be loaded.
        files: those that were, and that a change of is a reason to reload.
        mark_blocking: to be told the names of plugins that were found to block, here or elsewhere.
        abandon: to be called in a child that a plugin has forked: closes what is the worker's.
        reporter: reports the worker's metrics; None if they are not wanted.
        sleep: called when the worker has nothing to do any more.
        wake: called when it has something to do again.
    """

    connections: Connections
    problems: tuple[Problem, ...]
    files: tuple[str, ...]
    mark_blocking: Callable[[str], None]
    reporter: "Reporter | None" = None
    abandon: Callable[[], None] = lambda: None
    sleep: Callable[[], None] = lambda: None
    wake: Callable[[], None] = lambda: None


class Service(Protocol):
    """What runs in the workers of a supervisor."""

    def prepare(self, managed: bool) -> None:
        """Do once, in the supervisor, what all workers need. Must import no plugin and start no thread."""

    def open(self, loop: "asyncio.AbstractEventLoop", report_blocking: Callable[[str], None]) -> Opened:
        """
        Begin, in a worker, after the fork. The loop does not run yet.

        Args: report_blocking: to be called, from any thread, with the name of a plugin that was found to block.
        Raises: Exception: the worker can't serve; the text is shown.
        """


class PluginService:
    """Run plugins for the gateway's calls."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store_path = Path()
        self._write_lock: WriteLock | None = None
        self._fallback: MemoryFallback | None = None

    def prepare(self, managed: bool) -> None:
        """Import the libraries, so that the workers share their memory, and choose where the store lies, which they share too."""
        # Late: the socket has to be bound before any of this, or a gateway that starts us gets refused. Source: design, 7.
        import uvloop  # noqa: F401

        import apisix.runner.worker.connection_handler  # noqa: F401
        from apisix.runner.conf_store.memory_fallback import MemoryFallback
        from apisix.runner.conf_store.store import choose_path, clear_stale
        from apisix.runner.conf_store.write_lock import WriteLock

        socket_path = Path(self._settings.socket_file)
        if managed:
            clear_stale(socket_path.parent)
        file = self._settings.conf_store_file
        self._store_path = choose_path(socket_path, None if file is None else Path(file))
        self._write_lock = WriteLock()
        self._fallback = MemoryFallback()

    def open(self, loop: "asyncio.AbstractEventLoop", report_blocking: Callable[[str], None]) -> Opened:
        """Load the plugins and open the store."""
        from apisix.runner.conf_store.store import ConfStore
        from apisix.runner.plugin.plugin_type import PluginType
        from apisix.runner.plugin.registry import Registry
        from apisix.runner.worker.connection_handler import ConnectionHandlers, make_context

        settings = self._settings
        store = ConfStore(
            self._store_path,
            expire_s=settings.conf_expire_s,
            max_entries=settings.conf_store_max_entries,
            write_lock=self._write_lock,
            fallback=self._fallback,
        )
        registry = Registry.load(settings.plugins, settings.plugin_modules)
        context = make_context(settings, registry, store, loop)
        context.runtime.blocking_detector.on_mark = report_blocking

        reporter = None
        if settings.metrics_address is not None:
            from apisix.runner.metrics.collecting import Reporter

            reporter = Reporter(context.runtime, store.count, MAX_MESSAGE_BYTES - 64)

        def mark_blocking(name: str) -> None:
            plugin_type = registry.get(name)
            # The author's own word rules.
            if isinstance(plugin_type, PluginType) and plugin_type.blocking is None:
                plugin_type.blocking = True

        handlers = ConnectionHandlers(loop, context)
        return Opened(
            handlers,
            tuple(Problem(f"{problem.file}:{problem.name or ''}", str(problem)) for problem in registry.problems),
            tuple({*(plugin_type.source.file for plugin_type in registry.types), *(problem.file for problem in registry.problems)}),
            mark_blocking,
            reporter,
            handlers.abandon,
            context.runtime.blocking_detector.sleep,
            context.runtime.blocking_detector.wake,
        )
