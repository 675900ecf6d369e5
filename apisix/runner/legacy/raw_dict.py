# SPDX-License-Identifier: Apache-2.0
"""
The operations of a dict beneath those that `HeaderDict` overrides, and comparing a dict with what it was made of.

A module of its own because the accelerator has it twice, as `wire.scalars`: `raw_dict.pxd` says the same in C, where an entry
costs 10 ns. To be used as `raw_dict.set_item(...)`: that is the form which compiles to a call in C.
"""

from typing import Any, Final

from apisix.runner.http import texts

get_item: Final = dict.get
has_item: Final = dict.__contains__
set_item: Final = dict.__setitem__
delete_item: Final = dict.__delitem__


def fill(target: dict[str, Any], pairs: list[tuple[str, str]]) -> bool:
    """Set all pairs in a dict that was empty, and return whether all names are in lower case."""
    dict.update(target, pairs)
    return texts.is_lower("".join(target))


def unlike(given: dict[Any, Any], pairs: list[tuple[str, str]]) -> list[tuple[Any, Any]] | None:
    """
    Return what was done to a dict since it was made of pairs: names with another value, and those that were added.

    Values are told apart by identity, so one that is equal may be among them. None where names are missing or in another
    order, or where they repeated among the pairs.
    """
    items = list(given.items())
    added = items[len(pairs) :]
    del items[len(pairs) :]
    if items == pairs:
        return added
    if len(items) < len(pairs):
        return None
    changed = []
    for item, pair in zip(items, pairs, strict=True):
        if item[0] != pair[0]:
            return None
        if item[1] is not pair[1]:
            changed.append(item)
    return changed + added
