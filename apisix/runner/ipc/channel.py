# SPDX-License-Identifier: Apache-2.0
"""
What supervisor and worker say to each other, over a socket pair that carries connections too.

A stream with lengths rather than SOCK_SEQPACKET, which macOS lacks: one way that works everywhere is tested everywhere,
and a message may be as long as a traceback.
"""

import array
import errno
import os
import socket
import struct
import threading
from collections import deque
from typing import ClassVar, Final

import msgspec

from apisix.runner.metrics.families import Family
from apisix.runner.primitives import NO_SIGNAL

MAX_MESSAGE_BYTES: Final = 1 << 20
"""Longer texts are for the log, not for the channel."""
READ_BYTES: Final = 1 << 16
READS_AT_ONCE: Final = 64
"""So that one busy channel does not keep its reader from everything else."""

_LENGTH: Final = struct.Struct("<I")
_FD_BYTES: Final = array.array("i").itemsize
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(16 * _FD_BYTES)
_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What all messages are. `CARRIES_CONNECTION` tells whether a connection comes with it."""

    CARRIES_CONNECTION: ClassVar[bool] = False


class Pass(Message, frozen=True):
    """To a worker: serve this connection. Answered by `Taken` before anything is read from it."""

    CARRIES_CONNECTION: ClassVar[bool] = True


class Shed(Message, frozen=True):
    """To a worker: hand back up to `count` connections that are between calls, others have fewer."""

    count: int


class Drain(Message, frozen=True):
    """To a worker: hand back every connection as soon as it is between calls, then exit."""


class Stop(Message, frozen=True):
    """To a worker: finish the calls in progress, close all connections, and exit within `timeout_s` seconds."""

    timeout_s: float


class BlockingMark(Message, frozen=True):
    """Both ways: the plugin of this name blocks, and runs in threads from now on."""

    plugin: str


class Problem(Message, frozen=True):
    """A plugin that could not be loaded: `where` identifies it, `text` is for the log."""

    where: str
    text: str


class Ready(Message, frozen=True):
    """From a worker: connections may come. `problems` keep some plugins from running; `files` are those that were loaded."""

    problems: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()


class Failed(Message, frozen=True):
    """From a worker: it can't serve, and exits."""

    reason: str


class Taken(Message, frozen=True):
    """From a worker: it has one more of the connections that were passed, in their order."""


class HandedBack(Message, frozen=True):
    """From a worker, or from a runner to its successor: a connection between calls, for another worker to serve."""

    CARRIES_CONNECTION: ClassVar[bool] = True


class Stats(Message, frozen=True):
    """From a worker, when its connections change and as a heartbeat: what it has open now, and what it has answered in all."""

    connections: int
    in_flight: int
    calls: int


class Measured(Message, frozen=True):
    """From a worker: what it has counted in all of one metric. Only where metrics are wanted."""

    family: Family


class ReplaceMe(Message, frozen=True):
    """From a worker: it wishes to end, as soon as another can take over."""

    reason: str


class TakeOver(Message, frozen=True):
    """From a runner to the one whose path it has taken: hand over your connections now."""


AnyMessage = TakeOver | Pass | Shed | Drain | Stop | BlockingMark | Ready | Failed | Taken | HandedBack | Stats | Measured | ReplaceMe


