# SPDX-License-Identifier: Apache-2.0
"""What the metrics report about the store of this worker."""

from collections.abc import Iterable


class Counters:
    """
    Numbers of events since the worker started, including those in the processes of its pool.

    Attributes:
        evictions: entries that were removed before they had expired, to make room.
        replacements: files of the store that were replaced by empty ones because they were damaged.
        errors: operations that failed and raised.
        fallbacks: operations that failed and returned the fallback of the call site.
    """

    __slots__ = ("errors", "evictions", "fallbacks", "replacements")

    def __init__(self) -> None:
        self.evictions = 0
        self.replacements = 0
        self.errors = 0
        self.fallbacks = 0

    def values(self) -> tuple[int, ...]:
        """Return all numbers, in the order of `__slots__`."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def add(self, values: Iterable[int]) -> None:
        """Add numbers, in the order of `__slots__`, which another process has counted."""
        for name, value in zip(self.__slots__, values, strict=True):
            setattr(self, name, getattr(self, name) + value)


counters = Counters()
