# SPDX-License-Identifier: Apache-2.0
"""
How much the connections of a worker hold for frames that are half read and replies that are not sent yet.

A connection that holds bytes for too long is closed. If all of them together hold more than the worker may, those that have held some for
longest are closed first: a gateway that works sends a frame, and takes a reply, in a moment. So no connection waits for another one.
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
"""How often to look for connections that hold bytes for too long, in seconds, while any connection holds some."""


class Holder(Protocol):
    """A connection."""

    def abort(self, reason: str) -> None:
        """Close it, whatever it is doing. Called from the loop."""


@dataclass(slots=True)
class Holding:
    """
    What one connection holds.

    Attributes:
        size: in bytes.
        since_s: when the frame or reply began, a time of the clock.
        sending: whether it is a reply.
    """

    size: int
    since_s: float
    sending: bool


class HeldBytes:
    """
    The bytes held by all connections of a worker, with their time limits.

    Args:
        loop: of the worker.
        runtime: its `held_bytes` and `connections_aborted` are kept up to date for the metrics.
        budget_bytes: how much all connections may hold together.
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
        self._holdings: dict[Holder, Holding] = {}  # the one that has held its bytes for longest comes first
        self._timer: asyncio.TimerHandle | None = None
        self._used = False  # since the last look
        self._over_budget = False

    def update(self, holder: Holder, size: int, *, sending: bool) -> None:
        """
        Note how many bytes a connection holds now, 0 if it holds none or is closed.

        Args: sending: whether a part of it is a reply that is not sent yet.
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
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _shed(self) -> None:
        self._over_budget = False
        while self._runtime.held_bytes > self._budget_bytes and self._holdings:
            holder, holding = next(iter(self._holdings.items()))
            what = "a reply that the gateway does not read" if holding.sending else "a frame that is not complete"
            self._abort(
                holder,
                f"all connections of this worker together hold more than limits.buffered_size allows, {self._budget_bytes} bytes, "
                f"and this one has held {holding.size} bytes for longest, for {what}",
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
            give_memory_back()  # nothing large came for a while: what large frames have left is not needed soon

    def _abort(self, holder: Holder, reason: str) -> None:
        logger.error("a connection is closed: %s", reason)
        self._runtime.connections_aborted += 1
        holder.abort(reason)
