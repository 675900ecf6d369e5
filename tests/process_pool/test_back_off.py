# SPDX-License-Identifier: Apache-2.0
"""When a process of the pool may be started again."""

import pytest

from apisix.runner.process_pool.back_off import FIRST_DELAY_S, LONGEST_DELAY_S, BackOff


def test_the_first_one_is_replaced_at_once() -> None:
    """One process that ends does not delay the next."""
    back_off = BackOff()
    back_off.failed(began_s=0.0, now_s=10.0)

    assert back_off.left_s(10.0) == 0.0


def test_the_delay_doubles_up_to_a_limit() -> None:
    """Each process that ends in succession doubles the delay, which is bounded."""
    back_off = BackOff()
    delays = []
    for number in range(9):
        now_s = 100.0 * number
        back_off.failed(began_s=now_s - 1.0, now_s=now_s)
        delays.append(back_off.left_s(now_s))

    assert delays == pytest.approx([0.0, FIRST_DELAY_S, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_DELAY_S, LONGEST_DELAY_S])


def test_a_hook_that_returns_ends_the_back_off() -> None:
    """After a hook has returned, the next process that ends is replaced at once."""
    back_off = BackOff()
    for number in range(4):
        back_off.failed(began_s=number - 0.5, now_s=float(number))
    back_off.reset()
    back_off.failed(began_s=99.0, now_s=100.0)

    assert back_off.left_s(100.0) == 0.0


def test_processes_that_end_together_count_as_one() -> None:
    """If something ends all processes of a pool, that is one failure."""
    back_off = BackOff()
    for _ in range(8):
        back_off.failed(began_s=0.0, now_s=10.0)
    back_off.failed(began_s=10.0, now_s=11.0)

    assert back_off.left_s(11.0) == pytest.approx(FIRST_DELAY_S)
