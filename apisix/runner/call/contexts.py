# SPDX-License-Identifier: Apache-2.0
"""
Context variables as calls use them.

A module of its own because the accelerator has it twice: `contexts.pxd` says the same in C, where a context can also be entered and left,
which costs a twentieth of `Context.run`. To be used as `contexts.assign(...)`.
"""

from contextvars import Context, ContextVar
from typing import Final

__all__ = ["CAN_ENTER", "assign", "enter", "leave"]

CAN_ENTER: Final = False
"""Whether `enter` and `leave` are there: in C."""


assign: Final = ContextVar.set
"""Set a variable; what it returns is nobody's."""


def enter(context: Context) -> None:
    """Make a context the current one. Must be followed by `leave`."""
    raise NotImplementedError


def leave(context: Context) -> None:
    """Go back to the context that was current when this one was entered."""
    raise NotImplementedError
