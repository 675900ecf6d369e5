# SPDX-License-Identifier: Apache-2.0
"""
How many bytes the connections of a worker have buffered, for frames that are incomplete and replies that are not sent yet.

A connection that has buffered bytes for too long is closed. If all of them together have buffered more than the limit of the worker, the
ones that have done so for longest are closed first. A gateway that works sends a frame, and reads a reply, in a moment. So no connection
has to wait for another one.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol

from apisix.runner import primitives
from apisix.runner.call.runtime import Runtime
from apisix.runner.worker.allocator import give_memory_back

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often to check for connections that have buffered bytes for too long, in seconds, while any connection has some."""


class Holder(Protocol):
    """A connection."""

    def abort(self, reason: str) -> None:
        """Close the connection, whatever its state. Called in the event loop."""


@dataclass(slots=True)
class Holding:
    """
    The bytes that one connection has buffered.

    Attributes:
        size: in bytes.
        since_s: when the frame or reply began, by the clock of `primitives.now_s`.
        sending: whether it is a reply.
    """

    size: int
    since_s: float
    sending: bool


class HeldBytes:
    """
    The bytes that all connections of a worker have buffered, with their time limits.

    Args:
        loop: of the worker.
        runtime: its `held_bytes` and `connections_aborted` are kept up to date for the metrics.
        budget_bytes: how many bytes all connections together may have buffered.
        read_timeout_s: how long a frame may take to arrive, in seconds.
        send_timeout_s: how long a reply may take to be sent, in seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, runtime: Runtime, budget_bytes: int, read_timeout_s: float, send_timeout_s: float
    ) -> None:
        self._loop = loop
        self._runtime = runtime
        self._budget_bytes = budget_bytes
        self._timeouts_s = {False: read_timeout_s, True: send_timeout_s}
        self._holdings: dict[Holder, Holding] = {}  # the one that has had its bytes for longest comes first
        self._timer: asyncio.TimerHandle | None = None
        self._used = False  # since the last check
        self._over_budget = False

    def update(self, holder: Holder, size: int, *, sending: bool) -> None:
        """
        Set how many bytes a connection has buffered now. 0 means that it has none, or is closed.

        Args: sending: whether a part of them is a reply that is not sent yet.
        """
        before = self._holdings.get(holder)
        self._runtime.held_bytes += size - (before.size if before is not None else 0)
        if not size:
            self._holdings.pop(holder, None)
        elif before is None or before.sending != sending or (size < before.size and not sending):  # another frame or reply
            self._holdings.pop(holder, None)
            self._holdings[holder] = Holding(size, primitives.now_s(), sending)
        else:
            before.size = size
        if size and not self._used:
            self._used = True
            self._schedule()
        if self._runtime.held_bytes > self._budget_bytes and not self._over_budget:
            self._over_budget = True
            self._loop.call_soon(self._shed)  # not now: this may be the greenlet of the very connection that has to be closed

    def close(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()

    def _shed(self) -> None:
        self._over_budget = False
        while self._runtime.held_bytes > self._budget_bytes and self._holdings:
            holder, holding = next(iter(self._holdings.items()))
            what = "a reply that the gateway does not read" if holding.sending else "a frame that is not complete"
            self._abort(
                holder,
                f"all connections of this worker together have buffered more than limits.buffered_size allows, {self._budget_bytes} bytes, "
                f"and this one has had {holding.size} bytes for longest, for {what}",
            )

    def _schedule(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = primitives.now_s()
        for holder, holding in list(self._holdings.items()):
            timeout_s = self._timeouts_s[holding.sending]
            if now_s - holding.since_s >= timeout_s and holder in self._holdings:
                if holding.sending:
                    reason = f"the gateway has not read a reply within limits.send_timeout, {timeout_s:g} s"
                else:
                    reason = f"a frame has not arrived completely within limits.read_timeout, {timeout_s:g} s"
                self._abort(holder, reason)
        if self._holdings or self._used:
            self._used = bool(self._holdings)
            self._schedule()
        else:
            give_memory_back()  # no frame was buffered for a while, so memory that large frames have used is not needed soon

    def _abort(self, holder: Holder, reason: str) -> None:
        logger.error("a connection is closed: %s", reason)
        self._runtime.connections_aborted += 1
        holder.abort(reason)
