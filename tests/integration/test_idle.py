# SPDX-License-Identifier: Apache-2.0
"""How often an idle runner wakes up, according to the counters of the kernel."""

import re
import time
from pathlib import Path

import pytest

from tests.integration.conftest import PLUGINS
from tests.integration.echo import wait_until
from tests.runner_process import RunnerProcess, running

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts wake-ups through /proc")

MEASURED_S = 5.0
MOST_A_SECOND = 2.0
NOT_COUNTED = 3
"""How many wake-ups may have another reason, such as memory that is read in."""


def wake_ups(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep so far, which is how often they were woken up."""
    statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(match[1]) for status in statuses if (match := re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)))


def processes(runner: RunnerProcess) -> list[int]:
    """Return the pids of the supervisor and its workers."""
    pid = runner.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def is_quiet(runner: RunnerProcess) -> bool:
    """Return True if the processes wake up as rarely as the documentation states, over a few seconds."""
    before = {pid: wake_ups(pid) for pid in processes(runner)}
    time.sleep(MEASURED_S)  # the time that the promise is about
    counted = {pid: wake_ups(pid) - count for pid, count in before.items()}
    print(f"wake-ups in {MEASURED_S:g} s: {counted}")
    return len(counted) == 3 and max(counted.values()) <= MOST_A_SECOND * MEASURED_S + NOT_COUNTED


@pytest.mark.parametrize("environ", [{}, {"APISIX_RUNNER_METRICS_ADDRESS": "127.0.0.1:0"}], ids=["default", "metrics"])
def test_an_idle_runner_sleeps(environ: dict[str, str]) -> None:
    """A runner with idle connections wakes up at most twice a second in each process, also after it has served calls."""
    with running("--workers", "2", plugins=[PLUGINS], environ=environ) as runner, runner.peer() as first, runner.peer() as second:
        for peer in (first, second):
            peer.request(peer.prepare())
        # It takes a moment until the workers find out that nothing happens any more.
        wait_until(lambda: is_quiet(runner), lambda: "the runner wakes up more often than twice a second", within_s=40.0)
