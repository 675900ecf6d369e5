# SPDX-License-Identifier: Apache-2.0
"""
The supervisor: it owns the socket, accepts connections, and passes them to its workers.

`Supervisor.run` is the whole life of the process: startup, main loop, shutdown.

It runs no plugins, no threads and no asyncio event loop, so a plugin cannot stop it. Source: design, 7.
"""

import gc
import logging
import os
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from apisix.compiled import engine
from apisix.runner.errors import SettingsError
from apisix.runner.ipc.channel import Channel
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor import gateway_process as managed
from apisix.runner.supervisor.file_watch import FileWatch
from apisix.runner.supervisor.limits import raise_descriptor_limit, worker_count
from apisix.runner.supervisor.listening.acceptor import Acceptor
from apisix.runner.supervisor.listening.credentials import access_for, peer_of, user_name
from apisix.runner.supervisor.listening.listener import Listener, is_open_to_all
from apisix.runner.supervisor.recording import RecordingSwitch
from apisix.runner.supervisor.shutdown import Shutdown
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.watchdog import Watchdog
from apisix.runner.worker.allocator import keep_freed_memory
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.service import PluginService, Service
from apisix.runner.worker.stack_dump import StackDump

if TYPE_CHECKING:
    from apisix.runner.metrics.http_end import HttpServer
    from apisix.runner.supervisor.status import Refusals

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often to check whether the socket file is still the runner's and, with `reload`, whether plugins have changed, in seconds."""
LOOK_FOR_USERS_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""When to look again for the user of the gateway's workers, which may change it after they start."""


def run(settings: Settings, service: Service | None = None) -> int:
    """
    Run until the runner is told to stop. This is `apisix-runner start`.

    Args: service: what the workers do. The default is to run plugins.
    Returns: the exit status: 0 after a stop, 1 if no worker could serve, 2 if the runner can't start with the settings.
    """
    try:
        return Supervisor(Reactor(), settings, service or PluginService(settings)).run()
    except SettingsError as error:
        print(f"apisix-runner: {error}", file=sys.stderr)
        return 2


