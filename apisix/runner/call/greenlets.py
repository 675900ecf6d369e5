# SPDX-License-Identifier: Apache-2.0
"""
Suspend a plain hook in the middle, for example in `request.read()`. No other module uses greenlets.

The hook runs in the greenlet of its connection, which switches to the *hub*, the greenlet of the event loop, when the hook has to wait.
When the info reply has arrived, the hub switches back.

Rules for greenlets:

- A switch to the hub from inside a task would block the event loop forever, because a task can run on the stack of a greenlet.
- A switch from another thread is an error.
- An exception that leaves a greenlet is raised in the hub. `Resumable.run_in_context` therefore raises nothing, GreenletExit included.
- A new greenlet starts with an empty context, so each call enters its own context in the greenlet.
"""

import asyncio
from types import FrameType
from typing import Any, Protocol

import greenlet

from apisix.runner.call.outcomes import EAGER
from apisix.runner.call.resumable import Resumable


class Hub(Protocol):
    """The greenlet of the event loop."""

    def switch(self) -> Any:
        """Let the event loop run. Return when another greenlet switches back."""


class CallGreenlet:
    """
    The greenlet of one connection, for calls whose hooks may wait in the middle.

    It is expensive to start a greenlet, so it is started by the first call that needs it, and kept. `run`, `resume` and `close` must be
    called in the hub, and `wait` in the greenlet.

    A greenlet's stack begins at the stack position of the hub when the greenlet is started, and each switch copies the part of the stack
    that both have used since then. Most switches happen when a socket is ready, deep in the stack of the event loop. So a greenlet is not
    kept if another kind of callback started it, which is the case if its call has been suspended before.

    Attributes:
        active: True while a call runs in the greenlet or is suspended there.
    """

    __slots__ = ("_closed", "_greenlet", "_hub", "active")

    def __init__(self, hub: Hub | None = None) -> None:
        self._hub: Hub = greenlet.getcurrent() if hub is None else hub
        self._greenlet: greenlet.greenlet | None = None
        self._closed = False
        self.active = False

    def run(self, call: Resumable) -> None:
        """Continue a call in the greenlet. Return when it is finished or has to wait."""
        if self._greenlet is None:
            self._greenlet = greenlet.greenlet(self._serve)
        self._greenlet.switch(call)

    def wait(self) -> None:
        """Let the event loop run until `resume` is called."""
        self._hub.switch()

    def resume(self) -> None:
        """Continue the call that waits in the greenlet. Return when it is finished or has to wait again."""
        if self._greenlet is not None:
            self._greenlet.switch()

    def is_current(self) -> bool:
        """Return True if the caller can wait here: it runs in the greenlet, and not in a task that was started on the greenlet's stack."""
        return greenlet.getcurrent() is self._greenlet and (not EAGER or asyncio.current_task() is None)

    def frame(self) -> FrameType | None:
        """Return the Python frame in which the greenlet waits, None if there is none."""
        return None if self._greenlet is None else self._greenlet.gr_frame

    def close(self) -> None:
        """End the greenlet: at once if no call runs in it, otherwise after this call."""
        self._closed = True
        if self._greenlet is not None and not self.active:
            self._greenlet.switch(None)

    def _serve(self, call: Resumable | None) -> None:
        is_kept = call is not None and not call.was_suspended()
        while call is not None:
            self.active = True
            call.run_in_context()
            self.active = False
            call = None  # while the greenlet waits, it must not keep the last call alive
            if is_kept and not self._closed:
                call = self._hub.switch()
        self._greenlet = None
