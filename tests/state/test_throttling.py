# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of rate limits. What the store does with it is in test_store.py."""

import random

import pytest

from apisix.runner.state.throttling import admit, to_us


@pytest.mark.parametrize(
    ("limit", "expected"),
    [((1, 0), (1_000_000, 0)), ((0.1, 2), (10_000_000, 20_000_000)), ((3, 1), (333_334, 333_334)), ((1e6, 5), (1, 5))],
)
def test_interval_is_rounded_up(limit: tuple[float, int], expected: tuple[int, int]) -> None:
    """The interval is a whole number of microseconds, so that the rate is never exceeded."""
    assert to_us(*limit) == expected


@pytest.mark.parametrize("seed", range(5))
def test_limit_in_every_period(seed: int) -> None:
    """Of events at any times, no period has more than the burst, one, and those of the rate."""
    source = random.Random(seed)  # noqa: S311  # reproducible, and no secret
    interval_us, tolerance_us = to_us(1000, burst := 5)
    empty_us, now_us = 0, 10**15
    allowed: list[int] = []
    for _ in range(2000):
        now_us += source.choice((0, 1, 300, 999, 1000, 1001, 20_000))
        is_allowed, _, empty_us = admit(empty_us, now_us, interval_us, tolerance_us)
        allowed += [now_us] * is_allowed

    assert len(allowed) > 1000
    assert all(
        last - first + 1 <= burst + 1 + (allowed[last] - allowed[first]) / 1000
        for first in range(len(allowed))
        for last in range(first, min(first + 50, len(allowed)))
    )
