# SPDX-License-Identifier: Apache-2.0
"""
Accepting connections at the runner's path, until another runner takes the path over or this one stops.

The runner that had the path before is the predecessor, and hands its connections over to this one. A runner that takes the path from this
one is the successor. `takeover` is how the two talk to each other.
"""

import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from apisix.runner.errors import SettingsError
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.supervisor.listening.credentials import Access
from apisix.runner.supervisor.listening.listener import Hold, Listener, is_from_successor, is_listening
from apisix.runner.supervisor.listening.takeover import Predecessor, Successor
from apisix.runner.supervisor.worker_pool.pool import WorkerPool
from apisix.runner.supervisor.worker_pool.refusal import refuse

logger = logging.getLogger(__name__)

DWELL_S: Final = 0.2
"""
How long a displaced runner continues to accept while it hands its connections over, in seconds.

A client that looked up the path before the successor took it can still enter this runner's backlog, and connections in a backlog are lost
when the listener is closed.
"""
ACCEPTS_AT_ONCE: Final = 64


class Acceptor:
    """
    Accepts connections while a worker can serve them.

    Attributes:
        listener: None once this runner no longer listens.
        displaced: whether the path leads to another runner now.
        leaving: whether this runner has given the path up, so that it accepts and serves nothing new.
        kept: connections that no worker serves, kept for a successor.
        accepted: how many connections were accepted.
        refused: how many connections were refused because no file descriptor was left.

    Args:
        place: takes each accepted connection, and each one that the predecessor hands over.
        on_displaced: called once the path leads to another runner.
    """

    def __init__(
        self,
        reactor: Reactor,
        listener: Listener,
        access: Access,
        pool: WorkerPool,
        place: Callable[[socket.socket], None],
        on_displaced: Callable[[], None],
    ) -> None:
        self.listener: Listener | None = listener
        self.displaced = False
        self.leaving = False
        self.kept: list[socket.socket] = []
        self.accepted = 0
        self.refused = 0
        self._reactor = reactor
        self._access = access
        self._pool = pool
        self._place = place
        self._on_displaced = on_displaced
        self._accepting = False
        self._successor: Successor | None = None
        self._predecessor: Predecessor | None = None
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    # Accepting

    def update(self) -> None:
        """Accept if a worker is ready, and then take the predecessor's connections. Called in each iteration of the event loop."""
        if self._predecessor is not None and self._pool.ready:
            self._predecessor.ask()
        # Without a worker, connections wait in the backlog.
        ready = self._pool.ready or self._pool.is_releasing
        if self.listener is None or self._accepting == ready:
            return
        self._accepting = ready
        if self._accepting:
            self._reactor.watch(self.listener, partial(self._accept, self.listener))
        else:
            self._reactor.unwatch(self.listener)

    def _accept(self, listener: Listener) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            if not self._accept_one(listener):
                break

    def _accept_one(self, listener: Listener) -> bool:
        """Accept one connection and pass it on or close it. Return whether there may be more."""
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
            self.accepted += 1
            self._place(connection)
        return True

    def _refuse_for_lack_of_descriptors(self, listener: Listener) -> None:
        # If the connection is closed, the gateway answers 503 at once. If it waits in the backlog, the gateway answers 503 after a minute,
        # and the listener wakes this process again and again.
        os.close(self._reserve)
        with suppress(OSError):
            if (connection := listener.accept()) is not None:
                self.refused += 1
                connection.close()
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        logger.error("a connection was refused: the supervisor is out of file descriptors (ulimit -n)")

    def grant(self, access: Access) -> None:
        """Change the mode and owner of the socket file. If that fails, it is logged."""
        self._access = access
        if self.listener is not None:
            try:
                self.listener.grant(access)
            except OSError as error:
                logger.error(
                    "the mode or owner of the socket can't be changed for the gateway's workers: %s. Set socket.mode or socket.owner",
                    error.strerror,
                )

    # The predecessor and the successor

    def meet_predecessor(self) -> None:
        """Take over the connection to the runner that listened on the path before, if there was one."""
        if self.listener is None or self.listener.predecessor is None:
            return
        connection, self.listener.predecessor = self.listener.predecessor, None
        if self._predecessor is not None:
            self._predecessor.close()
        self._predecessor = Predecessor(self._reactor, connection, self._place, lambda: None)

    def _meet_successor(self, connection: socket.socket) -> None:
        if self._successor is not None:  # one that has not taken the path
            self._successor.close()
        self._successor = Successor(self._reactor, connection, self._successor_ready, self._successor_gone)

    def _successor_ready(self, successor: Successor) -> None:
        self.check_displaced()
        if self.displaced and successor is self._successor:
            self.hand_over()

    def _successor_gone(self, successor: Successor) -> None:
        if self._successor is not successor or self.leaving:
            return
        self._successor = None
        if self.displaced and self.listener is not None:
            if is_listening(self.listener.path):  # a runner that does not take connections over
                self.close_listener()
            else:
                logger.warning(
                    "the runner that had taken %s exited before it could serve, so this runner listens on it again", self.listener.path
                )
                self._bind_again(self.listener)

    def hand_over(self) -> bool:
        """Hand all connections over to the successor and leave. Return False if no successor has taken the path."""
        if not self.displaced or self._successor is None:
            return False
        if self.leaving:
            return True
        self.leaving = True
        logger.info("the other runner takes the %d connections of this one, which exits", self._pool.connections)
        if self._predecessor is not None:
            self._predecessor.ask()  # the connections that it still has are passed on too
        self._pool.pass_all_to(self._successor.take)
        for connection in self.kept:
            self._successor.take(connection)
        self.kept.clear()
        self._reactor.call_later(DWELL_S, self.close_listener)
        return True

    # The socket file

    def check_path(self) -> None:
        """Create the socket file again if it was removed, and notice a runner that has taken the path."""
        if self.listener is not None and self.listener.hold() is Hold.GONE:
            self._bind_again(self.listener)
        else:
            self.check_displaced()

    def check_displaced(self) -> None:
        """Notice that another runner has taken the path."""
        listener = self.listener
        if listener is None or self.displaced or listener.hold() is not Hold.DISPLACED:
            return
        self.displaced = True
        while self._accept_one(listener):  # the connection of the successor may be among them
            pass
        self._on_displaced()
        if self._successor is not None:
            logger.warning(
                "%s leads to another runner now, which takes the connections of this runner as soon as it can serve", listener.path
            )
        else:
            logger.warning(
                "%s leads to another runner now. This runner no longer accepts connections, and exits when its last one is closed",
                listener.path,
            )
            self.close_listener()

    def _bind_again(self, old: Listener) -> None:
        try:
            new = Listener.bind(old.path, self._access)
        except SettingsError as error:
            logger.error("the socket file was removed, and can't be created again: %s", error)
            return
        logger.warning("the socket file %s was removed, and has been created again", old.path)
        self.close_listener()
        self.listener = new
        self.displaced = False
        self.meet_predecessor()

    # Leaving

    def leave(self) -> None:
        """Remove the socket file, stop listening, and refuse the connections that were kept."""
        self.leaving = True
        if self.listener is not None:
            self.listener.unlink()
            self.close_listener()
        if self._predecessor is not None:
            self._predecessor.close()
        for connection in self.kept:
            refuse(connection)
        self.kept.clear()

    def close_listener(self) -> None:
        """Accept the connections that wait in the backlog, then stop listening."""
        listener, self.listener = self.listener, None
        if listener is not None:
            self._reactor.unwatch(listener)
            self._accepting = False
            while self._accept_one(listener):
                pass
            listener.close()

    @property
    def handed_over(self) -> bool:
        """Whether no connection can arrive any more that the successor should get, and none waits to be sent to it."""
        is_last = self._predecessor is None or self._predecessor.gone
        return self.listener is None and is_last and (self._successor is None or not self._successor.pending)

    def forget(self) -> None:
        """Close this process's copies of the descriptors, in a worker after its fork."""
        if self.listener is not None:
            self.listener.close()
        for other in (self._successor, self._predecessor):
            if other is not None:
                other.forget()
        os.close(self._reserve)

    def close(self) -> None:
        """Close the connections to the other runners. Called when everything else has ended."""
        for other in (self._successor, self._predecessor):
            if other is not None:
                other.close()
        os.close(self._reserve)
