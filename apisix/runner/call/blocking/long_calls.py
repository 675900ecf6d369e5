# SPDX-License-Identifier: Apache-2.0
"""Report calls that take long, while they run, with the current line of the plugin."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from apisix.runner.call.waiting import WaitingCall

logger = logging.getLogger(__name__)

FIRST_S: Final = 5.0
"""A call is first reported after this time, in seconds, and again each time twice as much time has passed."""


class Waiting(Protocol):
    """Returns the calls that wait."""

    def waiting(self) -> "Iterable[WaitingCall]":
        """Return the calls that wait, in the order in which they began to wait."""


def passed(before_s: float, now_s: float) -> float | None:
    """Return the greatest of 5, 10, 20, 40, ... that is more than `before_s` and at most `now_s`, None if there is none."""
    if now_s < FIRST_S:
        return None
    bound_s = FIRST_S
    while 2 * bound_s <= now_s:
        bound_s *= 2
    return bound_s if bound_s > before_s else None


class LongCalls:
    """
    Report the calls that have waited long for a coroutine, a thread or the gateway. Calls in the same place share a log line.

    Args: calls: returns the calls that wait.
    """

    def __init__(self, calls: Waiting) -> None:
        self._calls = calls
        self._looked_at_s = 0.0

    def look(self, now_s: float) -> None:
        """Report the calls that have reached 5, 10, 20, ... seconds since `look` was last called. Must be called in the hub."""
        before_s, self._looked_at_s = self._looked_at_s, now_s
        places: dict[tuple[float, str | None, str, bool], list[WaitingCall]] = {}
        for call in self._calls.waiting():
            bound_s = passed(before_s - call.began_s, now_s - call.began_s)
            if bound_s is not None:
                places.setdefault((bound_s, call.plugin, call.place(), call.waits_for_gateway), []).append(call)
        for (bound_s, plugin, place, is_waiting), calls in places.items():
            # Before a call has its chain, it has no current plugin. The place names the plugin that is being created.
            subject = "no plugin yet" if plugin is None else f"plugin {plugin}"
            count = "1 call is" if len(calls) == 1 else f"{len(calls)} calls are"
            text = "%s: %s still in %s after %g s" + (", waiting for the gateway" if is_waiting else "")
            context = calls[0].context
            if context is not None:
                # In a copy of the call's context, for the fields of the log line. The context itself may be in use by the call.
                context.copy().run(logger.warning, text, subject, count, place, bound_s)
