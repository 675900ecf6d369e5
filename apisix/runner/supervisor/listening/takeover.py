# SPDX-License-Identifier: Apache-2.0
"""
How a runner hands its connections over to its successor, the runner that takes its path.

The successor connects to the old runner's socket before it takes the path, and keeps that connection. When the successor's workers
serve, it sends `TakeOver`. The old runner then sends each of its connections as soon as no call is in progress on it, and exits. So a
connection of the gateway's pool is never closed, which the gateway would answer with 503. Source: gateway contract, 1 and 8.
"""

import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from apisix.runner.ipc.channel import Channel, HandedBack, TakeOver
from apisix.runner.ipc.reactor import Reactor, Timer

logger = logging.getLogger(__name__)

FLUSH_S: Final = 0.02
"""How often to send again if the system refused to carry more descriptors, in seconds. No selector reports when it would accept them."""


class _End:
    """One end of the connection between two supervisors."""

    def __init__(self, reactor: Reactor, connection: socket.socket, on_gone: Callable[[], None]) -> None:
        self.gone = False
        self._reactor = reactor
        self._channel = Channel(connection)
        self._on_gone = on_gone
        self._flushing: Timer | None = None
        reactor.watch(self._channel, self._receive)

    def close(self) -> None:
        """Close this end. `on_gone` is not called."""
        if not self.gone:
            self.gone = True
            if self._flushing is not None:
                self._flushing.cancel()
            self._reactor.unwatch(self._channel)
            self._channel.close()

    def forget(self) -> None:
        """Close this process's copy, in a worker after its fork."""
        self._channel.close()

    def _receive(self) -> None:
        try:
            for message, connection in self._channel.receive():
                self._handle(message, connection)
        except ValueError as error:  # msgspec's errors are of this class too
            logger.error("the connection to the other runner of this path is closed, because of an invalid message: %s", error)
            self._channel.at_end = True
        if self._channel.at_end and not self.gone:
            self.close()
            self._on_gone()

    def _handle(self, message: object, connection: socket.socket | None) -> None:
        raise NotImplementedError


class Successor(_End):
    """
    The runner that replaces this one, as seen by the runner that exits.

    Args:
        on_ready: called when the successor requests the connections.
        on_gone: called when it has closed its end.
    """

    def __init__(
        self, reactor: Reactor, connection: socket.socket, on_ready: Callable[["Successor"], None], on_gone: Callable[["Successor"], None]
    ) -> None:
        super().__init__(reactor, connection, partial(on_gone, self))
        self.ready = False
        self._on_ready = on_ready

    @property
    def pending(self) -> bool:
        """Whether connections wait to be sent."""
        return not self.gone and self._channel.pending

    def take(self, connection: socket.socket) -> None:
        """Send a connection that is between calls. It belongs to the successor from now on."""
        self._channel.send(HandedBack(), connection)
        self._flush_later()

    def _flush_later(self) -> None:
        if self._channel.pending and self._flushing is None:
            self._flushing = self._reactor.call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        self._channel.flush()
        self._flush_later()

    def _handle(self, message: object, connection: socket.socket | None) -> None:
        if isinstance(message, TakeOver):
            self.ready = True
            self._on_ready(self)


class Predecessor(_End):
    """
    The runner that this one replaces, as seen by the runner that takes over.

    Args:
        place: takes each connection that is handed over.
        on_gone: called when the predecessor has closed its end, so that no more connections will arrive.
    """

    def __init__(
        self, reactor: Reactor, connection: socket.socket, place: Callable[[socket.socket], None], on_gone: Callable[[], None]
    ) -> None:
        super().__init__(reactor, connection, on_gone)
        self._place = place
        self._asked = False

    def ask(self) -> None:
        """Request the connections, once."""
        if not self._asked and not self.gone:
            self._asked = True
            self._channel.send(TakeOver())

    def _handle(self, message: object, connection: socket.socket | None) -> None:
        if isinstance(message, HandedBack):
            if connection is None:
                logger.error(
                    "a connection that the previous runner handed over was lost: the supervisor is out of file descriptors (ulimit -n)"
                )
            else:
                self._place(connection)
