# SPDX-License-Identifier: Apache-2.0
"""What one call of a `Base` decides: whether the chain stops or the request continues."""

from contextvars import ContextVar
from typing import Final

STOP: Final = 1
REWRITE: Final = 2


class Decision:
    """
    The decision of one call.

    Attributes:
        plugin: the instance whose `filter` is running. None after `filter`, when nothing can be decided any more.
        action: STOP or REWRITE.
    """

    __slots__ = ("action", "plugin")

    def __init__(self, plugin: object, action: int) -> None:
        self.plugin: object | None = plugin
        self.action = action


current_decision: ContextVar[Decision | None] = ContextVar("current_decision", default=None)
"""
The decision of the call whose `filter` is running, or the one that ran last in this context.

`asyncio.to_thread` and the runner's threads have it too; a plain thread does not.
"""


def decided(plugin: object) -> int | None:
    """Return the action that the call has chosen which runs the plugin's `filter`, or None if no such call is found in this context."""
    decision = current_decision.get()
    return decision.action if decision is not None and decision.plugin is plugin else None


def decide(plugin: object, action: int) -> bool:
    """Choose the action of the call that runs the plugin's `filter`. Return False if no such call is found in this context."""
    decision = current_decision.get()
    if decision is None or decision.plugin is not plugin:
        return False
    decision.action = action
    return True