class Channel:
    """
    One end of the socket pair. Nothing here waits: what can't be sent yet is kept, in order.

    Attributes:
        at_end: the other end is gone, and everything it said has been received.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.at_end = False
        self._sock = sock
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)
        self._incoming = bytearray()
        self._connections: deque[socket.socket | None] = deque()
        # The bytes, the connection that goes with the first of them, and whether it is ours to close.
        self._outgoing: deque[tuple[memoryview, socket.socket | None, bool]] = deque()
        self._short_of_descriptors = False
        # A worker's watchdog speaks from its own thread while the loop stands still.
        self._lock = threading.Lock()

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Return both ends of a new channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """Return the descriptor, for a selector or a loop."""
        return self._sock.fileno()

    @property
    def pending(self) -> bool:
        """Whether something was not sent yet."""
        return bool(self._outgoing)

    @property
    def wants_write(self) -> bool:
        """Whether `flush` should be called once the descriptor can be written."""
        return bool(self._outgoing) and not self._short_of_descriptors

    def send(self, message: AnyMessage, connection: socket.socket | None = None, *, keep: bool = False) -> None:
        """
        Send a message, now or after those that wait.

        Args:
            connection: the one that the message carries. It belongs to the channel from now on, which closes it once it is sent.
            keep: it still belongs to the caller, who must leave it open until then.
        """
        assert message.CARRIES_CONNECTION == (connection is not None)  # noqa: S101  # a defect of the caller
        payload = self._encoder.encode(message)
        with self._lock:
            self._outgoing.append((memoryview(_LENGTH.pack(len(payload)) + payload), connection, not keep))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the other end has room. Where it is gone, nothing waits any more."""
        with self._lock:
            self._short_of_descriptors = False
            while self._outgoing:
                data, connection, ours = self._outgoing[0]
                try:
                    sent = self._send_now(data, connection)
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                        # Too many descriptors are on their way: room comes when they arrive, and no selector tells when.
                        self._short_of_descriptors = True
                        return
                    self._drop_outgoing()
                    return
                # The descriptor travels with the first byte; the rest of the message may follow later.
                if connection is not None and ours:
                    connection.close()
                if sent < len(data):
                    self._outgoing[0] = (data[sent:], None, False)
                else:
                    self._outgoing.popleft()

    def _send_now(self, data: memoryview, connection: socket.socket | None) -> int:
        if connection is None:
            return self._sock.send(data, NO_SIGNAL)
        passed = array.array("i", [connection.fileno()])
        # Not socket.send_fds, which ignores the flags that it is given.
        return self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)], NO_SIGNAL)

    def receive(self) -> list[tuple[AnyMessage, socket.socket | None]]:
        """
        Return the messages that have arrived, each with the connection that it carries.

        A connection is None where this process had no descriptor left for it: the system has closed it.
        """
        for _ in range(READS_AT_ONCE):
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES, _CLOEXEC)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # reset: the other end died with our messages unread
                self.at_end = True
                break
            self._keep_connections(ancillary, flags)
            if not data:
                self.at_end = True
                break
            self._incoming += data
        messages = []
        while len(self._incoming) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._incoming)
            if size > MAX_MESSAGE_BYTES:
                raise ValueError(f"a message of {size} bytes on the channel: the other end is not what it should be")
            end = _LENGTH.size + size
            if len(self._incoming) < end:
                break
            message = self._decoder.decode(self._incoming[_LENGTH.size : end])
            del self._incoming[:end]
            messages.append((message, self._next_connection() if message.CARRIES_CONNECTION else None))
        return messages

    def abandon(self) -> None:
        """
        In a child of this process: close the descriptor, and those of the connections under way.

        Without the lock, which another thread may have held at the fork.
        """
        self._sock.close()
        for connection in (*self._connections, *(connection for _, connection, _ in self._outgoing)):
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Close this end, and every connection that is still under way in it."""
        with self._lock:
            self._drop_outgoing()
        while self._connections:
            if (connection := self._connections.popleft()) is not None:
                connection.close()
        self._sock.close()

    def _keep_connections(self, ancillary: list[tuple[int, int, bytes]], flags: int) -> None:
        found = False
        for level, kind, data in ancillary:
            if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                continue
            descriptors = array.array("i")
            descriptors.frombytes(data[: len(data) // _FD_BYTES * _FD_BYTES])
            for descriptor in descriptors:
                found = True
                if not _CLOEXEC:
                    os.set_inheritable(descriptor, False)
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                self._connections.append(connection)
        if flags & socket.MSG_CTRUNC and not found:
            self._connections.append(None)

    def _next_connection(self) -> socket.socket | None:
        # Descriptors arrive with the first byte of their message, hence in the order of the messages.
        return self._connections.popleft() if self._connections else None

    def _drop_outgoing(self) -> None:
        while self._outgoing:
            _, connection, ours = self._outgoing.popleft()
            if connection is not None and ours:
                connection.close()
