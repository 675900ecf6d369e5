# SPDX-License-Identifier: Apache-2.0
"""Waiting for a processor is measured, and sleeping is not."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from apisix.runner.call.blocking.starvation import Starvation

WITHIN_S = 20.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not report how long threads wait")


def test_a_thread_that_waits_for_a_processor() -> None:
    """If another process uses the same processor, a busy thread has to wait."""
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    spinner = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {one})\nwhile True: pass"])
    try:
        os.sched_setaffinity(0, one)  # of this thread only
        starvation = Starvation()
        began_s = time.perf_counter()
        starvation.sample(began_s)
        while starvation.since_s(began_s) < 0.02:
            assert time.perf_counter() - began_s < WITHIN_S
        assert starvation.since_s(began_s) < time.perf_counter() - began_s
    finally:
        os.sched_setaffinity(0, cores)
        spinner.kill()
        spinner.wait()


def test_a_thread_that_sleeps() -> None:
    """It does not wait for a processor. On a busy machine it may wait after it wakes up, so the least of five results counts."""
    starvation = Starvation()

    def starved_s() -> float:
        began_s = time.perf_counter()
        starvation.sample(began_s)
        threading.Event().wait(0.1)
        return starvation.since_s(began_s)

    assert min(starved_s() for _ in range(5)) < 0.05


def test_only_time_after_the_moment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is the time since the last sample before the moment. Without a sample it is 0."""
    starvation = Starvation()
    assert starvation.since_s(1.0) == 0.0
    for now_s, total_s in ((1.0, 0.5), (2.0, 0.6), (3.0, 0.9)):
        monkeypatch.setattr(starvation, "_totals_s", lambda total_s=total_s: (total_s, 0.0))
        starvation.sample(now_s)
    monkeypatch.setattr(starvation, "_totals_s", lambda: (1.0, 0.0))
    assert starvation.since_s(2.5) == pytest.approx(0.4)
    assert starvation.since_s(3.0) == pytest.approx(0.1)
    assert starvation.since_s(0.5) == pytest.approx(0.5)


def test_a_system_that_does_not_report_it() -> None:
    """The result is 0."""
    starvation = Starvation()
    starvation._file = "/no/such/file"
    starvation.sample(1.0)
    assert starvation.since_s(1.0) == 0.0


@pytest.mark.parametrize(
    ("ran_s", "then_s", "bounds_s"),
    [(0.4, 2.0, (0.4, 0.4)), (0.4, 2.1, (0.3, 0.4)), (0.05, 2.1, (0.0, 0.05)), (0.5, 2.2, (0.3, 0.3)), (0.5, 1.0, (0.0, 1.5))],
)
def test_bounds_of_the_time_that_a_thread_has_run(
    monkeypatch: pytest.MonkeyPatch, ran_s: float, then_s: float, bounds_s: tuple[float, float]
) -> None:
    """The time between the last sample and the moment may belong to other code. Without a sample before, nothing is known."""
    starvation = Starvation()
    monkeypatch.setattr(starvation, "_totals_s", lambda: (0.0, 7.0))
    starvation.sample(2.0)
    monkeypatch.setattr(starvation, "_totals_s", lambda: (0.0, 7.0 + ran_s))

    assert starvation.bounds_of_run_s(then_s, 2.5) == pytest.approx(bounds_s)
