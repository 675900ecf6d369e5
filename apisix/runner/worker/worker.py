# SPDX-License-Identifier: Apache-2.0
"""The main function of a worker process: it serves the connections that the supervisor passes, and hands them back on request."""

import asyncio
import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from apisix.runner.ipc import channel as messages
from apisix.runner.ipc.channel import AnyMessage, Channel, Failed, HandedBack, Measured, Ready, ReplaceMe, Stats, Taken
from apisix.runner.logging import setup as logs
from apisix.runner.logging.captured import capture_prints
from apisix.runner.plugin.chain.background import BACKGROUND
from apisix.runner.plugin.forked import become_child, end_if_child
from apisix.runner.process_pool.lifetime import die_with
from apisix.runner.worker import breakpoints
from apisix.runner.worker.heartbeat import BUSY_S, IDLE_S, Heartbeat
from apisix.runner.worker.service import Opened, Service
from apisix.runner.worker.stack_dump import StackDump

logger = logging.getLogger(__name__)

BUSY_FOR_S: Final = 1.0
"""How long after the last activity a worker counts as busy, in seconds."""
RECORD_S: Final = 0.05
"""How long a worker that exits waits at least for records that are not written yet, in seconds."""
CLOSE_S: Final = 5.0
"""How long plugins may take to close when a worker exits after it has handed back its connections, in seconds."""


def serve(channel: Channel, dump: StackDump, heartbeat: Heartbeat, service: Service, marks: Iterable[str], supervisor_pid: int) -> int:
    """
    Run a worker until the supervisor stops it. Must be called right after the fork, with all signals blocked.

    Args: marks: the plugins that are known to block. supervisor_pid: of the parent.
    Returns: the exit status.
    """
    die_with(supervisor_pid)
    dump.arm()
    # Ctrl-C goes to all processes of the terminal, and the supervisor handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    import uvloop  # imported by the supervisor already, but not before it had bound its socket

    breakpoints.install()
    finish_prints = capture_prints(logs.emit)
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(logs.log_loop_error)
    asyncio.set_event_loop(loop)
    try:
        return _serve(loop, channel, heartbeat, service, marks)
    finally:
        finish_prints()


def _serve(loop: asyncio.AbstractEventLoop, channel: Channel, heartbeat: Heartbeat, service: Service, marks: Iterable[str]) -> int:
    worker = Worker(loop, channel, heartbeat)
    # Plugins may fork, with multiprocessing for instance, also while their files are imported. Other programs that they
    # start are not affected.
    os.register_at_fork(after_in_child=worker.abandon)
    try:
        opened = service.open(loop, worker.report_blocking)
    except Exception as error:
        end_if_child(error)
        logger.exception("this worker can't serve")
        channel.send(Failed(f"{type(error).__name__}: {error}"))
        return 1
    for name in marks:
        opened.mark_blocking(name)
    end_if_child()
    loop.run_until_complete(worker.run(opened))
    return 0


def leave_poll(loop: asyncio.AbstractEventLoop) -> None:
    """
    Let the event loop of a child process watch nothing. It shares the epoll object with the parent, and would read from its connections.

    A child gets back into the loop only from a task that a plugin has made itself.
    """
    backend = getattr(loop, "_get_backend_id", None)  # uvloop has it
    if backend is not None and hasattr(select, "epoll"):
        with select.epoll() as nothing:
            os.dup2(nothing.fileno(), backend(), inheritable=False)


