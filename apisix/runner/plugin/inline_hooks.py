# SPDX-License-Identifier: Apache-2.0
"""
Tell which hooks provably ask the gateway nothing: those need no greenlet to wait in, which saves a call some 3 us.

What can ask is the request or response and nothing else. So a function asks nothing if it does no more with it than look up or assign
attributes that do not ask. As soon as it does anything else with it (hands it on, keeps it, reads the body), it may ask.
"""

import dis
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Final

EXCHANGE_ATTRIBUTES: Final = frozenset(
    {
        "args",
        "conf_token",
        "context",
        "cookies",
        "headers",
        "host",
        "id",
        "method",
        "path",
        "phase",
        "query",
        "remote_addr",
        "response_headers",
        "route_key",
        "status",
    }
)
"""What of a Request or Response does not ask. `context` is among them: a chain is left at the first plugin that could put one there."""

CORE_ATTRIBUTES: Final = frozenset(
    f"{verb}_{name}"
    for verb in ("get", "set")
    for name in ("arg", "args", "config", "configs", "header", "headers", "id", "method", "remote_addr", "uri")
)
"""What of the request of release 0.2 does not ask."""

_LOOKS_UP: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_ASSIGNS: Final = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_ASSIGNABLE: Final = frozenset({"body", "path", "status"})
_SEES_LOCALS: Final = frozenset({"locals", "vars", "eval", "exec", "dir", "_getframe", "currentframe", "stack", "tb_frame", "f_locals"})
_PLAIN_FLAGS: Final = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200  # *args, **kwargs, generators and coroutines (inspect.CO_*)


def asks_nothing(hook: Callable[..., object], argument: int = 1, attributes: frozenset[str] = EXCHANGE_ATTRIBUTES) -> bool:
    """
    Tell whether a hook provably asks nothing. False means that it might.

    Args:
        hook: a function, or a method of an instance.
        argument: the place of the request or response among its arguments, `self` included.
        attributes: those of it that do not ask.
    """
    function = hook.__func__ if isinstance(hook, MethodType) else hook
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    if code.co_flags & _PLAIN_FLAGS or code.co_argcount <= argument or _SEES_LOCALS & set(code.co_names):
        return False
    name = code.co_varnames[argument]
    if name in code.co_cellvars:  # a function inside of this one has it
        return False
    instructions = list(dis.get_instructions(code))
    for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
        read = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        if "FAST" not in instruction.opname or name not in read:
            continue
        # Python 3.13 loads two variables in one instruction; what follows is about the second.
        if not instruction.opname.startswith("LOAD_FAST") or read[-1] != name or name in read[:-1] or following is None:
            return False
        if not (
            (following.opname in _LOOKS_UP and following.argval in attributes)
            or (following.opname in _ASSIGNS and following.argval in _ASSIGNABLE)
        ):
            return False
    return True
