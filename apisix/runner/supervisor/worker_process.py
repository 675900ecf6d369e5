# SPDX-License-Identifier: Apache-2.0
"""A worker as the supervisor sees it: a process, a channel, and the connections that are its own."""

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
    """Where a worker is in its life. It moves downwards only."""

    STARTING = "starting"
    READY = "ready"  # waits for the others of its change-over
    SERVING = "serving"
    LEAVING = "leaving"  # hands its connections back
    DOOMED = "doomed"  # is being killed


class WorkerProcess:
    """
    One forked worker.

    Attributes:
        number: of the worker, counted from 1 over the supervisor's life; the log names it.
        calls_limit: after as many calls it is to be replaced; 0 for never.
        connections: how many it has taken and not yet closed or handed back.
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
        # Passed, but not known to be taken: if it dies, nobody has read from these, and another worker can serve them.
        self._untaken: deque[socket.socket] = deque()

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    @property
    def load(self) -> int:
        """How many connections it has, those on their way included."""
        return self.connections + len(self._untaken)

    @property
    def used_up(self) -> bool:
        """Whether it has answered as many calls as it may."""
        return 0 < self.calls_limit <= self.calls

    def late(self, now_s: float) -> bool:
        """Tell whether it has missed its last heartbeats, so that others should get what can be given to anyone."""
        return now_s - self.heartbeat.due_s > LATE_S

    def silent(self, now_s: float) -> bool:
        """Tell whether it stands still."""
        return now_s - self.heartbeat.due_s > SILENT_S

    def pass_connection(self, connection: socket.socket) -> None:
        """Give it a connection to serve."""
        self._untaken.append(connection)
        self.channel.send(Pass(), connection, keep=True)

    def take_stats(self, stats: Stats) -> None:
        """Believe what it says of itself. It was sent after every `Taken` and `HandedBack` that it includes."""
        self.connections = stats.connections
        self.in_flight = stats.in_flight
        self.calls = stats.calls

    def taken(self) -> None:
        """Count a connection as its own: from now on it may have read from it."""
        self.connections += 1
        self._untaken.popleft().close()

    def handed_back(self) -> None:
        """Count a connection as no longer its own."""
        self.connections -= 1

    def memory_bytes(self) -> int:
        """Return its resident memory, 0 where the system does not say."""
        return resident_bytes(self.pid)

    def kill(self) -> None:
        """End it at once. It has not been waited for, so the pid is still its own."""
        self.stage = Stage.DOOMED
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> list[socket.socket]:
        """Close what belonged to it, once it has ended and all it said was received. Return the connections that nobody has touched."""
        self.channel.close()
        self.dump.close()
        self.heartbeat.close()
        untouched, self._untaken = list(self._untaken), deque()
        return untouched

    def forget(self) -> None:
        """In another worker, after its fork: close what is the supervisor's."""
        for connection in self.bury():
            connection.close()


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds, 0 where the system does not say."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def fate(status: int) -> str:
    """Say how a process ended, from what `os.waitpid` told."""
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)} ({signal.strsignal(os.WTERMSIG(status))})"
    return f"exited with status {os.WEXITSTATUS(status)}"
