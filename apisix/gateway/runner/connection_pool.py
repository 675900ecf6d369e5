# SPDX-License-Identifier: Apache-2.0
"""Connections to the runner, with the keepalive and timeouts of APISIX. Source: gateway contract, 1."""

import asyncio
import select
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from apisix.runner.errors import ErrCode, MessageTooLarge, RemoteProtocolError
from apisix.runner.wire.connection import NEED_DATA, TRANSITIONS, Connection, Role, State
from apisix.runner.wire.frames import HEADER_BYTES
from apisix.runner.wire.messages import ErrResp, Message

CONNECT_TIMEOUT_S = 1.0
SEND_TIMEOUT_S = 60.0
READ_TIMEOUT_S = 60.0
KEEPALIVE_S = 180.0
MAX_IDLE = 32

_READ_BYTES = 65536


class RunnerFailed(Exception):
    """The call of the runner failed: the client gets a 503, or the request continues if the route degrades."""


class TokenNotFound(RunnerFailed):
    """The runner does not have the token: the gateway flushes its tokens and tries again."""


class RunnerGarbage(Exception):
    """The runner sent an invalid message. APISIX's Lua code raises an error, and the client gets a 500."""


class _FrameTypes:
    """
    The types of the frames in a stream, whether or not they are allowed there.

    APISIX checks the type first: an unexpected frame is a failure, while an expected frame that is malformed raises an error in Lua.
    """

    def __init__(self) -> None:
        self.unread: deque[int] = deque()
        self._header = b""
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Add data of the stream, any part of it."""
        position = 0
        while position < len(data):
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
            else:
                step = HEADER_BYTES - len(self._header)
                self._header += data[position : position + step]
            position += step
            if len(self._header) == HEADER_BYTES:
                self.unread.append(self._header[0])
                self._left = int.from_bytes(self._header[1:])
                self._header = b""


class RunnerConnection:
    """One connection; one call at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, read_timeout_s: float, send_timeout_s: float = SEND_TIMEOUT_S
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._read_timeout_s = read_timeout_s
        self._send_timeout_s = send_timeout_s
        self._wire = Connection(Role.GATEWAY)
        self._types = _FrameTypes()
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether the runner has neither closed it nor sent unexpected data."""
        if not self._wire.idle or self._reader.at_eof() or self._writer.is_closing():
            return False
        # The event loop may not have read the end of the stream yet, so ask the socket, as nginx does.
        readable, _, _ = select.select([self._writer.get_extra_info("socket").fileno()], [], [], 0)
        return not readable

    async def send(self, message: Message) -> None:
        """
        Send a complete message.

        Raises: RunnerFailed: it does not fit into a frame, or the runner does not read it in time.
        """
        try:
            self._writer.write(self._wire.send(message))
            async with asyncio.timeout(self._send_timeout_s):
                await self._writer.drain()
        except MessageTooLarge as error:
            raise RunnerFailed(f"can't send {type(message).__name__}: {error}") from error
        except TimeoutError as error:
            raise RunnerFailed(f"the runner did not read for {self._send_timeout_s:g} s") from error
        except ConnectionError as error:
            raise RunnerFailed(f"can't send {type(message).__name__}: {error}") from error

    async def receive(self) -> Message:
        """
        Return the runner's next message.

        Raises:
            RunnerFailed: the runner closed the connection, sent nothing in time, or sent an error or an unexpected message.
            RunnerGarbage: the runner sent an expected message that is malformed.
        """
        state = self._wire.state
        try:
            while (message := self._wire.next_event()) is NEED_DATA:
                async with asyncio.timeout(self._read_timeout_s):
                    data = await self._reader.read(_READ_BYTES)
                if not data:
                    raise RunnerFailed("the runner closed the connection")
                self._wire.receive_data(data)
                self._types.feed(data)
        except TimeoutError as error:
            raise RunnerFailed(f"the runner sent nothing for {self._read_timeout_s:g} s") from error
        except ConnectionError as error:
            raise RunnerFailed(f"the connection to the runner failed: {error}") from error
        except RemoteProtocolError as error:
            if (sent := self._types.unread[0]) not in _due(state):
                raise RunnerFailed(f"the runner answered with an unexpected frame of type {sent}") from error
            raise RunnerGarbage(str(error)) from error
        self._types.unread.popleft()
        if isinstance(message, ErrResp):
            if message.code is ErrCode.CONF_TOKEN_NOT_FOUND:
                raise TokenNotFound("the runner does not have the token")
            raise RunnerFailed(f"the runner answered with the error {message.code.name}")
        return message

    def close(self) -> None:
        """Close the connection at once."""
        self._writer.close()


def _due(state: State) -> set[int]:
    """Return the types of the frames that a runner may send in a state."""
    return {kind.TYPE for kind in TRANSITIONS[Role.RUNNER][state]}


class RunnerPool:
    """
    Opens connections, keeps idle ones, and closes failed ones.

    Args:
        path: the runner's socket.
        read_timeout_s: how long to wait for data; each message of the runner restarts this time.
    """

    def __init__(self, path: str, *, read_timeout_s: float = READ_TIMEOUT_S, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        self.path = path
        self._read_timeout_s = read_timeout_s
        self._send_timeout_s = send_timeout_s
        self._idle: deque[RunnerConnection] = deque()
        self._drops = 0  # how often `drop` was called
        self._closed = False

    @property
    def idle_count(self) -> int:
        """The number of idle connections."""
        return len(self._idle)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[RunnerConnection]:
        """
        Provide a connection for one call; it is kept afterwards unless the call failed.

        Raises: RunnerFailed: nothing listens, or the connection is not accepted within a second.
        """
        drops = self._drops
        connection = self._take() or await self._open()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if drops == self._drops:
            self._keep(connection)
        else:
            connection.close()

    def drop(self) -> None:
        """
        Close idle connections now, and the others after their calls.

        Called when workers were replaced, because a stuck worker does not close its connections, and calls sent to it would hang.
        """
        self._drops += 1
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close idle connections now, and the others after their calls."""
        self._closed = True
        self.drop()

    def _take(self) -> RunnerConnection | None:
        oldest_allowed = time.monotonic() - KEEPALIVE_S
        while self._idle and self._idle[0].idle_since < oldest_allowed:
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()  # the most recently used one, as nginx does
            if connection.is_usable:
                return connection
            connection.close()
        return None

    async def _open(self) -> RunnerConnection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self.path)
        except TimeoutError as error:
            raise RunnerFailed(f"{self.path} does not accept connections") from error
        except OSError as error:
            raise RunnerFailed(f"can't connect to {self.path}: {error.strerror or error}") from error
        return RunnerConnection(reader, writer, self._read_timeout_s, self._send_timeout_s)

    def _keep(self, connection: RunnerConnection) -> None:
        if self._closed or not connection.is_usable:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if len(self._idle) > MAX_IDLE:
            self._idle.popleft().close()
