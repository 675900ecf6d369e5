# SPDX-License-Identifier: Apache-2.0
"""A short version of `python -m tests.soak faults`: each reply is correct, and only connections to a process that ended lose a call."""

import os
import shutil
import sys

import pytest

from tests.soak.faults import FAULTS
from tests.soak.verdict import judge

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

PACE_S = 0.2
BY_NAME = {fault.name: fault for fault in FAULTS}
TOGETHER = [("file", "reload"), ("disk",)]
"""
Those that end no process, which take a second or two. Who held a connection that ended with a process is found out by looking, which on a
busy machine can come too late: so `kill`, `exit` and `kill-all` run in `make soak` only. Stopping and taking over have tests of their own.
"""


def can_mount() -> bool:
    """True if a file system can be mounted, for the test with a full disk."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.mark.parametrize("names", TOGETHER, ids="-".join)
def test_faults(names: tuple[str, ...]) -> None:
    """
    With 200 calls per second over 32 connections, no reply is wrong, other connections lose no call, and a rolling restart loses none.
    """
    if "disk" in names and not can_mount():
        pytest.skip("only root can mount a small file system")
    verdict = judge(*(BY_NAME[name] for name in names), pace_s=PACE_S)
    assert verdict.faults == [], (verdict.seen.counts, verdict.seen.failures[:10])
