# SPDX-License-Identifier: Apache-2.0
"""The interface through which a call sends its messages."""

from abc import abstractmethod
from collections.abc import Sequence

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.tables import Message


class ReplySink:
    """The base class of connections. The engine sends through it, so the engine does no I/O itself."""

    __slots__ = ()

    @abstractmethod
    def send(self, message: Message) -> None:
        """
        Send a message.

        Raises: LocalProtocolError, or any other error of encoding: the message cannot be encoded, and nothing was sent.
        """

    @abstractmethod
    def send_all(self, messages: Sequence[Message]) -> None:
        """Send one or more messages in one write."""

    @abstractmethod
    def give_up(self, reason: str) -> None:
        """Close the connection, because a call on it cannot get a reply. The gateway would wait for the reply until its timeout."""

    @abstractmethod
    def broken(self, error: RemoteProtocolError) -> None:
        """Close the connection, because a message turned out to be malformed when a plugin read it."""
