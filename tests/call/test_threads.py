# SPDX-License-Identifier: Apache-2.0
"""The thread pools for blocking plugins."""

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
    """A function that waits in its thread until `let_go` is called."""

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


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait until a condition is true. Return False if it does not become true in time."""
    until_s = time.monotonic() + BOUND_S
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.001)
    return True


def submit(pool: ThreadPool, function: Callable[[], None]) -> Job:
    """Submit a function and return its job."""
    job = Job(function)
    pool.submit(job)
    return job


def test_a_job_has_the_ident_of_its_thread() -> None:
    """The ident is needed because only this thread may send info requests of the call."""
    pool = ThreadPool(1)
    held = Held()
    job = submit(pool, held)
    assert held.started.wait(BOUND_S)
    assert held.thread is not None
    assert held.thread.ident == job.thread_id
    assert held.thread.daemon
    held.let_go()


def test_threads_are_reused() -> None:
    """Jobs that run one after the other share a thread."""
    pool = ThreadPool(4)
    threads = []
    for _ in range(3):
        held = Held()
        held.let_go()
        submit(pool, held)
        assert held.ended.wait(BOUND_S)
        threads.append(held.thread)
    assert len(set(threads)) <= 2  # the next job may be submitted before the thread waits for jobs again


class Pausing:
    """A queue whose readers pause after taking a job."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self.taken = threading.Event()
        self.go = threading.Event()
        self.put, self.qsize, self.empty = self._jobs.put, self._jobs.qsize, self._jobs.empty

    def get(self) -> Any:
        """Take a job, and wait until the test sets `go`."""
        job = self._jobs.get()
        self.taken.set()
        self.go.wait(BOUND_S)
        return job


def test_a_thread_that_has_just_taken_a_job_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next job gets another thread."""
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


def test_the_size_limits_the_number_of_threads() -> None:
    """If all threads are busy, a job waits."""
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
    """A job that does not return does not reduce the capacity, and its thread ends if it returns later."""
    pool = ThreadPool(1)
    stuck, waiting = Held(), Held()
    waiting.let_go()
    job = submit(pool, stuck)
    assert stuck.started.wait(BOUND_S)
    submit(pool, waiting)
    pool.abandon(job)
    assert pool.abandoned == 1
    assert waiting.ended.wait(BOUND_S)
    assert waiting.thread is not stuck.thread
    stuck.let_go()
    assert stuck.thread is not None
    stuck.thread.join(BOUND_S)
    assert not stuck.thread.is_alive()
    assert pool.abandoned == 0


def test_the_size_limits_the_number_of_replaced_threads(caplog: pytest.LogCaptureFixture) -> None:
    """
    As many threads are replaced as the pool has. If these get stuck too, jobs are refused until one of the threads returns.

    One log line reports all threads, with the place of the last one.
    """
    pool = ThreadPool(2, "slow")
    stuck = [Held() for _ in range(4)]
    for held in stuck:
        job = submit(pool, held)
        assert held.started.wait(BOUND_S)
        pool.abandon(job)
    waiting = Held()
    waiting.let_go()

    with pytest.raises(Overloaded, match="all 4 threads of plugin slow are stuck"):
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


def test_a_stuck_plugin_does_not_delay_other_plugins() -> None:
    """Each plugin has its own threads. If all threads of one plugin are stuck, other plugins run immediately."""
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


def test_a_job_that_was_abandoned_in_the_queue_never_runs() -> None:
    """The thread skips it."""
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
    """Closing the pool ends its threads as soon as they are idle."""
    pool = ThreadPool(2)
    held = Held()
    submit(pool, held)
    assert held.started.wait(BOUND_S)
    pool.close()
    held.let_go()
    assert held.thread is not None
    held.thread.join(BOUND_S)
    assert not held.thread.is_alive()
