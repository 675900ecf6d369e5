# SPDX-License-Identifier: Apache-2.0
"""The worker processes of a supervisor: started, given connections, restarted when they exit, and replaced without losing connections."""

import errno
import logging
import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from apisix.runner.ipc import channel as messages
from apisix.runner.ipc.channel import AnyMessage
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.metrics.families import Totals
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool.backoff import Backoff
from apisix.runner.supervisor.worker_pool.balancing import least_loaded, surpluses
from apisix.runner.supervisor.worker_pool.forking import Body, fork_worker
from apisix.runner.supervisor.worker_pool.refusal import refuse
from apisix.runner.supervisor.worker_pool.worker_process import Stage, WorkerProcess, fate

logger = logging.getLogger(__name__)

JITTER: Final = 0.1
"""By how much of `max_requests` workers differ, so that they are not all replaced at once."""
START_ATTEMPTS: Final = 3
"""How often workers may exit while they start until the runner gives up, if none has ever served."""
RETRY_S: Final = 10.0
"""How long after a failed replacement the next one is tried, in seconds."""
TOGETHER_S: Final = 0.5
"""How long the first ready worker waits for the others, in seconds, so that it does not get all connections in the backlog."""
STALE_S: Final = 5.0
"""A reload that has taken this long, in seconds, is aborted if the code has changed again."""
TERM_PAUSE_S: Final = 0.1
"""How long after its SIGTERM a worker is replaced, in seconds. If the process group was sent one, the supervisor gets its own meanwhile."""
DRAIN_GRACE_S: Final = 5.0
"""How much longer than the timeout of a call a leaving worker may take, in seconds."""


@dataclass(eq=False)
class Replacement:
    """
    New workers that are starting to replace old ones. The old ones serve until all new ones are ready, and continue if a new one fails.

    Attributes:
        count: how many workers start; `incoming` are those that have been forked so far.
        outgoing: the workers to replace; empty if workers are missing.
        of_all: it is a rolling restart, which replaces all workers.
        forced: it is not aborted if a plugin cannot be loaded any more.
    """

    reason: str
    count: int
    incoming: list[WorkerProcess]
    outgoing: list[WorkerProcess]
    of_all: bool
    forced: bool
    began_s: float = field(default_factory=time.monotonic)


