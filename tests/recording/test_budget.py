# SPDX-License-Identifier: Apache-2.0
"""The processor time of a thread is limited to its share of the time that passes."""

import threading
import time

import pytest

from apisix.runner.recording.budget import BUSY_PART, SLICE_S, CpuBudget, cpu_clock_of_this_thread


class Clock:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Clocks:
    """The clocks of a budget with a share of 0.1."""

    def __init__(self) -> None:
        self.wall, self.cpu, self.loop = Clock(), Clock(), Clock()
        self.budget = CpuBudget(0.1, self.wall, self.cpu, self.loop)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_a_slice_may_be_used_at_once(clocks: Clocks) -> None:
    clocks.cpu.now_s = 0.9 * SLICE_S

    assert clocks.budget.wait_s() == 0.0


def test_after_a_slice_the_thread_waits_until_its_share_allows_another_one(clocks: Clocks) -> None:
    clocks.cpu.now_s = 3 * SLICE_S

    wait_s = clocks.budget.wait_s()
    assert wait_s == pytest.approx(30 * SLICE_S)
    clocks.wall.now_s = wait_s
    clocks.cpu.now_s += 0.5 * SLICE_S
    assert clocks.budget.wait_s() == 0.0


def test_the_share_of_a_long_idle_time_is_not_kept(clocks: Clocks) -> None:
    clocks.wall.now_s = 1000.0
    clocks.budget.wait_s()
    clocks.cpu.now_s = 2 * SLICE_S

    assert clocks.budget.wait_s() == pytest.approx(20 * SLICE_S)


def test_time_in_which_the_event_loop_is_busy_counts_in_part(clocks: Clocks) -> None:
    clocks.cpu.now_s = 2 * SLICE_S
    wait_s = clocks.budget.wait_s()
    clocks.wall.now_s = clocks.loop.now_s = wait_s

    assert wait_s == pytest.approx(20 * SLICE_S)
    assert clocks.budget.wait_s() == pytest.approx((20 - 20 * BUSY_PART) * SLICE_S / BUSY_PART)


def test_another_thread_can_read_the_processor_time_of_a_thread() -> None:
    clock = cpu_clock_of_this_thread()
    end_s = time.thread_time() + 0.02
    while time.thread_time() < end_s:
        pass
    seen: list[float] = []
    reader = threading.Thread(target=lambda: seen.append(clock()))
    reader.start()
    reader.join(10.0)

    assert seen[0] >= 0.02
