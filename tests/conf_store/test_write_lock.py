# SPDX-License-Identifier: Apache-2.0
"""One worker writes at a time, and no worker waits for one that was killed."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from apisix.runner.conf_store.write_lock import WriteLock

LONG_S = 20.0


@pytest.fixture
def write_lock() -> Iterator[WriteLock]:
    """A lock with a long timeout."""
    write_lock = WriteLock(LONG_S)
    yield write_lock
    write_lock.close()


def test_one_process_at_a_time(write_lock: WriteLock) -> None:
    """While one process has the lock, no other process has it."""
    inside: list[int] = []
    most = 0

    def write() -> None:
        nonlocal most
        for _ in range(50):
            with write_lock.taken():
                inside.append(1)
                most = max(most, len(inside))
                inside.pop()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


def test_the_lock_is_released_after_a_failure(write_lock: WriteLock) -> None:
    """A write that fails releases the lock."""
    with pytest.raises(ValueError, match="full"), write_lock.taken():
        raise ValueError("full")
    began_s = time.monotonic()
    with write_lock.taken():
        pass
    assert time.monotonic() - began_s < LONG_S / 2


def test_a_lock_whose_holder_was_killed() -> None:
    """If a worker was killed while it had the lock, the next one continues after a timeout, and releases the lock as usual."""
    write_lock = WriteLock(0.05)
    pid = os.fork()
    if pid == 0:
        with write_lock.taken():
            os._exit(0)  # like SIGKILL: the lock is not released
    os.waitpid(pid, 0)
    with write_lock.taken():
        pass
    write_lock.close()


def test_a_second_datagram_is_removed() -> None:
    """If the holder was only slow, a process that continued without the lock leaves a second datagram. The next one takes both."""
    write_lock = WriteLock(0.01)
    waits_s = []
    with write_lock.taken():
        with write_lock.taken():
            pass
        with write_lock.taken():
            pass
    for _ in range(2):  # the first time, both datagrams are available; the second time, none
        began_s = time.monotonic()
        with write_lock.taken():
            waits_s.append(time.monotonic() - began_s)
            inner_s = time.monotonic()
            with write_lock.taken():
                waits_s.append(time.monotonic() - inner_s)
    write_lock.close()

    assert waits_s[1] >= 0.009
