# SPDX-License-Identifier: Apache-2.0
"""The workers of a supervisor: hired, given connections, changed for new ones without losing any, and buried."""

import logging
import math
import os
import random
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn

from apisix.runner.server import channel as messages
from apisix.runner.server.backoff import Backoff
from apisix.runner.server.channel import AnyMessage, Channel
from apisix.runner.server.reactor import Reactor
from apisix.runner.server.stack_dump import StackDump
from apisix.runner.server.worker_process import Stage, WorkerProcess, fate
from apisix.runner.settings import Settings

logger = logging.getLogger(__name__)

Body = Callable[[Channel, StackDump, frozenset[str], int], int]
"""What a new process does: its channel, its dump, the plugins known to block, the supervisor's pid; returns the exit status."""

UNEVEN: Final = 1.25
"""A worker with more than this times the mean of connections hands some back. Source: issue of operations, 1."""
JITTER: Final = 0.1
"""By how much of `max_requests` workers differ, so that they are not all replaced at once."""
START_ATTEMPTS: Final = 3
"""How often a first worker may die while it starts before the runner gives up."""
RETRY_S: Final = 10.0
"""How long after a replacement that failed the next one is tried, in seconds."""
DRAIN_GRACE_S: Final = 5.0
"""How much longer than a call may take a worker may take to leave, in seconds."""
DUMP_POLL_S: Final = 0.05
DUMP_POLLS: Final = 20


@dataclass(eq=False)
class Changeover:
    """
    New workers that are starting in the place of old ones. Nothing changes until all are ready; if one fails, nothing does.

    Attributes:
        outgoing: those that leave; none where the new ones fill vacancies.
        of_all: it is a reload, not the replacement of one worker.
        forced: new problems with plugins do not stop it.
    """

    reason: str
    incoming: list[WorkerProcess]
    outgoing: list[WorkerProcess] = field(default_factory=list)
    of_all: bool = False
    forced: bool = False


