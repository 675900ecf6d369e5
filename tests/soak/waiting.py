# SPDX-License-Identifier: Apache-2.0
"""Wait for an expected condition, up to a limit."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Return how many seconds it took until `condition` was true. Raise AssertionError if it took longer than `within_s`."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began_s
