# SPDX-License-Identifier: Apache-2.0
"""What the metrics report about the store of this worker."""


class Counters:
    """
    Numbers of events since the worker started.

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


counters = Counters()
