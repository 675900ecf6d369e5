# SPDX-License-Identifier: Apache-2.0
"""Send info requests on a connection, and pass each reply to the call that has requested it."""

from collections import deque
from collections.abc import Callable, Sequence

from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.resumable import Resumable
from apisix.runner.wire.messages import ExtraInfoReq


class InfoRequests:
    """
    Info requests of a call that are sent together.

    Args and attributes:
        call: the call.
        requests: the messages.
        done: called when all replies have arrived. None if the call itself waits for them.
        replies: the results that the gateway has sent so far, in the order of the requests.
    """

    __slots__ = ("call", "done", "replies", "requests")

    def __init__(self, call: Resumable, requests: Sequence[ExtraInfoReq], done: Callable[[], object] | None) -> None:
        self.call = call
        self.requests = requests
        self.done = done
        self.replies: list[bytes | None] = []


class InfoChannel:
    """The open info requests of one connection. The gateway replies in the order of the requests."""

    __slots__ = ("_open", "_sink")

    def __init__(self, sink: ReplySink) -> None:
        self._sink = sink
        self._open: deque[InfoRequests] = deque()

    def send(self, requests: InfoRequests) -> None:
        """Send info requests, in one write."""
        self._sink.send_all(requests.requests)
        self._open.append(requests)

    def receive(self, result: bytes | None) -> None:
        """Process the reply to the oldest open request. If its call is already finished, the reply has no effect."""
        requests: InfoRequests = self._open[0]
        requests.replies.append(result)
        if len(requests.replies) == len(requests.requests):
            self._open.popleft()
            requests.call.info_received(requests)

    def oldest(self) -> ExtraInfoReq | None:
        """Return the oldest request without a reply, None if there is none."""
        return self._open[0].requests[len(self._open[0].replies)] if self._open else None

    def clear(self) -> None:
        """Remove all open requests, and their replies, which can be large bodies."""
        self._open.clear()
