# SPDX-License-Identifier: Apache-2.0
"""A worker as the supervisor sees it: a process, a channel, and its connections."""

import os
import signal
import socket
import time
from collections import deque
from contextlib import suppress
from enum import Enum
from typing import Final

from apisix.runner.ipc.channel import Channel, Pass, Problem, Stats
from apisix.runner.worker.heartbeat import Heartbeat
from apisix.runner.worker.stack_dump import StackDump

LATE_S: Final = 0.15
"""A worker whose heartbeat is late by this much, in seconds, gets no new connections while another worker is not late."""
SILENT_S: Final = 3.0
"""A worker whose heartbeat is late by this much, in seconds, counts as not responding on /health."""


class Stage(Enum):
    """The state of a worker. It only moves to later ones."""

    STARTING = "starting"
    READY = "ready"  # waits until all workers of its replacement are ready
    SERVING = "serving"
    LEAVING = "leaving"  # hands its connections back
    DOOMED = "doomed"  # is being killed


class WorkerProcess:
    """
    One forked worker.

    Attributes:
        number: counts all workers of the supervisor, from 1. Used in the log.
        calls_limit: after how many calls it is replaced; 0 for never.
        connections: how many connections it has.
        problems: the plugins that it could not load.
    """

    def __init__(self, number: int, pid: int, channel: Channel, dump: StackDump, heartbeat: Heartbeat, calls_limit: int) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        self.dump = dump
        self.heartbeat = heartbeat
        self.calls_limit = calls_limit
        self.stage = Stage.STARTING
        self.started_s = time.monotonic()
        self.connections = 0
        self.in_flight = 0
        self.calls = 0
        self.problems: tuple[Problem, ...] = ()
        # Passed to the worker, which has not confirmed them. If it exits, it has not read from them, and another worker can serve them.
        self._untaken: deque[socket.socket] = deque()

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    @property
    def load(self) -> int:
        """How many connections it has, including those that it has not confirmed."""
        return self.connections + len(self._untaken)

    @property
    def used_up(self) -> bool:
        """Whether it has reached its limit of calls."""
        return 0 < self.calls_limit <= self.calls

    def late(self, now_s: float) -> bool:
        """Return whether its heartbeat is late, so that other workers should get new connections."""
        return now_s - self.heartbeat.due_s > LATE_S

    def silent(self, now_s: float) -> bool:
        """Return whether its heartbeat is so late that it counts as not responding."""
        return now_s - self.heartbeat.due_s > SILENT_S

    def pass_connection(self, connection: socket.socket) -> None:
        """Pass it a connection to serve."""
        self._untaken.append(connection)
        self.channel.send(Pass(), connection, keep=True)

    def take_stats(self, stats: Stats) -> None:
        """Store what the worker reports. It was sent after all `Taken` and `HandedBack` messages that it includes."""
        self.connections = stats.connections
        self.in_flight = stats.in_flight
        self.calls = stats.calls

    def taken(self) -> None:
        """Called when the worker confirms the oldest connection that was passed. From now on it may have read from it."""
        self.connections += 1
        self._untaken.popleft().close()

    def handed_back(self) -> None:
        """Called when the worker has handed back a connection."""
        self.connections -= 1

    def memory_bytes(self) -> int:
        """Return its resident memory in bytes, 0 if the system does not report it."""
        return resident_bytes(self.pid)

    def kill(self) -> None:
        """Kill it. The supervisor has not waited for it, so the pid is still valid."""
        self.stage = Stage.DOOMED
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> list[socket.socket]:
        """Release everything of a worker that has exited, after its last message. Return the connections that it has not confirmed."""
        self.channel.close()
        self.dump.close()
        self.heartbeat.close()
        untouched, self._untaken = list(self._untaken), deque()
        return untouched

    def forget(self) -> None:
        """Called in another worker after its fork: close what belongs to the supervisor."""
        for connection in self.close():
            connection.close()


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 if the system does not report it."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def fate(status: int) -> str:
    """Return a description of how a process ended. `status` is from `os.waitpid`."""
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)} ({signal.strsignal(os.WTERMSIG(status))})"
    return f"exited with status {os.WEXITSTATUS(status)}"
