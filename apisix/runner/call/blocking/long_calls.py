# SPDX-License-Identifier: Apache-2.0
"""Report calls that take long while they run, with the line of the plugin that they are in."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from apisix.runner.call.waiting import WaitingCall

logger = logging.getLogger(__name__)

FIRST_S: Final = 5.0
"""After how many seconds a call is reported first. It is reported again each time this has doubled."""


class Waiting(Protocol):
    """Has the calls that wait."""

    def waiting(self) -> "Iterable[WaitingCall]":
        """Return them, in the order in which they began to wait."""


def passed(before_s: float, now_s: float) -> float | None:
    """Return the greatest of 5, 10, 20, 40, ... seconds that lies above `before_s` and not above `now_s`; None if there is none."""
    if now_s < FIRST_S:
        return None
    bound_s = FIRST_S
    while 2 * bound_s <= now_s:
        bound_s *= 2
    return bound_s if bound_s > before_s else None


class LongCalls:
    """
    Report the calls that have waited for a coroutine, a thread or the gateway for long. Calls in the same place share a log line.

    Args: calls: has those that wait.
    """

    def __init__(self, calls: Waiting) -> None:
        self._calls = calls
        self._looked_at_s = 0.0

    def look(self, now_s: float) -> None:
        """Report the calls that have passed 5, 10, 20, ... seconds since the last time. Called in the hub now and then."""
        before_s, self._looked_at_s = self._looked_at_s, now_s
        places: dict[tuple[float, str | None, str, bool], list[WaitingCall]] = {}
        for call in self._calls.waiting():
            bound_s = passed(before_s - call.began_s, now_s - call.began_s)
            if bound_s is not None:
                places.setdefault((bound_s, call.plugin, call.place(), call.waits_for_gateway), []).append(call)
        for (bound_s, plugin, place, is_waiting), calls in places.items():
            # Before its chain is ready, a call has no plugin yet; the place names the one that is being made.
            subject = "no plugin yet" if plugin is None else f"plugin {plugin}"
            count = "1 call is" if len(calls) == 1 else f"{len(calls)} calls are"
            text = "%s: %s still in %s after %g s" + (", waiting for the gateway" if is_waiting else "")
            context = calls[0].context
            if context is not None:
                # In a copy, so that the line names the call's route. The call itself may be inside the original.
                context.copy().run(logger.warning, text, subject, count, place, bound_s)
