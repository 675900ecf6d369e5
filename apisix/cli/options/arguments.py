# SPDX-License-Identifier: Apache-2.0
"""Read simple command lines without click, because `start` and `health` must start fast, and importing click takes long."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Flag(NamedTuple):
    """
    A flag of a command.

    Attributes:
        name: the key of its value in the result.
        is_switch: True if it has no value. The result is then True.
        is_list: True if it may be repeated. The result is then a tuple.
    """

    name: str
    is_switch: bool = False
    is_list: bool = False


def read_flags(arguments: Sequence[str], known: Mapping[str, Flag]) -> dict[str, object] | None:
    """
    Read arguments that consist only of known flags and their values.

    Returns: the values by the names of the flags, or None if the arguments contain anything else, so that click must read them.
    """
    flags: dict[str, object] = {}
    rest = iter(arguments)
    for argument in rest:
        text, has_value, value = argument.partition("=")
        flag = known.get(text)
        if flag is None:
            return None
        if flag.is_switch:
            if has_value:
                return None
            flags[flag.name] = True
            continue
        if not has_value:
            value = next(rest, "")
        if not value or (value.startswith("-") and not has_value):
            return None
        if flag.is_list:
            earlier = flags.get(flag.name, ())
            flags[flag.name] = (*earlier, value) if isinstance(earlier, tuple) else (value,)
        else:
            flags[flag.name] = value
    return flags
