# SPDX-License-Identifier: Apache-2.0
"""
What is asked about each header of an answer, in one pass over all of them.

A module of its own because the accelerator has it twice, as `wire.scalars`: `texts.pxd` says the same in C, where looking at a
name and its value costs 20 ns instead of 200. To be used as `texts.special_of(...)`: that is the form which compiles to a call in C.
"""

from typing import Final

from apisix.runner.http.fields import STOP_DROPS, check_header

FRAMING: Final = 1
CONTENT_TYPE: Final = 2

# What is special about a name. Names are few and come again. Long ones are not kept, nor more than a worker can hold.
_NAMES: Final = 1024
_NAME_CHARS: Final = 64
_special: dict[str, int] = {}


def special_of(headers: list[tuple[str, str]]) -> int:
    """
    Check headers, and return what is special about them: the bits FRAMING and CONTENT_TYPE say that such a header is among them.

    Raises: TypeError, ValueError: one can't be sent, as check_header.
    """
    special = 0
    for name, value in headers:
        known = _special.get(name) if type(name) is str else None
        if known is None or type(value) is not str or not value.isprintable():
            check_header(name, value)
            known = _special_name(name)
        special |= known
    return special


def _special_name(name: str) -> int:
    lower = name.lower()
    special = FRAMING if lower in STOP_DROPS else CONTENT_TYPE if lower == "content-type" else 0
    if type(name) is str and len(name) <= _NAME_CHARS and len(_special) < _NAMES:
        _special[name] = special
    return special


def items_of(headers: dict[str, str]) -> list[tuple[str, str]]:
    """Return the names and values of a dict as a new list."""
    return list(headers.items())


def is_lower(text: str) -> bool:
    """Tell whether a text is as it would be in lower case."""
    return text.islower() or text == text.lower()  # the first makes no copy, and says False where there are no letters


def encoded(text: str) -> bytes:
    """
    Return a text as UTF-8, and what came off the wire byte for byte.

    Raises: UnicodeEncodeError: it holds a surrogate that stands for no byte.
    """
    return text.encode("utf-8", "surrogateescape")
