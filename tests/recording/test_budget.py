# SPDX-License-Identifier: Apache-2.0
"""The processor time of a thread is limited to its share of the time that passes."""

import pytest

from apisix.runner.recording.budget import BURST_S, CpuBudget


class Clock:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clocks() -> tuple[Clock, Clock]:
    return Clock(), Clock()


def test_a_burst_may_use_the_share_of_the_time_before(clocks: tuple[Clock, Clock]) -> None:
    wall, cpu = clocks
    budget = CpuBudget(0.1, wall, cpu)
    cpu.now_s = 0.1 * BURST_S

    assert budget.wait_s() == 0.0


def test_a_thread_that_has_used_more_waits_until_its_share_allows_it(clocks: tuple[Clock, Clock]) -> None:
    wall, cpu = clocks
    budget = CpuBudget(0.1, wall, cpu)
    cpu.now_s = 0.1 * BURST_S + 0.02

    assert budget.wait_s() == pytest.approx(0.2)
    wall.now_s = 0.1
    assert budget.wait_s() == pytest.approx(0.1)
    wall.now_s = 0.2
    assert budget.wait_s() == pytest.approx(0.0)


def test_the_share_of_a_long_idle_time_is_not_kept(clocks: tuple[Clock, Clock]) -> None:
    wall, cpu = clocks
    budget = CpuBudget(0.5, wall, cpu)
    wall.now_s = 1000.0
    budget.wait_s()
    cpu.now_s = 0.5 * BURST_S + 1.0

    assert budget.wait_s() == pytest.approx(2.0)
