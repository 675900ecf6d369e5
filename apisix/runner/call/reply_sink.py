# SPDX-License-Identifier: Apache-2.0
"""The gateway at the other end, as the calls of a connection reach it."""

from abc import abstractmethod
from collections.abc import Sequence

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.tables import Message


class ReplySink:
    """The base of whatever has a connection: what its conversation needs of it. I/O is injected so."""

    __slots__ = ()

    @abstractmethod
    def send(self, message: Message) -> None:
        """
        Send a message.

        Raises: LocalProtocolError, or anything else that encoding it raises: it can't be expressed, and nothing of it was sent.
        """

    @abstractmethod
    def send_all(self, messages: Sequence[Message]) -> None:
        """Send messages, at least one, which leave in one write."""

    @abstractmethod
    def give_up(self, reason: str) -> None:
        """End the connection: a call on it can't be answered, and the gateway must not wait for the answer."""

    @abstractmethod
    def broken(self, error: RemoteProtocolError) -> None:
        """End the connection: a message turned out to be malformed while a plugin read it."""
