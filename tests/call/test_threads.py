# SPDX-License-Identifier: Apache-2.0
"""The pool of threads for blocking plugins."""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from apisix.runner.call.threads import Job, PluginThreads, ThreadPool
from apisix.runner.errors import Overloaded

BOUND_S = 10.0


class Held:
    """A function that waits in its thread until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self._go = threading.Event()
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.started.set()
        self._go.wait(BOUND_S)
        self.ended.set()

    def let_go(self) -> None:
        self._go.set()


def wait_until(holds: Callable[[], bool]) -> bool:
    """Return once something holds, or False if it does not within the bound."""
    until_s = time.monotonic() + BOUND_S
    while not holds():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.001)
    return True


def submit(pool: ThreadPool, function: Callable[[], None]) -> Job:
    """Submit a function and return its job."""
    job = Job(function)
    pool.submit(job)
    return job


def test_runs_in_a_thread_that_the_job_names() -> None:
    """A job knows the thread that runs it, so that only that thread may ask on behalf of its call."""
    pool = ThreadPool(1)
    held = Held()
    job = submit(pool, held)
    assert held.started.wait(BOUND_S)
    assert held.thread is not None
    assert held.thread.ident == job.thread_id
    assert held.thread.daemon
    held.let_go()


def test_threads_are_reused() -> None:
    """One after another, jobs share one thread."""
    pool = ThreadPool(4)
    threads = []
    for _ in range(3):
        held = Held()
        held.let_go()
        submit(pool, held)
        assert held.ended.wait(BOUND_S)
        threads.append(held.thread)
    assert 2 >= len(set(threads))  # the next job may come before the thread is back in the queue


class Pausing:
    """A queue whose readers pause between taking a job and going on with it."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self.taken = threading.Event()
        self.go = threading.Event()
        self.put, self.qsize, self.empty = self._jobs.put, self._jobs.qsize, self._jobs.empty

    def get(self) -> Any:
        """Take a job, and wait until the test says so."""
        job = self._jobs.get()
        self.taken.set()
        self.go.wait(BOUND_S)
        return job


def test_a_job_waits_for_no_thread_while_there_may_be_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has just taken a job counts as busy: the next job gets another thread."""
    pool, queue = ThreadPool(2), Pausing()
    monkeypatch.setattr(pool, "_queue", queue)
    first, second = Held(), Held()
    queue.go.set()
    done = Held()
    done.let_go()
    submit(pool, done)
    assert done.ended.wait(BOUND_S)
    queue.go.clear()
    queue.taken.clear()

    submit(pool, first)
    assert queue.taken.wait(BOUND_S)
    submit(pool, second)
    assert wait_until(lambda: pool._threads == 2)

    queue.go.set()
    assert first.started.wait(BOUND_S)
    assert second.started.wait(BOUND_S)
    first.let_go()
    second.let_go()


def test_no_more_threads_than_the_size() -> None:
    """A job more than there are threads waits for one."""
    pool = ThreadPool(1)
    first, second = Held(), Held()
    second.let_go()
    submit(pool, first)
    assert first.started.wait(BOUND_S)
    submit(pool, second)
    assert not second.started.is_set()
    first.let_go()
    assert second.ended.wait(BOUND_S)
    assert second.thread is first.thread


def test_an_abandoned_thread_is_replaced() -> None:
    """A job that hangs does not lower the capacity, and its thread ends when it comes back."""
    pool = ThreadPool(1)
    stuck, waiting = Held(), Held()
    waiting.let_go()
    job = submit(pool, stuck)
    assert stuck.started.wait(BOUND_S)
    submit(pool, waiting)
    pool.abandon(job)
    assert 1 == pool.abandoned
    assert waiting.ended.wait(BOUND_S)
    assert waiting.thread is not stuck.thread
    stuck.let_go()
    assert stuck.thread is not None
    stuck.thread.join(BOUND_S)
    assert not stuck.thread.is_alive()
    assert 0 == pool.abandoned


def test_no_more_replacements_than_the_size(caplog: pytest.LogCaptureFixture) -> None:
    """
    As many threads are replaced as the pool is large. If all are stuck beyond that, jobs are refused at once until one comes back.

    One line of the log tells of all of them, with the place of the last one.
    """
    pool = ThreadPool(2, "slow")
    stuck = [Held() for _ in range(4)]
    for held in stuck:
        job = submit(pool, held)
        assert held.started.wait(BOUND_S)
        pool.abandon(job)
    waiting = Held()
    waiting.let_go()

    with pytest.raises(Overloaded, match="all threads of plugin slow are stuck, 4 of them"):
        submit(pool, waiting)
    stuck[-1].let_go()
    assert stuck[-1].thread is not None
    assert wait_until(lambda: pool.abandoned == 3)
    submit(pool, waiting)

    assert waiting.ended.wait(BOUND_S)
    assert waiting.thread is stuck[-1].thread
    assert len(caplog.records) == 1
    assert "plugin slow: 2 of its threads are stuck, the last one in test_threads.py:" in caplog.text
    for held in stuck:
        held.let_go()


def test_a_stuck_plugin_keeps_no_other_waiting() -> None:
    """Each plugin has its own threads: however many calls of one hang, another one runs at once."""
    threads = PluginThreads(1)
    stuck = [Held() for _ in range(10)]
    for held in stuck:
        submit(threads.of("stuck"), held)
    other = Held()
    other.let_go()

    submit(threads.of("other"), other)

    assert other.ended.wait(BOUND_S)
    for held in stuck:
        held.let_go()
    threads.close()


def test_an_abandoned_job_that_has_not_begun_never_runs() -> None:
    """A job abandoned in the queue is skipped."""
    pool = ThreadPool(1)
    first, skipped, last = Held(), Held(), Held()
    last.let_go()
    submit(pool, first)
    assert first.started.wait(BOUND_S)
    pool.abandon(submit(pool, skipped))
    submit(pool, last)
    first.let_go()
    assert last.ended.wait(BOUND_S)
    assert not skipped.started.is_set()


def test_close_ends_idle_threads() -> None:
    """Closing the pool ends its threads once they have nothing to do."""
    pool = ThreadPool(2)
    held = Held()
    submit(pool, held)
    assert held.started.wait(BOUND_S)
    pool.close()
    held.let_go()
    assert held.thread is not None
    held.thread.join(BOUND_S)
    assert not held.thread.is_alive()
