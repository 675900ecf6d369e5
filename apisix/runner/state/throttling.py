# SPDX-License-Identifier: Apache-2.0
"""
The arithmetic of rate limits: GCRA, the generic cell rate algorithm, which is the leaky bucket as a meter.

An entry is one whole number, the time at which the bucket is empty, in microseconds since 1970. Each event that is allowed moves it by the
interval between events. How far it is in the future is how full the bucket is.
"""

from math import ceil
from typing import Final

from apisix.runner.state.values import MAX_TTL_S

MAX_RATE: Final = 1e6
"""The highest rate, in events per second. Times are whole microseconds."""


def to_us(rate: float, burst: int) -> tuple[int, int]:
    """
    Return the interval between events, and how early an event may be, in microseconds.

    Args:
        rate: events per second. The interval is rounded up, so that the limit is never exceeded.
        burst: how many events may be early.
    Raises:
        TypeError: the rate is not a number, or `burst` is not an int.
        ValueError: one of them is too small, or the bucket would take longer than `MAX_TTL_S` to become empty.
    """
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        raise TypeError(f"a rate must be a number of events per second, not {type(rate).__name__}")
    if type(burst) is not int:
        raise TypeError(f"`burst` must be an int, not {type(burst).__name__}")
    if not 0 < rate <= MAX_RATE or burst < 0:
        raise ValueError(f"a rate must be above 0 and at most {MAX_RATE:.0f} per second, and `burst` 0 or more, not {rate} and {burst}")
    if (burst + 1) / rate > MAX_TTL_S:
        raise ValueError(f"(burst + 1) / rate must be at most {MAX_TTL_S:.0f} seconds, not {(burst + 1) / rate:.0f}")
    interval_us = ceil(1e6 / rate)
    return interval_us, interval_us * burst


def admit(empty_us: int, now_us: int, interval_us: int, tolerance_us: int) -> tuple[bool, int, int]:
    """
    Return whether an event is allowed, its wait, and when the bucket is empty now. RedisBackend has the same function in Lua.

    The wait is how early the event is, or if it is not allowed, how long it takes until one is. A bucket can't be more than full: more
    means that the clock was set back, or that the limit was changed.

    Args: empty_us: when the bucket is empty, 0 if there is none.
    """
    early_us = min(max(0, empty_us - now_us), tolerance_us + interval_us)
    if early_us > tolerance_us:
        return False, early_us - tolerance_us, now_us + early_us
    return True, early_us, now_us + early_us + interval_us
