# SPDX-License-Identifier: Apache-2.0
"""Look at processes, and wait for them."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Return when the condition is true. Fail after `within_s` seconds."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, "the condition did not become true"
        time.sleep(0.02)


def wait_for_pid(file: Path) -> int:
    """Return the process id that a hook has written to a file."""
    wait_until(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


def is_running(pid: int) -> bool:
    """Return True if a process exists and has not exited."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def parent_of(pid: int) -> int:
    """Return the process id of the parent of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])


def children_of(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
