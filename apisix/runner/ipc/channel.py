# SPDX-License-Identifier: Apache-2.0
"""
The messages between the supervisor and a worker, and the socket pair that carries them together with gateway connections.

The socket is a stream, and each message has a length before it. SOCK_SEQPACKET is not used because macOS lacks it.
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
"""The limit for one message. Longer texts are logged by the worker."""
READ_BYTES: Final = 1 << 16
READS_AT_ONCE: Final = 64
"""How often a channel is read at once, so that a busy one does not delay everything else."""

_LENGTH: Final = struct.Struct("<I")
_FD_BYTES: Final = array.array("i").itemsize
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(16 * _FD_BYTES)
_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The base of all messages. If `CARRIES_CONNECTION` is true, a connection is sent with the message."""

    CARRIES_CONNECTION: ClassVar[bool] = False


class Pass(Message, frozen=True):
    """To a worker: serve this connection. The worker sends `Taken` before it reads from it."""

    CARRIES_CONNECTION: ClassVar[bool] = True


class Shed(Message, frozen=True):
    """To a worker: hand back up to `count` connections without a call, because other workers have fewer."""

    count: int


class Drain(Message, frozen=True):
    """To a worker: hand back every connection as soon as it has no call, then exit."""


class Stop(Message, frozen=True):
    """To a worker: finish the calls in progress, close all connections, and exit within `timeout_s` seconds."""

    timeout_s: float


class BlockingMark(Message, frozen=True):
    """Both ways: the plugin of this name blocks, and runs in threads from now on."""

    plugin: str


class Record(Message, frozen=True):
    """To a worker: record calls from now on, or stop that."""

    on: bool


class Recorded(Message, frozen=True):
    """From a worker: it has stopped recording. `written` calls are in the file, and `dropped` ones are not, since it was switched on."""

    written: int
    dropped: int


class Problem(Message, frozen=True):
    """A plugin that could not be loaded: `where` identifies it, `text` is for the log."""

    where: str
    text: str


class Ready(Message, frozen=True):
    """From a worker: it can serve. `problems` are plugins that could not be loaded, `files` the ones that were loaded."""

    problems: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()


class Failed(Message, frozen=True):
    """From a worker: it cannot serve, and exits."""

    reason: str


class Taken(Message, frozen=True):
    """From a worker: it has taken the oldest of the connections that were passed and not confirmed."""


class HandedBack(Message, frozen=True):
    """From a worker, or from a runner to its successor: a connection without a call, for another worker to serve."""

    CARRIES_CONNECTION: ClassVar[bool] = True


class Stats(Message, frozen=True):
    """From a worker, if they have changed: its connections, its calls that wait, and all calls that have finished."""

    connections: int
    in_flight: int
    calls: int


class Measured(Message, frozen=True):
    """From a worker: the current values of one metric. Only sent if metrics are served."""

    family: Family


class ReplaceMe(Message, frozen=True):
    """From a worker: replace it by another one."""

    reason: str


class TakeOver(Message, frozen=True):
    """From a runner to the one whose path it has taken: pass your connections to this one now."""


AnyMessage = (
    TakeOver
    | Pass
    | Shed
    | Drain
    | Stop
    | BlockingMark
    | Record
    | Recorded
    | Ready
    | Failed
    | Taken
    | HandedBack
    | Stats
    | Measured
    | ReplaceMe
)


class Channel:
    """
    One end of the socket pair. Sending never waits: messages that cannot be sent yet are kept, in order.

    Attributes:
        at_end: the other end is closed, and all its messages were received.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.at_end = False
        self._sock = sock
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)
        self._incoming = bytearray()
        self._connections: deque[socket.socket | None] = deque()
        # The bytes, the connection that is sent with the first of them, and whether to close it afterwards.
        self._outgoing: deque[tuple[memoryview, socket.socket | None, bool]] = deque()
        self._short_of_descriptors = False
        # The blocking detector of a worker sends from its own thread while the event loop is blocked.
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
        """Whether something is unsent."""
        return bool(self._outgoing)

    @property
    def wants_write(self) -> bool:
        """Whether `flush` should be called once the descriptor can be written."""
        return bool(self._outgoing) and not self._short_of_descriptors

    def send(self, message: AnyMessage, connection: socket.socket | None = None, *, keep: bool = False) -> None:
        """
        Send a message, after those that are unsent.

        Args:
            connection: the one that the message carries. It belongs to the channel from now on, which closes it once it is sent.
            keep: it still belongs to the caller, who must leave it open until then.
        """
        assert (connection is not None) == message.CARRIES_CONNECTION  # noqa: S101  # a defect of the caller
        payload = self._encoder.encode(message)
        with self._lock:
            self._outgoing.append((memoryview(_LENGTH.pack(len(payload)) + payload), connection, not keep))
        self.flush()

    def flush(self) -> None:
        """Send as much as the other end accepts. If it is closed, drop everything that is unsent."""
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
                        # Too many descriptors are in flight. More can be sent when they arrive, but no selector reports that.
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

        A connection is None if this process had no descriptor left for it. The system has then closed the connection.
        """
        for _ in range(READS_AT_ONCE):
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(READ_BYTES, _ANCILLARY_BYTES, _CLOEXEC)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # reset: the other end exited without reading all messages
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
                raise ValueError(f"received a message of {size} bytes on the channel, so the other end is not a process of this runner")
            end = _LENGTH.size + size
            if len(self._incoming) < end:
                break
            message = self._decoder.decode(self._incoming[_LENGTH.size : end])
            del self._incoming[:end]
            messages.append((message, self._next_connection() if message.CARRIES_CONNECTION else None))
        return messages

    def abandon(self) -> None:
        """
        Called in a child process: close its copies of the descriptor, and of the connections that were received or wait to be sent.

        The lock is not taken, because another thread may have held it at the fork.
        """
        self._sock.close()
        for connection in (*self._connections, *(connection for _, connection, _ in self._outgoing)):
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Close this end, and every connection in it that is not sent or not received yet."""
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
