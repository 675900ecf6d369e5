# SPDX-License-Identifier: Apache-2.0
"""
The supervisor: it owns the socket, accepts connections, and passes them to its workers.

It runs no plugins, no threads and no asyncio event loop, so a plugin cannot stop it. Source: design, 7.
"""

import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from apisix.compiled import engine
from apisix.runner.errors import SettingsError
from apisix.runner.ipc.channel import Channel
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor import gateway_process as managed
from apisix.runner.supervisor.credentials import access_for, peer_of, user_name
from apisix.runner.supervisor.file_watch import FileWatch
from apisix.runner.supervisor.limits import raise_descriptor_limit, worker_count
from apisix.runner.supervisor.listener import Hold, Listener, is_from_successor, is_listening, is_open_to_all
from apisix.runner.supervisor.refusal import refuse
from apisix.runner.supervisor.takeover import Predecessor, Successor
from apisix.runner.supervisor.watchdog import Watchdog
from apisix.runner.supervisor.worker_pool import WorkerPool
from apisix.runner.worker.allocator import keep_freed_memory
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.service import PluginService, Service
from apisix.runner.worker.stack_dump import StackDump

if TYPE_CHECKING:
    from apisix.runner.metrics.http_end import HttpServer

logger = logging.getLogger(__name__)

MANAGED_TIMEOUT_S: Final = 0.9
"""The gateway kills a runner 1 s after SIGTERM. Source: gateway contract, 8."""
STANDALONE_TIMEOUT_S: Final = 30.0
MARGIN_SHARE: Final = 0.1
LONGEST_MARGIN_S: Final = 0.15
"""The share of the shutdown timeout that remains for cutting calls in progress, and again for killed workers to exit."""
QUIET_S: Final = 1.0
"""A stand-alone runner that is stopping exits when no call and no connection has arrived for this long, in seconds."""
QUIET_POLL_S: Final = 0.05
KEEP_SHARE: Final = 0.5
"""The share of the time to stop after which a managed runner no longer serves, and keeps connections for a successor that is late."""
KEEP_S: Final = 10.0
"""How long the connections of a managed runner are kept for a successor that has not taken the path in time, in seconds."""
DWELL_S: Final = 0.2
"""
How long a displaced runner goes on accepting while it hands over, in seconds.

A client that had looked up the path before the successor took it can still be about to enter this runner's backlog, and what is in a
backlog when the listener is closed is lost.
"""
LOOK_S: Final = 0.5
"""How often to check whether the socket file is still the runner's and, with `reload`, whether plugins have changed, in seconds."""
ACCEPTS_AT_ONCE: Final = 64
LOOK_FOR_USERS_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""When to look again for the user of the gateway's workers, which may change it after they start."""


