# SPDX-License-Identifier: Apache-2.0
"""Workers write one after the other, and nobody waits for one that has died."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from apisix.runner.conf_store.write_lock import WriteTurn

LONG_S = 20.0


@pytest.fixture
def turn() -> Iterator[WriteTurn]:
    """A turn whose waiters have much patience."""
    turn = WriteTurn(LONG_S)
    yield turn
    turn.close()


def test_one_after_the_other(turn: WriteTurn) -> None:
    """Whatever others do, between the beginning and the end of a turn nobody else has one."""
    inside: list[int] = []
    most = 0

    def write() -> None:
        nonlocal most
        for _ in range(50):
            with turn.taken():
                inside.append(1)
                most = max(most, len(inside))
                inside.pop()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == most


def test_it_is_passed_on_after_a_failure(turn: WriteTurn) -> None:
    """A write that fails ends its turn like any other."""
    with pytest.raises(ValueError, match="full"), turn.taken():
        raise ValueError("full")
    began_s = time.monotonic()
    with turn.taken():
        pass
    assert time.monotonic() - began_s < LONG_S / 2


def test_a_turn_that_was_lost() -> None:
    """Where a worker was killed in its turn, the next one loses its patience once, goes on, and puts things right."""
    turn = WriteTurn(0.05)
    pid = os.fork()
    if pid == 0:
        with turn.taken():
            os._exit(0)  # as SIGKILL would: nothing is passed on
    os.waitpid(pid, 0)
    with turn.taken():
        pass
    turn.close()


def test_there_is_only_one_again() -> None:
    """Who went on without its turn leaves one too many if the holder was only slow; the next one takes both."""
    turn = WriteTurn(0.01)
    waits_s = []
    with turn.taken():
        with turn.taken():
            pass
        with turn.taken():
            pass
    for _ in range(2):  # both at hand; then, within the first, none
        began_s = time.monotonic()
        with turn.taken():
            waits_s.append(time.monotonic() - began_s)
            inner_s = time.monotonic()
            with turn.taken():
                waits_s.append(time.monotonic() - inner_s)
    turn.close()

    assert waits_s[1] >= 0.009