class Worker:
    """Handles the messages of the supervisor, and reports to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel, heartbeat: Heartbeat) -> None:
        self._loop = loop
        self._heartbeat = heartbeat
        self._last_stats: Stats | None = None  # what the supervisor believes; None if it has counted connections itself since
        self._active_s = 0.0
        self._busy = True
        self._timer: asyncio.TimerHandle | None = None
        self._channel = channel
        self._opened: Opened | None = None
        self._leaving = loop.create_future()
        self._adopting: set[asyncio.Task[None]] = set()
        self._draining = False
        self._actions: dict[type[AnyMessage], Callable[[Any, socket.socket | None], None]] = {
            messages.Pass: self._pass,
            messages.Shed: self._shed,
            messages.Drain: self._drain,
            messages.Stop: self._stop,
            messages.BlockingMark: self._mark,
            messages.Record: self._record,
        }

    def abandon(self) -> None:
        """Disconnect from the supervisor, the gateway and the event loop, in a child process that a plugin has forked."""
        become_child()  # first, so that the child exits after the hook, even if this function fails
        self._channel.abandon()
        signal.set_wakeup_fd(-1)  # the descriptor of the loop: a signal to the child would look like a signal to the worker
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        if self._opened is not None:
            self._opened.abandon()
        leave_poll(self._loop)

    def report_blocking(self, name: str) -> None:
        """Report a blocking plugin to the supervisor, and so to all workers. Can be called from any thread, as the loop may be blocked."""
        self._channel.send(messages.BlockingMark(name))

    async def run(self, opened: Opened) -> None:
        """Serve until the worker has to exit."""
        self._opened = opened
        self._loop.add_signal_handler(signal.SIGTERM, self._send, ReplaceMe("somebody sent it a SIGTERM"))
        self._loop.add_reader(self._channel.fileno(), self._receive)
        self._heartbeat.promise(BUSY_S)  # first, because connections come as soon as the worker is ready
        self._send(Ready(opened.problems, opened.files))
        if opened.reporter is not None:
            opened.reporter.start(lambda family: self._send(Measured(family)))
        self._beat(self._loop.time())
        close_s: float = await self._leaving
        self._draining = False
        if self._adopting:  # connections that were passed just before: check whether data has arrived on them
            await asyncio.wait(self._adopting)
        end_s = self._loop.time() + close_s
        await opened.connections.close(close_s)
        if opened.recording is not None:
            opened.recording.close(max(RECORD_S, end_s - self._loop.time()))
        if opened.tracing is not None:
            await opened.tracing.close(end_s - self._loop.time())
        if opened.reporter is not None:
            opened.reporter.finish()
        self._loop.remove_reader(self._channel.fileno())
        await self._flush()

    @property
    def _connections(self) -> int:
        return self._serving.connections.connections + len(self._adopting)

    @property
    def _serving(self) -> Opened:
        assert self._opened is not None  # noqa: S101  # nothing is received before `run`
        return self._opened

    def _receive(self) -> None:
        for message, connection in self._channel.receive():
            self._actions[type(message)](message, connection)
        if self._channel.at_end:
            # Some systems do not kill this process with the supervisor. No process is left that could take the connections.
            logger.error("the supervisor has ended, so this worker exits")
            os._exit(1)

    def _pass(self, message: messages.Pass, connection: socket.socket | None) -> None:
        if not self._busy:
            self._wake()
        # Before anything is read: until then, another worker could serve the connection.
        self._send(Taken())
        self._last_stats = None
        if connection is None:
            logger.error("a connection to this worker was lost, because the worker is out of file descriptors (ulimit -n)")
            self._send_stats()
            return
        task = self._loop.create_task(self._serving.connections.adopt(connection))
        self._adopting.add(task)
        task.add_done_callback(partial(self._adopted, connection))

    def _adopted(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._adopting.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a connection can't be served and is closed: %s", error)
            connection.close()
        if self._draining:
            self._hand_back()

    def _shed(self, message: messages.Shed, connection: socket.socket | None) -> None:
        self._give(self._serving.connections.release_idle(message.count))

    def _drain(self, message: messages.Drain, connection: socket.socket | None) -> None:
        self._draining = True
        self._serving.leave()
        self._serving.connections.on_idle = self._hand_back
        self._hand_back()

    def _hand_back(self) -> None:
        if not self._draining:
            return
        self._give(self._serving.connections.release_idle())
        if self._connections == 0:
            self._leave(CLOSE_S)

    def _give(self, connections: list[socket.socket]) -> None:
        for connection in connections:
            self._send(HandedBack(), connection)
        self._send_stats()

    def _stop(self, message: messages.Stop, connection: socket.socket | None) -> None:
        self._leave(message.timeout_s)

    def _leave(self, close_s: float) -> None:
        if not self._leaving.done():
            self._leaving.set_result(close_s)

    def _record(self, message: messages.Record, connection: socket.socket | None) -> None:
        recording = self._serving.recording
        if message.on:
            if recording is not None:
                # The channel can be used from the recorder's thread.
                recording.start(lambda counts: self._channel.send(messages.Recorded(counts.written, counts.dropped)))
        elif recording is None or not recording.stop():
            self._send(messages.Recorded(0, 0))

    def _mark(self, message: messages.BlockingMark, connection: socket.socket | None) -> None:
        self._serving.mark_blocking(message.plugin)

    def _beat(self, due_s: float) -> None:
        """Show that the event loop runs, report what has changed, and decide whether the worker is busy. `due_s` is the time planned."""
        now_s = self._loop.time()
        if self._is_active():
            self._active_s = now_s
        busy = now_s - self._active_s < BUSY_FOR_S
        if self._serving.reporter is not None:
            self._serving.reporter.tick(max(0.0, now_s - due_s), busy=busy)
        if self._channel.pending:
            self._channel.flush()  # the system may have refused to carry more descriptors
        if self._stats() != self._last_stats:
            self._send_stats()
        if self._busy and not busy:
            self._serving.sleep()
            self._serving.connections.on_activity = self._wake
        self._busy = busy
        self._plan_beat(BUSY_S if busy else IDLE_S)

    def _plan_beat(self, within_s: float) -> None:
        self._heartbeat.promise(within_s)
        due_s = self._loop.time() + within_s
        self._timer = self._loop.call_at(due_s, self._beat, due_s)

    def _wake(self) -> None:
        """Leave the idle state. Called before plugins run, so supervisor and blocking detector notice at once if one of them blocks."""
        if self._timer is not None:
            self._timer.cancel()
        self._busy = True
        self._active_s = self._loop.time()
        self._serving.connections.on_activity = None
        self._serving.wake()
        self._plan_beat(BUSY_S)

    def _is_active(self) -> bool:
        """Return whether anything has happened since the last report, or is happening: a call, or a task that a plugin has started."""
        stats = self._stats()
        tasks = [task for task in asyncio.all_tasks(self._loop) if not task.get_name().endswith(BACKGROUND)]
        has_tasks = len(tasks) > 1  # the other one is `run`
        return stats != self._last_stats or stats.in_flight > 0 or self._channel.pending or has_tasks

    def _stats(self) -> Stats:
        serving = self._serving.connections
        return Stats(self._connections, serving.in_flight, serving.calls)

    def _send_stats(self) -> None:
        self._last_stats = self._stats()
        self._send(self._last_stats)

    def _send(self, message: AnyMessage, connection: socket.socket | None = None) -> None:
        self._channel.send(message, connection)
        if self._channel.wants_write:
            self._loop.add_writer(self._channel.fileno(), self._write)

    def _write(self) -> None:
        self._channel.flush()
        if not self._channel.wants_write:
            self._loop.remove_writer(self._channel.fileno())

    async def _flush(self) -> None:
        while self._channel.pending:
            self._channel.flush()
            await asyncio.sleep(0.01)