def run(settings: Settings, service: Service | None = None) -> int:
    """
    Run until told to stop: what `apisix-runner start` does.

    Args: service: what the workers do, plugins unless told otherwise.
    Returns: the exit status: 0 after a stop, 2 where the settings can't be met, 1 where no worker can work.
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
            reactor.on_signal(signum, partial(self._told_to_stop, signum))
        reactor.on_signal(signal.SIGHUP, lambda: self._pool.reload("SIGHUP"))
        workers = worker_count(settings.workers)
        raise_descriptor_limit(workers)
        self._gateway_pid = managed.gateway_pid(settings.socket_file)
        self._gateway_users = self._find_gateway_users()
        self._access = access_for(settings, self._gateway_users)
        if settings.metrics_address is not None:
            from apisix.runner.metrics.page import check_metrics  # late: few want it, and the socket is not bound yet

            check_metrics(settings)
        self._listener: Listener | None = Listener.bind(settings.socket_file, self._access)
        self._accepting = False
        self._displaced = False
        self._stopping = False  # told to stop, or no worker can serve
        self._ending = False  # the last phase: nothing new is served
        self._overdue = False  # the shutdown timeout is over
        self._keeping = False  # no worker serves any more, and connections are kept for a successor
        self._outlived = False  # whether this is the copy that keeps them
        self._kept: list[socket.socket] = []
        self._cut_s = 0.0  # when calls in progress are cut, by time.monotonic
        self._accepted = 0
        self._active = (0, 0.0)  # the calls and connections last counted, and when that number was new
        self._successor: Successor | None = None
        self._predecessor: Predecessor | None = None
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._lifeline: managed.Lifeline | None = None
        self._watch: FileWatch | None = None
        self._metrics: HttpServer | None = None
        self.refused_peers = 0
        self.refused_connections = 0
        self._pool = WorkerPool(reactor, settings, workers, self._run_worker)

    def run(self) -> int:
        """Serve until told to stop. Returns: the exit status."""
        try:
            self._prepare()
        except BaseException:
            if self._listener is not None:
                self._listener.unlink()
            raise
        if not any(map(self._reactor.signal_age_s, (signal.SIGTERM, signal.SIGINT))):
            self._pool.start()
        Watchdog(self._reactor, self._settings, self._pool)
        self._reactor.run(until=self._is_done)
        self._finish()
        return 1 if self._pool.failure else 0

    # Start

    def _prepare(self) -> None:
        from apisix.runner.logging import setup as logs  # late, like all that takes long: the socket is bound by now

        logs.configure(self._settings)
        logs.log_stray_errors()
        keep_freed_memory()  # the workers inherit it
        self._service.prepare(self._gateway_pid is not None)
        self._reactor.on_signal(signal.SIGCHLD, self._pool.reap)
        self._pool.on_fork = self._forget
        self._reactor.call_every(LOOK_S, self._look_at_socket)
        if self._settings.reload:
            self._watch = FileWatch(self._settings.plugins)
            self._pool.on_files = self._watch.add_files
            self._reactor.call_every(LOOK_S, self._look_at_files)
        if self._gateway_pid is not None:
            self._follow_gateway(self._gateway_pid)
        if self._settings.metrics_address is not None:
            self._metrics = self._serve_metrics()
        # The garbage collector does not write to existing objects any more, so the workers share their memory.
        gc.collect()
        gc.freeze()
        self._log_start()
        if self._listener is not None:
            self._meet_predecessor(self._listener)

    def _serve_metrics(self) -> "HttpServer | None":
        from apisix.runner.metrics.page import serve_metrics
        from apisix.runner.supervisor.status import Refusals, all_families, health_page

        return serve_metrics(
            self._reactor,
            self._settings,
            families=lambda: all_families(self._pool, Refusals(self.refused_peers, self.refused_connections)),
            health=lambda: health_page(self._pool),
        )

    def _log_start(self) -> None:
        path = self._settings.socket_file
        managed = f", managed by the gateway (pid {self._gateway_pid})" if self._gateway_pid else ""
        logger.info("listening on %s%s (%s)", path, managed, engine())
        if self._gateway_pid is None and is_open_to_all(directory := os.path.dirname(path)):
            logger.warning(
                "everybody may write to %s, so any user of this machine can listen on %s while no runner does, and would get the gateway's "
                "requests. Set socket.file to a path in a directory of the runner's own",
                directory,
                path,
            )
        if self._listener is not None and (displaced_pid := self._listener.displaced_pid) is not None:
            logger.warning(
                "%s was taken over from a runner%s, which hands its connections over and then ends",
                path,
                f" (pid {displaced_pid})" if displaced_pid else "",
            )

    def _run_worker(self, channel: Channel, dump: StackDump, heartbeat: Heartbeat, marks: frozenset[str], supervisor_pid: int) -> int:
        from apisix.runner.worker.worker import serve

        return serve(channel, dump, heartbeat, self._service, marks, supervisor_pid)

    def _forget(self) -> None:
        """Called in a new worker: close what belongs to the supervisor."""
        self._reactor.close()
        if self._listener is not None:
            self._listener.close()
        if self._metrics is not None:
            self._metrics.forget()
        if self._lifeline is not None:
            self._lifeline.close()
        for other in (self._successor, self._predecessor):
            if other is not None:
                other.forget()
        os.close(self._reserve)

    # Accepting

    def _accept_when_ready(self) -> None:
        # Without a worker, connections wait in the backlog.
        ready = self._pool.ready or self._pool.is_releasing
        if self._listener is None or self._accepting == ready:
            return
        self._accepting = ready
        if self._accepting:
            self._reactor.watch(self._listener, partial(self._accept, self._listener))
        else:
            self._reactor.unwatch(self._listener)

    def _accept(self, listener: Listener) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            if not self._accept_one(listener):
                break

    def _accept_one(self, listener: Listener) -> bool:
        """Accept one connection and pass it on or close it. Returns: whether there may be more."""
        try:
            connection = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_for_lack_of_descriptors(listener)
            else:
                logger.error("a connection can't be accepted: %s", error.strerror)
            return False
        if connection is None:
            return False
        if is_from_successor(connection):
            self._meet_successor(connection)
        else:
            self._accepted += 1
            self._place(connection)
        return True

    def _place(self, connection: socket.socket) -> None:
        """Pass a connection on, or close it."""
        if not self._admits(connection):
            self.refused_peers += 1
            connection.close()
        elif self._pool.connections >= self._settings.max_connections:
            self.refused_connections += 1
            logger.error("a connection was refused: there are %d, as many as limits.max_connections allows", self._pool.connections)
            connection.close()
        else:
            self._pool.place(connection)

    def _refuse_for_lack_of_descriptors(self, listener: Listener) -> None:
        # A closed connection is a 503 now; one that waits in the backlog is a 503 in a minute, and wakes us all the time.
        os.close(self._reserve)
        with suppress(OSError):
            if (connection := listener.accept()) is not None:
                self.refused_connections += 1
                connection.close()
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        logger.error("a connection was refused: the supervisor is out of file descriptors (ulimit -n)")

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

    # The gateway that manages us

    def _find_gateway_users(self) -> frozenset[int]:
        if self._gateway_pid is None or os.geteuid() != 0:
            return frozenset()
        return managed.workers_users(self._gateway_pid)

    def _look_for_gateway_users(self) -> bool:
        """Let the gateway's workers in, if they are of another user than was known. Returns: whether that has changed."""
        users = self._gateway_users | self._find_gateway_users()
        if users == self._gateway_users:
            return False
        self._gateway_users = users
        self._access = access_for(self._settings, users)
        logger.info("the gateway's workers run as %s, who may connect now", ", ".join(map(user_name, sorted(users))))
        if self._listener is not None:
            try:
                self._listener.grant(self._access)
            except OSError as error:
                logger.error("the socket can't be given to the gateway's workers: %s. Set socket.mode or socket.owner", error.strerror)
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
        if self._keeping:
            self._stop_keeping()
        elif not self._ending:
            logger.warning("the gateway (pid %s) is gone, so this runner ends", self._gateway_pid)
            self._stop(0.0)

    # The other runners of this path: the one before and the one after

    def _meet_predecessor(self, listener: Listener) -> None:
        connection, listener.predecessor = listener.predecessor, None
        if connection is not None:
            if self._predecessor is not None:
                self._predecessor.close()
            self._predecessor = Predecessor(self._reactor, connection, self._place, lambda: None)

    def _meet_successor(self, connection: socket.socket) -> None:
        if self._successor is not None:  # one that has not taken the path
            self._successor.close()
        self._successor = Successor(self._reactor, connection, self._successor_ready, self._successor_gone)

    def _successor_ready(self, successor: Successor) -> None:
        if self._listener is not None:
            self._look_for_displacement(self._listener)
        if self._displaced and successor is self._successor:
            self._pass_connections()

    def _successor_gone(self, successor: Successor) -> None:
        if self._successor is not successor or self._ending:
            return
        self._successor = None
        if self._displaced and self._listener is not None:
            if is_listening(self._listener.path):  # not a runner that takes connections over
                self._close_listener()
            else:
                logger.warning("the runner that had taken %s has ended before it could serve: this one goes on", self._listener.path)
                self._bind_again(self._listener)

    def _pass_connections(self) -> None:
        if self._ending or self._successor is None:
            return
        self._ending = True
        logger.info("the other runner takes the %d connections of this one, which ends", self._pool.connections)
        if self._predecessor is not None:
            self._predecessor.ask()  # what it still has goes the same way
        self._pool.pass_all_to(self._successor.take)
        for connection in self._kept:
            self._successor.take(connection)
        self._kept.clear()
        self._reactor.call_later(DWELL_S, self._close_listener)

    # What is looked at from time to time

    def _look_at_socket(self) -> None:
        if self._ending:
            return
        if self._listener is None:
            if self._pool.connections == 0:
                logger.info("the last connection is closed: this runner ends")
                self._stop(0.0)
        elif self._listener.hold() is Hold.GONE:
            self._bind_again(self._listener)
        else:
            self._look_for_displacement(self._listener)

    def _look_for_displacement(self, listener: Listener) -> None:
        if self._displaced or listener.hold() is not Hold.DISPLACED:
            return
        self._displaced = True
        while self._accept_one(listener):  # the connection of the successor may be among them
            pass
        if self._metrics is not None:  # the other one wants the address
            self._metrics.close()
        if self._successor is not None:
            logger.warning("%s leads to another runner now, which takes the connections of this one when it can serve", listener.path)
        else:
            logger.warning(
                "%s leads to another runner now: this one accepts nothing any more, and ends with its last connection", listener.path
            )
            self._close_listener()

    def _bind_again(self, old: Listener) -> None:
        try:
            new = Listener.bind(old.path, self._access)
        except SettingsError as error:
            logger.error("somebody has removed the socket, and it can't be made again: %s", error)
            return
        logger.warning("somebody has removed the socket %s: it is made again", old.path)
        self._close_listener()
        self._listener = new
        self._displaced = False
        self._meet_predecessor(new)

    def _look_at_files(self) -> None:
        if self._watch is not None and (changed := self._watch.changed()):
            self._pool.reload(f"{', '.join(changed[:3])}{' and more' if len(changed) > 3 else ''} changed")

    # Stop

    def _told_to_stop(self, signum: int) -> None:
        if self._stopping:
            logger.warning("%s again: stopping at once", signal.Signals(signum).name)
            if self._keeping:
                self._stop_keeping()
            self._stop_accepting()
            self._overdue = True
            self._pool.kill()
            return
        logger.info("%s: stopping", signal.Signals(signum).name)
        # After Ctrl-C, a person waits.
        accept_s = 0.0 if signum == signal.SIGINT else self._settings.stop_accepting_after_s
        self._stop(accept_s, age_s=self._reactor.signal_age_s(signum))

    def _stop(self, accept_s: float, age_s: float = 0.0) -> None:
        """
        Exit within the shutdown timeout. Accept for a part of it, because the gateway may still call, or a successor may take over.

        Args:
            accept_s: how long to accept at most, in seconds.
            age_s: how long ago the runner was told to stop, in seconds. It may have been starting since.
        """
        self._stopping = True
        self._pool.wind_down()
        timeout_s = self._settings.shutdown_timeout_s
        if timeout_s is None:
            timeout_s = STANDALONE_TIMEOUT_S if self._gateway_pid is None else MANAGED_TIMEOUT_S
        timeout_s = max(0.0, timeout_s - age_s)
        margin_s = min(LONGEST_MARGIN_S, MARGIN_SHARE * timeout_s)
        until_cut_s = timeout_s - 2 * margin_s
        self._cut_s = time.monotonic() + until_cut_s
        self._reactor.call_later(until_cut_s, partial(self._cut_calls, margin_s))
        self._reactor.call_later(timeout_s - margin_s, self._kill_the_rest)
        if accept_s == 0.0:
            self._stop_accepting()
            return
        if self._gateway_pid is None:
            self._reactor.call_later(min(accept_s, until_cut_s), self._stop_accepting)
            self._reactor.call_every(QUIET_POLL_S, self._stop_if_quiet)
        else:
            # The gateway that manages this runner gives it too little time to find out whether calls have ended.
            self._reactor.call_later(KEEP_SHARE * timeout_s, self._keep)

    def _stop_if_quiet(self) -> None:
        now_s = time.monotonic()
        seen = self._pool.calls + self._accepted
        if seen != self._active[0] or self._pool.busy or not self._active[1]:
            self._active = (seen, now_s)
        elif now_s - self._active[1] >= QUIET_S:
            self._stop_accepting()

    def _stop_accepting(self) -> None:
        if self._ending:
            return
        if self._listener is not None:
            self._look_for_displacement(self._listener)
        if self._displaced and self._successor is not None:
            self._pass_connections()
            return
        self._ending = True
        if self._listener is not None:
            self._listener.unlink()
            self._close_listener()
        if self._predecessor is not None:
            self._predecessor.close()
        self._pool.stop(max(0.0, self._cut_s - time.monotonic()))

    def _keep(self) -> None:
        """Take the connections from the workers, and keep them and the socket for a successor that is late."""
        if self._listener is not None:
            self._look_for_displacement(self._listener)
        if not self._displaced and not self._ending:
            self._keeping = True
            self._pool.pass_all_to(self._kept.append)

    def _outlive(self) -> None:
        """
        Let a copy of this process, without workers, keep the connections, and exit.

        The gateway kills a runner soon after it has told it to stop, also if its successor does not listen yet, as on a busy machine. The
        copy runs no plugin and answers nothing. What is sent on the connections meanwhile waits for the successor.
        """
        self._outlived = True
        try:
            if os.fork():
                self._pool.kill()
                logger.info("no other runner has taken the path yet: its connections are kept for one, for up to %g s. Stopped", KEEP_S)
                logging.shutdown()
                os._exit(0)
        except OSError as error:
            logger.error("the connections can't be kept for another runner: %s", error.strerror)
            self._stop_keeping()
            self._pool.kill()
            return
        # The pipes to the gateway are for a runner that it has started, and has an end.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        if self._metrics is not None:
            self._metrics.close()
        self._pool.abandon()
        self._overdue = False
        self._reactor.call_later(KEEP_S, self._stop_keeping)

    def _stop_keeping(self) -> None:
        if self._ending:
            return
        self._ending = self._overdue = True
        if self._listener is not None:
            self._listener.unlink()
            self._close_listener()
        for connection in self._kept:
            refuse(connection)
        self._kept.clear()

    def _cut_calls(self, timeout_s: float) -> None:
        if self._keeping and not self._ending:
            return  # nothing of what is kept is to be closed
        self._stop_accepting()
        if self._pool.workers:
            self._pool.stop(timeout_s)

    def _kill_the_rest(self) -> None:
        if self._keeping and not self._ending:
            if not self._outlived:
                self._outlive()
            return
        self._overdue = True
        self._close_listener()
        if self._pool.workers:
            logger.warning("%d workers have not finished in time and are killed", len(self._pool.workers))
            self._pool.kill()

    def _close_listener(self) -> None:
        """Accept what waits in the backlog, then listen no longer."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._reactor.unwatch(listener)
            self._accepting = False
            while self._accept_one(listener):
                pass
            listener.close()

    def _is_done(self) -> bool:
        if self._pool.failure and not self._stopping:
            logger.error("no worker can be started, so this runner ends: %s", self._pool.failure)
            self._stop(0.0)
        if self._predecessor is not None and self._pool.ready:
            self._predecessor.ask()
        self._accept_when_ready()
        if self._keeping and not self._ending and not self._outlived and not self._pool.workers:
            self._outlive()
        return self._ending and not self._pool.workers and (self._overdue or self._all_handed_over)

    @property
    def _all_handed_over(self) -> bool:
        """Whether nothing can come any more that the successor should get, and nothing waits to be sent to it."""
        is_last = self._predecessor is None or self._predecessor.gone
        return self._listener is None and is_last and (self._successor is None or not self._successor.pending)

    def _finish(self) -> None:
        for other in (self._successor, self._predecessor):
            if other is not None:
                other.close()
        if self._metrics is not None:
            self._metrics.close()
        self._reactor.close()
        if self._lifeline is not None:
            self._lifeline.close()
        os.close(self._reserve)
        logger.info("stopped")
