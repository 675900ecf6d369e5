# SPDX-License-Identifier: Apache-2.0
"""The start of a plugin's instance: its `setup` is awaited before the first call, and retried with a back-off if it fails."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.forked import EndingInChild

FIRST_RETRY_S: Final = 1.0
"""The delay before a failed `setup` is retried, in seconds. It doubles with each error."""
LONGEST_RETRY_S: Final = 60.0
"""The longest delay before a retry, in seconds."""
MAX_ERROR: Final = 1000
"""How many characters of the error of a failed `setup` are kept until it is retried."""


class Setup:
    """
    The `setup` of one instance. It succeeds once, and all calls that need it wait for the same attempt. Source: design, 3c.

    Args:
        function: the author's `setup`, None if there is none.
        timeout_s: how long it may take, in seconds.
        started: called when the instance is set up, None if nothing has to be done.
    Attributes:
        done: True if the instance is set up.
    """

    __slots__ = ("_delay_s", "_error", "_function", "_retry_at_s", "_started", "_task", "_timeout_s", "done")

    def __init__(self, function: Callable[[], Awaitable[None]] | None, timeout_s: float, started: Callable[[], None] | None = None) -> None:
        self._function = function
        self._started = started
        self._timeout_s = timeout_s
        self._delay_s = FIRST_RETRY_S
        self._retry_at_s = 0.0
        self._error: str | None = None  # not the exception, whose traceback refers to all variables of the setup
        self._task: asyncio.Task[BaseException | None] | None = None
        self.done = False

    async def ensure(self) -> None:
        """
        Return once the instance is set up.

        Raises: what `setup` raised, or during the back-off ChainRefused, without another attempt.
        """
        if self.done:
            return
        loop = asyncio.get_running_loop()
        if self._task is None:
            if self._error is not None and loop.time() < self._retry_at_s:
                raise ChainRefused(f"setup failed: {self._error}; it is retried later")
            self._task = loop.create_task(self._attempt())
        # If this call is cancelled, the attempt must continue: other calls wait for it.
        error = await asyncio.shield(self._task)
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

    async def _attempt(self) -> BaseException | None:
        try:
            if self._function is not None:
                async with asyncio.timeout(self._timeout_s):
                    await EndingInChild(self._function())
            if self._started is not None:
                self._started()
        except BaseException as error:  # an author's setup may raise anything, and a task must not raise SystemExit
            self._error = repr(error)[:MAX_ERROR]
            self._retry_at_s = asyncio.get_running_loop().time() + self._delay_s
            self._delay_s = min(2 * self._delay_s, LONGEST_RETRY_S)
            return error
        else:
            self._error = None
            self.done = True
            return None
        finally:
            self._task = None
