# SPDX-License-Identifier: Apache-2.0
"""The pool of threads for blocking plugins."""

import threading
from collections.abc import Callable

from apisix.runner.call.threads import Job, ThreadPool

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


def test_no_more_replacements_than_the_size() -> None:
    """With as many threads stuck as the pool is large, and as many replaced, the next one that hangs is not replaced."""
    pool = ThreadPool(1)
    stuck, also_stuck, waiting = Held(), Held(), Held()
    waiting.let_go()
    for held in (stuck, also_stuck):
        job = submit(pool, held)
        assert held.started.wait(BOUND_S)
        pool.abandon(job)
    submit(pool, waiting)
    assert 2 == pool.abandoned
    assert not waiting.started.is_set()
    also_stuck.let_go()
    assert waiting.ended.wait(BOUND_S)
    assert waiting.thread is also_stuck.thread
    stuck.let_go()


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
