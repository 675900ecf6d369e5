# SPDX-License-Identifier: Apache-2.0
"""Wait for what is meant to happen, with a bound."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> float:
    """Return how long it took until `condition` held, in seconds. Raises: AssertionError: longer than `within_s`."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began_s
