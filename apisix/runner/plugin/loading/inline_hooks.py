# SPDX-License-Identifier: Apache-2.0
"""
Find out which hooks run inline. These are hooks that cannot suspend their call, so they need no greenlet in which to wait.

A hook can suspend its call only through its request or response. So it runs inline if it only reads and assigns attributes of that object
that never wait for the gateway. If it does anything else with the object, such as passing it to a function, storing it or reading the body,
it may suspend the call.
"""

import dis
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Final

ATTRIBUTES: Final = frozenset(
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
"""
Attributes of Request and Response that never wait for the gateway.

`context` is one of them: an earlier plugin can put a request there only after the chain has stopped running inline.
"""

_LOOKS_UP: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_ASSIGNS: Final = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_ASSIGNABLE: Final = frozenset({"body", "path", "status"})
_SEES_LOCALS: Final = frozenset({"locals", "vars", "eval", "exec", "dir", "_getframe", "currentframe", "stack", "tb_frame", "f_locals"})
_ANY_ARGUMENTS: Final = 0x04 | 0x08  # *args and **kwargs (inspect.CO_VARARGS, CO_VARKEYWORDS)
_AWAITED: Final = 0x20 | 0x80 | 0x100 | 0x200  # generators and coroutines (inspect.CO_GENERATOR, CO_COROUTINE, ...)


def may_suspend(hook: Callable[..., object], argument: int = 1, attributes: frozenset[str] = ATTRIBUTES) -> str | None:
    """
    Return why a hook may suspend its call, or None if it cannot, so that it runs inline.

    Args:
        hook: a function, or a method of an instance.
        argument: the index of the request or response among its arguments, `self` included.
        attributes: the attributes of that object that never wait.
    """
    function = hook.__func__ if isinstance(hook, MethodType) else hook
    if type(function) is not FunctionType:
        return f"it is not a Python function but a {type(function).__name__}, which can't be analyzed"
    code = function.__code__
    if code.co_flags & _AWAITED:
        return "it is a coroutine function, which runs as a task"
    if code.co_flags & _ANY_ARGUMENTS or code.co_argcount <= argument:
        return f"its arguments do not name the request or response ({_place(code, code.co_firstlineno)})"
    name = code.co_varnames[argument]
    if found := _SEES_LOCALS & set(code.co_names):
        return f"it uses {min(found)}, which gives access to {name} ({_place(code, code.co_firstlineno)})"
    if name in code.co_cellvars:
        return f"a function inside it uses {name} ({_place(code, code.co_firstlineno)})"
    return _use_that_may_suspend(code, name, attributes)


def _use_that_may_suspend(code: CodeType, name: str, attributes: frozenset[str]) -> str | None:
    """Return the first use of a local variable that may suspend the call, with its line, or None."""
    instructions = list(dis.get_instructions(code))
    for instruction, following in zip(instructions, [*instructions[1:], None], strict=True):
        used = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        if "FAST" not in instruction.opname or name not in used:
            continue
        place = _place(code, instruction.positions.lineno if instruction.positions else None)
        # Python 3.13 loads two variables with one instruction. The following instruction uses the second.
        if not instruction.opname.startswith("LOAD_FAST") or used[-1] != name or name in used[:-1] or following is None:
            return f"it assigns {name} or passes it on ({place})"
        if following.opname in _LOOKS_UP:
            if following.argval not in attributes:
                return f"{name}.{following.argval}{'()' if _is_method(following) else ''} may wait for the gateway ({place})"
        elif following.opname in _ASSIGNS:
            if following.argval not in _ASSIGNABLE:
                return f"{name}.{following.argval} is assigned ({place})"
        else:
            return f"it stores {name} or passes it on ({place})"
    return None


def _is_method(instruction: dis.Instruction) -> bool:
    """Return True if an attribute is looked up to be called. Since Python 3.12, the lowest bit of LOAD_ATTR's argument is then set."""
    return instruction.opname == "LOAD_METHOD" or (sys.version_info >= (3, 12) and bool((instruction.arg or 0) & 1))


def _place(code: CodeType, line: int | None) -> str:
    return f"{Path(code.co_filename).name}:{line or code.co_firstlineno}"
