# SPDX-License-Identifier: Apache-2.0
"""A thread that waits for a processor is told from one that sleeps."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from apisix.runner.call.blocking.starvation import Starvation

WITHIN_S = 20.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not say how long threads wait")


def test_a_thread_that_others_keep_from_running() -> None:
    """With another process on the same processor, a thread that would always run waits a good part of the time."""
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    spinner = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {one})\nwhile True: pass"])
    try:
        os.sched_setaffinity(0, one)  # of this thread only
        starvation = Starvation()
        began_s = time.perf_counter()
        starvation.note(began_s)
        while starvation.since_s(began_s) < 0.02:
            assert time.perf_counter() - began_s < WITHIN_S
        assert starvation.since_s(began_s) < time.perf_counter() - began_s
    finally:
        os.sched_setaffinity(0, cores)
        spinner.kill()
        spinner.wait()


def test_a_thread_that_sleeps() -> None:
    """Sleep is no waiting for a processor. On a busy machine a sleeper waits for one too, once it has woken: the least of five counts."""
    starvation = Starvation()

    def starved_s() -> float:
        began_s = time.perf_counter()
        starvation.note(began_s)
        threading.Event().wait(0.1)
        return starvation.since_s(began_s)

    assert min(starved_s() for _ in range(5)) < 0.05


def test_only_what_came_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the time since the last note before the moment in question; without a note, nothing does."""
    starvation = Starvation()
    assert 0.0 == starvation.since_s(1.0)
    for now_s, total_s in ((1.0, 0.5), (2.0, 0.6), (3.0, 0.9)):
        monkeypatch.setattr(starvation, "_total_s", lambda total_s=total_s: total_s)
        starvation.note(now_s)
    monkeypatch.setattr(starvation, "_total_s", lambda: 1.0)
    assert pytest.approx(0.4) == starvation.since_s(2.5)
    assert pytest.approx(0.1) == starvation.since_s(3.0)
    assert pytest.approx(0.5) == starvation.since_s(0.5)


def test_a_system_that_does_not_say() -> None:
    """Without the kernel's word, nobody has starved."""
    starvation = Starvation()
    starvation._file = "/no/such/file"
    starvation.note(1.0)
    assert 0.0 == starvation.since_s(1.0)