class Crew:
    """
    `count` workers, whatever happens to them.

    Attributes:
        workers: by pid, the leaving ones included.
        waiting: connections that no worker serves, because there is none.
        failure: why the runner can't work at all: no worker has ever come up.
        restarts: how many workers had to be started for others that died.
        on_files: to be told which files the plugins were loaded from.
        on_fork: to be called in each new process, to close what is the supervisor's.
    """

    def __init__(self, reactor: Reactor, settings: Settings, count: int, body: Body) -> None:
        self.workers: dict[int, WorkerProcess] = {}
        self.waiting: deque[socket.socket] = deque()
        self.failure: str | None = None
        self.restarts = 0
        self.on_files: Callable[[tuple[str, ...]], None] = lambda files: None
        self.on_fork: Callable[[], None] = lambda: None
        self._reactor = reactor
        self._settings = settings
        self._count = count
        self._body = body
        self._marks: set[str] = set()
        self._changes: list[Changeover] = []
        self._backoff = Backoff()
        self._hired = 0
        self._failed_starts = 0
        self._ever_served = False
        self._vacancies = 0  # that a timer will fill
        self._reload_again: str | None = None
        self._replace_after_s = 0.0
        self._stopping = False
        self._ticked_s = time.monotonic()
        self._actions: dict[type[AnyMessage], Callable[[WorkerProcess, Any, socket.socket | None], None]] = {
            messages.Ready: self._ready,
            messages.Failed: self._failed,
            messages.Taken: lambda worker, message, connection: worker.taken(),
            messages.HandedBack: self._handed_back,
            messages.Stats: self._stats,
            messages.BlockingMark: self._mark,
            messages.ReplaceMe: lambda worker, message, connection: self.replace(worker, message.reason),
        }

    @property
    def staffed(self) -> bool:
        """Whether there is a worker to pass connections to."""
        return any(worker.stage is Stage.SERVING for worker in self.workers.values())

    @property
    def connections(self) -> int:
        """How many connections there are in all."""
        return sum(worker.load for worker in self.workers.values()) + len(self.waiting)

    def start(self) -> None:
        """Hire all workers."""
        self._reactor.call_every(1.0, self._tick)
        for _ in range(self._count):
            self._hire("start")

    def place(self, connection: socket.socket) -> None:
        """Pass a connection to the worker that has fewest; one that stands still gets none while another turns."""
        now_s = time.monotonic()
        serving = self._serving()
        if serving:
            worker = min(serving, key=lambda worker: (worker.silent(now_s), worker.load, worker.in_flight))
            worker.pass_connection(connection)
            self._after_send(worker)
        elif self._stopping:
            connection.close()
        else:
            self.waiting.append(connection)

    def reload(self, reason: str) -> None:
        """Change all workers for new ones, which load the plugins anew."""
        if self._stopping:
            return
        if any(change.of_all for change in self._changes):
            self._reload_again = reason
            return
        # Whoever is starting just now may have read the old code.
        for change in list(self._changes):
            self._drop(change)
        logger.info("reloading: %s", reason)
        self._change(reason, self._count, self._serving(), of_all=True)

    def replace(self, worker: WorkerProcess, reason: str, *, forced: bool = False) -> None:
        """Change one worker for a new one, unless that is under way."""
        leaving = any(worker in change.outgoing for change in self._changes)
        if worker.stage is not Stage.SERVING or leaving or self._stopping or time.monotonic() < self._replace_after_s:
            return
        logger.info("%s is replaced: %s", worker, reason)
        self._change(reason, 1, [worker], forced=forced)

    def stop(self, timeout_s: float, quiet_s: float) -> None:
        """Let all workers finish what they are doing and exit within `timeout_s`. Those that are starting end at once."""
        self._stopping = True
        for change in list(self._changes):
            self._drop(change)
        while self.waiting:
            self.waiting.popleft().close()
        for worker in self.workers.values():
            if worker.stage in (Stage.SERVING, Stage.LEAVING):
                self._send(worker, messages.Stop(timeout_s, quiet_s))

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers.values():
            worker.kill()

    def reap(self) -> None:
        """Take note of the processes that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if worker := self.workers.get(pid):
                self._ended(worker, status)

    # Hiring and leaving

    def _serving(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers.values() if worker.stage is Stage.SERVING]

    def _hire(self, reason: str) -> None:
        self._change(reason, 1, [])

    def _change(self, reason: str, count: int, outgoing: list[WorkerProcess], *, of_all: bool = False, forced: bool = False) -> None:
        change = Changeover(reason, [], list(outgoing), of_all, forced)
        self._changes.append(change)
        try:
            for _ in range(count):
                change.incoming.append(self._fork())
        except OSError as error:  # no process or no descriptor to be had
            self._abort(change, f"a worker can't be started: {error.strerror}")
            self._refill(0.0)

    def _fork(self) -> WorkerProcess:
        ours, theirs = Channel.pair()
        try:
            dump = StackDump()
        except OSError:
            ours.close()
            theirs.close()
            raise
        supervisor_pid = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that came between the fork and the child's own handlers would be noted by the supervisor's.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(ours, theirs, dump, supervisor_pid)
        except OSError:
            ours.close()
            dump.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._hired += 1
        limit = self._settings.max_requests
        limit += random.randrange(int(limit * JITTER) + 1)  # noqa: S311  # no secret
        worker = WorkerProcess(self._hired, pid, ours, dump, limit)
        self.workers[pid] = worker
        self._reactor.watch(ours, partial(self._receive, worker))
        return worker

    def _be_worker(self, ours: Channel, theirs: Channel, dump: StackDump, supervisor_pid: int) -> NoReturn:
        status = 1
        try:
            ours.close()
            for worker in self.workers.values():
                worker.forget()
            for connection in self.waiting:
                connection.close()
            self.on_fork()
            status = self._body(theirs, dump, frozenset(self._marks), supervisor_pid)
        except BaseException:
            logger.exception("a worker ends because of a defect of the runner")
        finally:
            # Never back into the supervisor's code, and never waiting for a thread that is busy.
            logging.shutdown()
            os._exit(status)

    def _refill(self, lived_s: float) -> None:
        """Start workers where there are too few, at once or after a while."""
        while not self._stopping and self._missing() > self._vacancies:
            self.restarts += 1
            self._vacancies += 1
            self._reactor.call_later(self._backoff.next_delay_s(lived_s), self._fill_vacancy)

    def _fill_vacancy(self) -> None:
        self._vacancies -= 1
        if not self._stopping and self._missing() > self._vacancies:
            self._hire("another worker ended")

    def _missing(self) -> int:
        expected = len(self._serving())
        for change in self._changes:
            expected += len(change.incoming) - sum(worker.stage is Stage.SERVING for worker in change.outgoing)
        return self._count - expected

    def _drop(self, change: Changeover) -> None:
        self._changes.remove(change)
        for worker in change.incoming:
            worker.kill()

    def _abort(self, change: Changeover, reason: str) -> None:
        self._drop(change)
        if change.outgoing:
            logger.error("%s: the new workers can't serve, the old ones stay: %s", change.reason, reason)
            self._replace_after_s = time.monotonic() + RETRY_S
        else:
            logger.error("%s: %s", change.reason, reason)
        self._after_change()

    def _complete(self, change: Changeover) -> None:
        self._changes.remove(change)
        for worker in change.incoming:
            worker.stage = Stage.SERVING
        self._ever_served = True
        self._failed_starts = 0
        while self.waiting:
            self.place(self.waiting.popleft())
        for worker in change.outgoing:
            worker.stage = Stage.LEAVING
            self._send(worker, messages.Drain())
            self._reactor.call_later(self._settings.plugin_timeout_s + DRAIN_GRACE_S, partial(self._end_leaving, worker))
        if change.outgoing:
            logger.info("%s: %s in place of %s", change.reason, _listed(change.incoming), _listed(change.outgoing))
        else:
            self._even_out()
        self._after_change()

    def _after_change(self) -> None:
        if self._reload_again is not None and not any(change.of_all for change in self._changes):
            reason, self._reload_again = self._reload_again, None
            self.reload(reason)

    def _end_leaving(self, worker: WorkerProcess) -> None:
        if worker.pid in self.workers:
            logger.warning("%s has not finished its calls in time and is killed", worker)
            worker.kill()

    def _ended(self, worker: WorkerProcess, status: int) -> None:
        while self._receive(worker):  # its last words
            pass
        del self.workers[worker.pid]
        self._reactor.unwatch(worker.channel)
        untouched = worker.bury()
        lived_s = time.monotonic() - worker.started_s
        if worker.stage is Stage.SERVING and not self._stopping:
            logger.error("%s %s%s", worker, fate(status), f", and {worker.connections} connections with it" if worker.connections else "")
        else:
            logger.debug("%s %s", worker, fate(status))
        for change in list(self._changes):
            if worker in change.outgoing:
                change.outgoing.remove(worker)
            if worker in change.incoming:
                change.incoming.remove(worker)
                self._start_failed(change, f"{worker} {fate(status)} while it was starting")
        for connection in untouched:
            self.place(connection)
        self._refill(lived_s)

    def _start_failed(self, change: Changeover, reason: str, *, final: bool = False) -> None:
        self._failed_starts += 1
        if not self._ever_served and (final or self._failed_starts >= START_ATTEMPTS):
            self.failure = reason
        self._abort(change, reason)

    # What workers say

    def _receive(self, worker: WorkerProcess) -> bool:
        received = worker.channel.receive()
        worker.heard_s = time.monotonic()
        for message, connection in received:
            self._actions[type(message)](worker, message, connection)
        if worker.channel.at_end:
            # It has ended, or is about to; SIGCHLD tells. One that lives on without its channel is of no use.
            self._reactor.unwatch(worker.channel)
            self._reactor.call_later(1.0, lambda: worker.kill() if worker.pid in self.workers else None)
        return bool(received)

    def _ready(self, worker: WorkerProcess, message: messages.Ready, connection: socket.socket | None) -> None:
        change = next((change for change in self._changes if worker in change.incoming), None)
        if change is None or worker.stage is not Stage.STARTING:
            return
        worker.stage = Stage.READY
        worker.problems = message.problems
        self.on_files(message.files)
        known = {problem.where for outgoing in change.outgoing for problem in outgoing.problems}
        fresh = [problem.text for problem in message.problems if problem.where not in known]
        if fresh and change.outgoing and not change.forced:
            self._abort(change, "; ".join(fresh))
        elif all(other.stage is Stage.READY for other in change.incoming):
            self._complete(change)

    def _failed(self, worker: WorkerProcess, message: messages.Failed, connection: socket.socket | None) -> None:
        change = next((change for change in self._changes if worker in change.incoming), None)
        if change is not None:
            self._start_failed(change, message.reason, final=True)

    def _handed_back(self, worker: WorkerProcess, message: messages.HandedBack, connection: socket.socket | None) -> None:
        worker.handed_back()
        if connection is None:
            logger.error("out of file descriptors: a connection was lost on its way from %s", worker)
        else:
            self.place(connection)

    def _stats(self, worker: WorkerProcess, message: messages.Stats, connection: socket.socket | None) -> None:
        worker.take_stats(message)
        if worker.used_up:
            self.replace(worker, f"it has answered {worker.calls} calls")

    def _mark(self, worker: WorkerProcess, message: messages.BlockingMark, connection: socket.socket | None) -> None:
        self._marks.add(message.plugin)
        for other in self.workers.values():
            if other is not worker:
                self._send(other, message)

    def _send(self, worker: WorkerProcess, message: AnyMessage) -> None:
        worker.channel.send(message)
        self._after_send(worker)

    def _after_send(self, worker: WorkerProcess) -> None:
        if worker.channel.wants_write:
            self._reactor.watch_writing(worker.channel, partial(self._write, worker))

    def _write(self, worker: WorkerProcess) -> None:
        worker.channel.flush()
        if not worker.channel.wants_write:
            self._reactor.watch_writing(worker.channel, None)

    # What is looked at from time to time

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s - self._ticked_s > 3.0:
            # This process was stopped, or the whole machine: the workers may have been as well.
            for worker in self.workers.values():
                worker.heard_s = now_s
        self._ticked_s = now_s
        for worker in list(self.workers.values()):
            worker.channel.flush()
            if worker.stage is Stage.DOOMED:
                continue
            if now_s - worker.heard_s > self._settings.worker_timeout_s:
                self._end_stuck(worker)
            elif 0 < self._settings.memory_limit_bytes < (used := worker.memory_bytes()):
                self.replace(worker, f"it uses {used >> 20} MiB of memory", forced=True)
        self._even_out()

    def _even_out(self) -> None:
        """Let those that have too many connections hand some back, for the others."""
        now_s = time.monotonic()
        able = [worker for worker in self._serving() if not worker.silent(now_s)]
        if len(able) < 2:
            return
        mean = sum(worker.load for worker in able) / len(able)
        for worker in able:
            if worker.load > max(UNEVEN * mean, math.ceil(mean)):
                self._send(worker, messages.Shed(worker.load - math.ceil(mean)))

    def _end_stuck(self, worker: WorkerProcess) -> None:
        worker.stage = Stage.DOOMED
        worker.dump.request(worker.pid)
        self._await_dump(worker, "", DUMP_POLLS)
        self._refill(time.monotonic() - worker.started_s)

    def _await_dump(self, worker: WorkerProcess, before: str, polls: int) -> None:
        if worker.pid not in self.workers:
            return
        dump = worker.dump.read()
        if polls and not (dump and dump == before):
            self._reactor.call_later(DUMP_POLL_S, partial(self._await_dump, worker, dump, polls - 1))
            return
        logger.error(
            "%s has been stuck for %g s and is killed. %s",
            worker,
            self._settings.worker_timeout_s,
            f"Its stacks:\n{dump}" if dump else "It could not show its stack",
        )
        worker.kill()


def _listed(workers: list[WorkerProcess]) -> str:
    return ", ".join(map(str, workers)) or "none"