class WorkerPool:
    """
    Keep `count` workers running.

    Attributes:
        workers: all workers by pid, including those that are leaving.
        failure: why no worker has ever become ready; None if one has, or may still.
        restarts: how many workers were started to replace ones that exited unexpectedly.
        totals: the metrics of all workers.
        on_files: called with the files that plugins were loaded from.
        on_fork: called in each new process, to close what belongs to the supervisor.
        on_recorded: called with what a worker has recorded, when it has stopped recording.
        recording: whether the workers record calls.
    """

    def __init__(self, reactor: Reactor, settings: Settings, count: int, body: Body) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.failure: str | None = None
        self.restarts = 0
        self.totals = Totals()
        self.on_files: Callable[[tuple[str, ...]], None] = lambda files: None
        self.on_fork: Callable[[], None] = lambda: None
        self.on_recorded: Callable[[messages.Recorded], None] = lambda message: None
        self.recording = settings.record_file is not None and settings.record_at_start
        self._reactor = reactor
        self._settings = settings
        self._count = count
        self._body = body
        self._marks: set[str] = set()
        self._recording_pids: set[int] = set()  # workers that were told to stop recording, and have not reported it
        self._replacements: list[Replacement] = []
        self._waiting: deque[socket.socket] = deque()  # handed back while no worker serves
        self._backoff = Backoff()
        self._forked_so_far = 0
        self._failed_starts = 0
        self._ever_served = False
        self._began_s = time.monotonic()
        self._planned_starts = 0  # starts for which a timer is set
        self._reload_again: str | None = None
        self._replace_after_s = 0.0
        self._stopping = False
        self._winding_down = False
        self._successor: Callable[[socket.socket], None] | None = None
        self._actions: dict[type[AnyMessage], Callable[[WorkerProcess, Any, socket.socket | None], None]] = {
            messages.Ready: self._ready,
            messages.Failed: self._failed,
            messages.Taken: lambda worker, message, connection: worker.taken(),
            messages.HandedBack: self._handed_back,
            messages.Stats: self._stats,
            messages.Measured: lambda worker, message, connection: self.totals.take(worker.number, message.family),
            messages.BlockingMark: self._mark,
            messages.ReplaceMe: self._replace_soon,
            messages.Recorded: self._recorded,
        }

    @property
    def serving(self) -> list[WorkerProcess]:
        """The workers to which connections can be passed."""
        return [worker for worker in self.workers.values() if worker.stage is Stage.SERVING]

    @property
    def ready(self) -> bool:
        """Whether it is time to accept connections."""
        up = len(self.serving)
        return up == self._count or (up > 0 and time.monotonic() > self._began_s + TOGETHER_S)

    @property
    def still_recording(self) -> bool:
        """Whether a worker that was told to stop recording has not written all calls yet."""
        return not self._recording_pids.isdisjoint(self.workers)

    @property
    def connections(self) -> int:
        """How many connections there are in all."""
        return sum(worker.load for worker in self.workers.values()) + len(self._waiting)

    @property
    def is_releasing(self) -> bool:
        """Whether connections are passed to another runner."""
        return self._successor is not None

    @property
    def calls(self) -> int:
        """How many calls the current workers have answered, as far as they have reported."""
        return sum(worker.calls for worker in self.workers.values())

    @property
    def busy(self) -> bool:
        """Whether a call is in progress. A worker whose heartbeat is late is probably running one."""
        now_s = time.monotonic()
        return any(worker.in_flight or (worker.stage is Stage.SERVING and worker.late(now_s)) for worker in self.workers.values())

    def start(self) -> None:
        """Start all workers, one in each iteration of the event loop, so that signals are handled in between."""
        self._began_s = time.monotonic()
        self._planned_starts = self._count
        self._start_planned("start", self._count - 1)

    def place(self, connection: socket.socket) -> None:
        """
        Pass a connection to the worker that has fewest, or to the successor while connections are handed over.

        If there is no worker, keep the connection for the next one; while stopping, refuse it.
        """
        if self._successor is not None:
            self._successor(connection)
        elif serving := self.serving:
            worker = least_loaded(serving, time.monotonic())
            worker.pass_connection(connection)
            self._after_send(worker)
        elif self._stopping:
            refuse(connection)
        else:
            self._waiting.append(connection)

    def even_out(self) -> None:
        """Ask workers with too many connections to hand some back."""
        for worker, count in surpluses(self.serving, time.monotonic()):
            self.send(worker, messages.Shed(count))

    def record(self, *, on: bool) -> None:
        """Let all workers record calls, or stop recording, also those that start later."""
        self.recording = on
        self._recording_pids = set() if on else set(self.workers)
        for worker in self.workers.values():
            self.send(worker, messages.Record(on=on))

    def reload(self, reason: str) -> None:
        """Start a rolling restart: replace all workers by new ones, which load the plugins again."""
        if self._stopping or self._winding_down:
            return
        if (running := self._running_reload()) is not None:
            if self._reload_again is None:
                # If a module hangs while it is imported, a corrected one must not wait for it.
                self._reactor.call_later(running.began_s + STALE_S - time.monotonic(), self._reload_once_more)
            self._reload_again = reason
            return
        # Workers that are starting may have read the old code.
        for replacement in list(self._replacements):
            self._drop(replacement)
        logger.info("reloading: %s", reason)
        self._replace_workers(reason, self._count, self.serving, of_all=True)

    def replace(self, worker: WorkerProcess, reason: str, *, forced: bool = False) -> None:
        """Replace one worker, unless it is being replaced or replacing it has just failed."""
        leaving = any(worker in replacement.outgoing for replacement in self._replacements)
        if worker.stage is not Stage.SERVING or leaving or self._stopping or self._winding_down or time.monotonic() < self._replace_after_s:
            return
        logger.info("%s is replaced: %s", worker, reason)
        self._replace_workers(reason, 1, [worker], forced=forced)

    def give_up(self, worker: WorkerProcess) -> None:
        """Start another worker instead of a stuck one. The caller kills the stuck one."""
        worker.stage = Stage.DOOMED
        self._refill(worker)

    def wind_down(self) -> None:
        """Continue to serve, but replace workers only if they exit. Called when the runner was told to stop."""
        self._winding_down = True

    def pass_all_to(self, successor: Callable[[socket.socket], None]) -> None:
        """Give all connections to `successor`, each as soon as no call is in progress on it, and let the workers exit after that."""
        self._successor = successor
        self._end_starts()
        while self._waiting:
            successor(self._waiting.popleft())
        for worker in self.serving:
            self._drain(worker)

    def stop(self, timeout_s: float) -> None:
        """Let all workers finish the calls in progress and exit within `timeout_s` seconds. Those that are starting end at once."""
        self._end_starts()
        while self._waiting:
            refuse(self._waiting.popleft())
        for worker in self.workers.values():
            if worker.stage in (Stage.SERVING, Stage.LEAVING):
                self.send(worker, messages.Stop(timeout_s))

    def _end_starts(self) -> None:
        self._stopping = True
        for replacement in list(self._replacements):
            self._drop(replacement)

    def abandon(self) -> None:
        """Close everything of all workers, in a process that is not their parent."""
        for worker in self.workers.values():
            self._reactor.unwatch(worker.channel)
            for connection in worker.close():
                self.place(connection)
        self.workers.clear()

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers.values():
            worker.kill()

    def reap(self) -> None:
        """Wait for processes that have exited."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if worker := self.workers.get(pid):
                self._exited(worker, status)

    def send(self, worker: WorkerProcess, message: AnyMessage) -> None:
        """Send a message that carries no connection."""
        worker.channel.send(message)
        self._after_send(worker)

    # Replacements

    def _replace_workers(
        self, reason: str, count: int, outgoing: list[WorkerProcess], *, of_all: bool = False, forced: bool = False
    ) -> None:
        replacement = Replacement(reason, count, [], list(outgoing), of_all, forced)
        self._replacements.append(replacement)
        self._fork_next(replacement)

    def _fork_next(self, replacement: Replacement) -> None:
        if replacement not in self._replacements:  # it was aborted
            return
        try:
            replacement.incoming.append(self._fork())
        except OSError as error:
            limits = " (look at ulimit -u and the memory)" if error.errno in (errno.EAGAIN, errno.ENOMEM) else ""
            self._start_failed(replacement, f"a worker can't be started: {error.strerror}{limits}")
            self._refill()
            return
        if len(replacement.incoming) < replacement.count:
            # One in each iteration of the event loop, so that a signal does not wait for all of them.
            self._reactor.call_later(0.0, partial(self._fork_next, replacement))

    def _fork(self) -> WorkerProcess:
        self._forked_so_far += 1
        limit = self._settings.max_requests
        limit += random.randrange(int(limit * JITTER) + 1)  # noqa: S311  # no secret
        worker = fork_worker(self._forked_so_far, limit, frozenset(self._marks), self._body, self._forget)
        self.workers[worker.pid] = worker
        self._reactor.watch(worker.channel, partial(self._receive, worker))
        if self.recording:
            self.send(worker, messages.Record(on=True))  # the worker receives it before its first connection
        return worker

    def _forget(self) -> None:
        for worker in self.workers.values():
            worker.forget()
        for connection in self._waiting:
            connection.close()
        self.on_fork()

    def _complete(self, replacement: Replacement) -> None:
        self._replacements.remove(replacement)
        for worker in replacement.incoming:
            worker.stage = Stage.SERVING
        self._ever_served = True
        while self._waiting:
            self.place(self._waiting.popleft())
        for worker in replacement.outgoing:
            self._drain(worker)
        if replacement.outgoing:
            logger.info("%s: %s in the place of %s", replacement.reason, _listed(replacement.incoming), _listed(replacement.outgoing))
        else:
            self.even_out()  # otherwise the connections of the workers that leave are spread
        self._reload_once_more()

    def _abort(self, replacement: Replacement, reason: str) -> None:
        self._drop(replacement)
        if replacement.outgoing:
            logger.error("%s: the new workers can't serve, so the old ones continue: %s", replacement.reason, reason)
            self._replace_after_s = time.monotonic() + RETRY_S
        else:
            logger.error("%s: %s", replacement.reason, reason)
        self._reload_once_more()

    def _drop(self, replacement: Replacement) -> None:
        self._replacements.remove(replacement)
        for worker in replacement.incoming:
            worker.kill()

    def _running_reload(self) -> Replacement | None:
        """Return the rolling restart that is in progress, unless it has taken too long."""
        for replacement in self._replacements:
            if replacement.of_all and time.monotonic() - replacement.began_s < STALE_S:
                return replacement
        return None

    def _reload_once_more(self) -> None:
        """Start the reload that was requested during another one, once that one has ended or has taken too long."""
        if self._reload_again is not None and self._running_reload() is None:
            reason, self._reload_again = self._reload_again, None
            self.reload(reason)

    def _start_failed(self, replacement: Replacement, reason: str, *, final: bool = False) -> None:
        self._failed_starts += 1
        if not self._ever_served and (final or self._failed_starts >= START_ATTEMPTS):
            self.failure = reason
        self._abort(replacement, reason)

    def _refill(self, instead_of: WorkerProcess | None = None) -> None:
        """Start workers if there are too few, at once or after a delay."""
        lived_s = 0.0 if instead_of is None else time.monotonic() - instead_of.started_s
        while not self._stopping and self._missing() > self._planned_starts:
            self.restarts += 1
            self._planned_starts += 1
            self._reactor.call_later(self._backoff.next_delay_s(lived_s), partial(self._start_planned, "a worker has ended"))

    def _start_planned(self, reason: str, others: int = 0) -> None:
        """Start one planned worker, unless there are enough by now, and then `others`, one in each iteration of the event loop."""
        self._planned_starts -= 1
        if not self._stopping and self._missing() > self._planned_starts:
            self._replace_workers(reason, 1, [])
        if others:
            self._reactor.call_later(0.0, partial(self._start_planned, reason, others - 1))

    def _missing(self) -> int:
        expected = len(self.serving)
        for replacement in self._replacements:
            expected += replacement.count - sum(worker.stage is Stage.SERVING for worker in replacement.outgoing)
        return self._count - expected

    # Exits of workers

    def _drain(self, worker: WorkerProcess) -> None:
        worker.stage = Stage.LEAVING
        self.send(worker, messages.Drain())
        self._reactor.call_later(self._settings.plugin_timeout_s + DRAIN_GRACE_S, partial(self._end_leaving, worker))

    def _end_leaving(self, worker: WorkerProcess) -> None:
        if worker.pid in self.workers:
            logger.warning("%s has not finished its calls in time and is killed", worker)
            worker.kill()

    def _exited(self, worker: WorkerProcess, status: int) -> None:
        while self._receive(worker):  # its last messages
            pass
        del self.workers[worker.pid]
        self.totals.end(worker.number)
        self._reactor.unwatch(worker.channel)
        unexpected = worker.stage is Stage.SERVING or (worker.stage is Stage.LEAVING and status != 0)
        if unexpected and not self._stopping:
            logger.error("%s %s, and %d connections ended with it", worker, fate(status), worker.connections)
        for replacement in list(self._replacements):
            if worker in replacement.outgoing:
                replacement.outgoing.remove(worker)
            if worker in replacement.incoming:
                replacement.incoming.remove(worker)
                self._start_failed(replacement, f"{worker} {fate(status)} while it was starting")
        for connection in worker.close():
            self.place(connection)
        self._refill(worker)

    # Messages from workers

    def _receive(self, worker: WorkerProcess) -> bool:
        received = worker.channel.receive()
        for message, connection in received:
            self._actions[type(message)](worker, message, connection)
        if worker.channel.at_end:
            # It has exited or is about to, which SIGCHLD reports. A worker without its channel is of no use.
            self._reactor.unwatch(worker.channel)
            self._reactor.call_later(1.0, lambda: worker.kill() if worker.pid in self.workers else None)
        return bool(received)

    def _ready(self, worker: WorkerProcess, message: messages.Ready, connection: socket.socket | None) -> None:
        replacement = self._replacement_with(worker)
        if replacement is None:  # it was aborted
            return
        worker.stage = Stage.READY
        worker.problems = message.problems
        self.on_files(message.files)
        known = {problem.where for outgoing in replacement.outgoing for problem in outgoing.problems}
        fresh = [problem.text for problem in message.problems if problem.where not in known]
        if fresh and replacement.outgoing and not replacement.forced:
            # The worker has logged each of them.
            self._abort(replacement, fresh[0] if len(fresh) == 1 else f"{len(fresh)} plugins are refused, see above; the first: {fresh[0]}")
        elif len(replacement.incoming) == replacement.count and all(other.stage is Stage.READY for other in replacement.incoming):
            self._complete(replacement)

    def _failed(self, worker: WorkerProcess, message: messages.Failed, connection: socket.socket | None) -> None:
        if replacement := self._replacement_with(worker):
            self._start_failed(replacement, message.reason, final=True)

    def _replacement_with(self, worker: WorkerProcess) -> Replacement | None:
        return next((replacement for replacement in self._replacements if worker in replacement.incoming), None)

    def _handed_back(self, worker: WorkerProcess, message: messages.HandedBack, connection: socket.socket | None) -> None:
        worker.handed_back()
        if connection is None:
            logger.error("a connection from %s was lost, because the supervisor is out of file descriptors (ulimit -n)", worker)
        else:
            self.place(connection)

    def _stats(self, worker: WorkerProcess, message: messages.Stats, connection: socket.socket | None) -> None:
        worker.take_stats(message)
        if worker.used_up:
            self.replace(worker, f"it has answered {worker.calls} calls")

    def _replace_soon(self, worker: WorkerProcess, message: messages.ReplaceMe, connection: socket.socket | None) -> None:
        self._reactor.call_later(TERM_PAUSE_S, lambda: self.replace(worker, message.reason) if worker.pid in self.workers else None)

    def _mark(self, worker: WorkerProcess, message: messages.BlockingMark, connection: socket.socket | None) -> None:
        self._marks.add(message.plugin)
        for other in self.workers.values():
            if other is not worker:
                self.send(other, message)

    def _recorded(self, worker: WorkerProcess, message: messages.Recorded, connection: socket.socket | None) -> None:
        self._recording_pids.discard(worker.pid)
        self.on_recorded(message)

    def _after_send(self, worker: WorkerProcess) -> None:
        if worker.channel.wants_write:
            self._reactor.watch_writing(worker.channel, partial(self._write, worker))

    def _write(self, worker: WorkerProcess) -> None:
        worker.channel.flush()
        if not worker.channel.wants_write:
            self._reactor.watch_writing(worker.channel, None)


def _listed(workers: list[WorkerProcess]) -> str:
    return ", ".join(map(str, workers)) or "none"
