# SPDX-License-Identifier: Apache-2.0
"""How older releases of APISIX differ. Source: gateway contract, 5."""

import re
from enum import Enum

LATEST = (3, 18)


class Quirk(Enum):
    """One difference of older releases: the first release that does not have it, and its description."""

    PATH_DROPS_QUERY = ((3, 16), "a rewritten path without a changed argument drops the query")
    BODY_IGNORED = ((3, 6), "the body of a Rewrite is ignored")
    STALE_HEADERS = ((3, 18), "a header set in mixed case is not seen by later phases where it was read before")

    @property
    def fixed_in(self) -> tuple[int, int]:
        """The first release that does not have this difference."""
        return self.value[0]

    @property
    def description(self) -> str:
        """One sentence for the documentation."""
        return self.value[1]


def parse_version(text: str) -> tuple[int, int]:
    """
    Parse a version such as `3.6` or `3.6.1`; the part after the second number is ignored.

    Raises: ValueError: the text is not a version of APISIX.
    """
    match = re.match(r"(\d+)\.(\d+)(?:\.|$)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a version of APISIX; expected, for example, 3.6 or 3.18.0")
    return int(match[1]), int(match[2])


def quirks_of(version: tuple[int, int]) -> frozenset[Quirk]:
    """Return the differences of a release."""
    return frozenset(quirk for quirk in Quirk if version < quirk.fixed_in)
