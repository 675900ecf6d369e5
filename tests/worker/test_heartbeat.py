# SPDX-License-Identifier: Apache-2.0
"""The heartbeat of a worker, as another process sees it."""

import os
import time

import pytest

from apisix.runner.worker.heartbeat import Heartbeat


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_promise_is_seen_by_the_parent() -> None:
    """The parent sees the time that a child promises after the fork."""
    heartbeat = Heartbeat()
    before_s = time.monotonic()
    pid = os.fork()
    if pid == 0:
        heartbeat.promise(1000.0)
        os._exit(0)
    os.waitpid(pid, 0)

    assert heartbeat.due_s >= before_s + 1000.0
    heartbeat.close()
