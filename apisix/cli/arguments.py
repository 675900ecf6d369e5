# SPDX-License-Identifier: Apache-2.0
"""Read plain arguments without click, whose import takes longer than all else that these commands do before their work."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Flag(NamedTuple):
    """
    A flag.

    Attributes:
        name: under which its value is returned.
        is_switch: it takes no value; True where it stands.
        is_list: it may stand several times; a tuple of its values.
    """

    name: str
    is_switch: bool = False
    is_list: bool = False


def read_flags(arguments: Sequence[str], known: Mapping[str, Flag]) -> dict[str, object] | None:
    """
    Read arguments that are nothing but known flags with their values.

    Returns: values by the names of the flags; None where click should have a look (help, a mistake, anything else).
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
