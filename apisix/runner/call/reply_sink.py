# SPDX-License-Identifier: Apache-2.0
"""Where the messages of a call go: what the engine needs of a connection."""

from abc import abstractmethod
from collections.abc import Sequence

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.tables import Message


class ReplySink:
    """The base of everything that has a connection. The engine sends through it, so it does no I/O itself."""

    __slots__ = ()

    @abstractmethod
    def send(self, message: Message) -> None:
        """
        Send a message.

        Raises: LocalProtocolError, or anything else that encoding raises: the message cannot be encoded, and nothing of it was sent.
        """

    @abstractmethod
    def send_all(self, messages: Sequence[Message]) -> None:
        """Send one or more messages in one write."""

    @abstractmethod
    def give_up(self, reason: str) -> None:
        """Close the connection: a call on it cannot be answered, and the gateway must not wait for the reply."""

    @abstractmethod
    def broken(self, error: RemoteProtocolError) -> None:
        """Close the connection: a message turned out to be malformed when a plugin read it."""