class Supervisor:
    """The supervisor of a runner. It listens from its creation on, and `run` serves until the runner is told to stop."""

    def __init__(self, reactor: Reactor, settings: Settings, service: Service) -> None:
        self._reactor = reactor
        self._settings = settings
        self._service = service
        # A signal that arrives before the event loop runs is handled by its first iteration, and does not kill the process.
        for signum in (signal.SIGTERM, signal.SIGINT):
            reactor.on_signal(signum, partial(self._on_stop_signal, signum))
        reactor.on_signal(signal.SIGHUP, self._on_reload_signal)
        reactor.on_signal(signal.SIGUSR1, self._on_record_signal)
        workers = worker_count(settings.workers)
        raise_descriptor_limit(workers)
        self._gateway_pid = managed.gateway_pid(settings.socket_file)
        self._gateway_users = self._find_gateway_users()
        self._access = access_for(settings, self._gateway_users)
        if settings.metrics_address is not None:
            from apisix.runner.metrics.page import check_metrics  # late, because few need it and the socket is not bound yet

            check_metrics(settings)
        if settings.record_file is not None:
            from apisix.runner.recording.file import check_file  # late, for the same reason

            check_file(settings)
        if settings.tracing_enabled:
            from apisix.runner.tracing.provider import check_tracing

            check_tracing()
        if settings.state_url is not None:
            from apisix.runner.worker.shared_store import check_store

            check_store(settings)
        listener = Listener.bind(settings.socket_file, self._access)
        self._lifeline: managed.Lifeline | None = None
        self._watch: FileWatch | None = None
        self._metrics: HttpServer | None = None
        self._refused_peers = 0
        self._refused_connections = 0
        self._pool = WorkerPool(reactor, settings, workers, self._run_worker)
        self._recording = RecordingSwitch(reactor, settings, self._pool)
        self._acceptor = Acceptor(reactor, listener, self._access, self._pool, self._place, self._close_metrics)
        self._shutdown = Shutdown(
            reactor, settings, self._acceptor, self._pool, gateway_pid=self._gateway_pid, close_metrics=self._close_metrics
        )

    def run(self) -> int:
        """Serve until the runner is told to stop. Return the exit status."""
        try:
            self._prepare()
        except BaseException:
            if self._acceptor.listener is not None:
                self._acceptor.listener.unlink()
            raise
        if not any(map(self._reactor.signal_age_s, (signal.SIGTERM, signal.SIGINT))):
            self._pool.start()
        Watchdog(self._reactor, self._settings, self._pool)
        self._reactor.run(until=self._is_done)
        self._finish()
        return 1 if self._pool.failure else 0

    # Startup

    def _prepare(self) -> None:
        from apisix.runner.logging import setup as logs  # late, because it takes long and the socket is bound by now

        logs.configure(self._settings)
        logs.log_stray_errors()
        keep_freed_memory()  # the workers inherit it
        self._service.prepare(self._gateway_pid is not None)
        self._reactor.on_signal(signal.SIGCHLD, self._pool.reap)
        self._pool.reap()  # orphans that ended before, if this is process 1 of a container
        self._pool.on_fork = self._forget
        self._reactor.call_every(LOOK_S, self._examine_socket)
        if self._settings.reload:
            self._watch = FileWatch(self._settings.plugins)
            self._pool.on_files = self._watch.add_files
            self._reactor.call_every(LOOK_S, self._examine_files)
        if self._gateway_pid is not None:
            self._follow_gateway(self._gateway_pid)
        if self._settings.metrics_address is not None:
            self._metrics = self._serve_metrics()
        # The garbage collector does not write to existing objects any more, so the workers share their memory.
        gc.collect()
        gc.freeze()
        self._log_start()
        self._acceptor.meet_predecessor()

    def _serve_metrics(self) -> "HttpServer | None":
        from apisix.runner.metrics.page import serve_metrics
        from apisix.runner.supervisor.status import all_families, health_page

        return serve_metrics(
            self._reactor,
            self._settings,
            families=lambda: all_families(self._pool, self._refusals()),
            health=lambda: health_page(self._pool),
        )

    def _refusals(self) -> "Refusals":
        from apisix.runner.supervisor.status import Refusals

        return Refusals(self._refused_peers, self._refused_connections + self._acceptor.refused)

    def _log_start(self) -> None:
        path = self._settings.socket_file
        managed = f", managed by the gateway (pid {self._gateway_pid})" if self._gateway_pid else ""
        logger.info("listening on %s%s (%s)", path, managed, engine())
        if self._gateway_pid is None and is_open_to_all(directory := os.path.dirname(path)):
            logger.warning(
                "all users can write to %s, so any user of this machine can listen on %s while no runner does, and would receive the "
                "gateway's requests. Set socket.file to a path in a directory that only the runner can write to",
                directory,
                path,
            )
        self._recording.begin()
        listener = self._acceptor.listener
        if listener is not None and (displaced_pid := listener.displaced_pid) is not None:
            logger.warning(
                "%s was taken over from a runner%s, which hands its connections over and then exits",
                path,
                f" (pid {displaced_pid})" if displaced_pid else "",
            )

    def _run_worker(self, channel: Channel, dump: StackDump, heartbeat: Heartbeat, marks: frozenset[str], supervisor_pid: int) -> int:
        from apisix.runner.worker.worker import serve

        return serve(channel, dump, heartbeat, self._service, marks, supervisor_pid)

    def _forget(self) -> None:
        """Called in a new worker: close what belongs to the supervisor."""
        self._reactor.close()
        self._acceptor.forget()
        if self._metrics is not None:
            self._metrics.forget()
        if self._lifeline is not None:
            self._lifeline.close()

    # Main loop: which connections are admitted

    def _place(self, connection: socket.socket) -> None:
        """Pass a connection on, or close it."""
        if not self._admits(connection):
            self._refused_peers += 1
            connection.close()
        elif self._pool.connections >= self._settings.max_connections:
            self._refused_connections += 1
            logger.error("a connection was refused: %d are open, as many as limits.max_connections allows", self._pool.connections)
            connection.close()
        else:
            self._pool.place(connection)

    def _admits(self, connection: socket.socket) -> bool:
        try:
            peer = peer_of(connection)
        except OSError:
            return False
        if self._access.admits(connection, peer) or (self._look_for_gateway_users() and self._access.admits(connection, peer)):
            return True
        logger.warning(
            "a connection of user %s (pid %d) was refused. If that is the gateway, add the user to socket.allow_users",
            user_name(peer.uid),
            peer.pid,
        )
        return False

    # Main loop: the gateway that manages this runner

    def _find_gateway_users(self) -> frozenset[int]:
        if self._gateway_pid is None or os.geteuid() != 0:
            return frozenset()
        return managed.workers_users(self._gateway_pid)

    def _look_for_gateway_users(self) -> bool:
        """Admit the gateway's workers if they run as a user that was not known yet. Return whether they do."""
        users = self._gateway_users | self._find_gateway_users()
        if users == self._gateway_users:
            return False
        self._gateway_users = users
        self._access = access_for(self._settings, users)
        logger.info("the gateway's workers run as %s, so connections of this user are accepted", ", ".join(map(user_name, sorted(users))))
        self._acceptor.grant(self._access)
        return True

    def _follow_gateway(self, pid: int) -> None:
        if not self._gateway_users:
            for delay_s in LOOK_FOR_USERS_S:
                self._reactor.call_later(delay_s, self._look_for_gateway_users)
        self._lifeline = managed.Lifeline(pid)
        if self._lifeline.watchable:
            self._reactor.watch(self._lifeline, self._gateway_gone)
        else:
            lifeline = self._lifeline
            self._reactor.call_every(managed.POLL_S, lambda: None if lifeline.alive() else self._gateway_gone())

    def _gateway_gone(self) -> None:
        if self._lifeline is not None:
            self._reactor.unwatch(self._lifeline)
        self._shutdown.on_gateway_gone()

    # Main loop: reloads, and checks that are repeated

    def _on_reload_signal(self) -> None:
        self._pool.reload("SIGHUP")

    def _on_record_signal(self) -> None:
        self._recording.toggle()

    def _examine_socket(self) -> None:
        if self._acceptor.leaving:
            return
        if self._acceptor.listener is not None:
            self._acceptor.check_path()
        elif self._pool.connections == 0:
            logger.info("the last connection is closed, so this runner exits")
            self._shutdown.begin(0.0)

    def _examine_files(self) -> None:
        if self._watch is not None and (changed := self._watch.changed()):
            self._pool.reload(f"{', '.join(changed[:3])}{' and more' if len(changed) > 3 else ''} changed")

    # Shutdown

    def _on_stop_signal(self, signum: int) -> None:
        self._shutdown.on_signal(signum)

    def _is_done(self) -> bool:
        if self._pool.failure and not self._shutdown.stopping:
            logger.error("no worker can be started, so this runner exits: %s", self._pool.failure)
            self._shutdown.begin(0.0)
        self._acceptor.update()
        return self._shutdown.is_over()

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()

    def _finish(self) -> None:
        self._acceptor.close()
        self._recording.close()
        self._close_metrics()
        self._reactor.close()
        if self._lifeline is not None:
            self._lifeline.close()
        logger.info("stopped")
