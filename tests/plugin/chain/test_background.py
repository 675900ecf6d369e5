# SPDX-License-Identifier: Apache-2.0
"""Background tasks of plugins: they are restarted, stopped, and run once with a lease."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from apisix.runner.errors import StoreError
from apisix.runner.plugin.chain import background
from apisix.runner.plugin.chain.background import Background, BackgroundTasks, lease_key
from apisix.runner.state.memory import MemoryBackend
from apisix.runner.state.store import Lease, Store

WITHIN_S = 20.0


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(background, "RENEW_S", 0.01)


class Author:
    """A function of an author, which counts how often it was called and how many calls run."""

    def __init__(self, *results: BaseException | None) -> None:
        self.results = list(results)
        self.calls = self.running = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.results:
            result = self.results.pop(0)
            if result is not None:
                raise result
            return
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition is true."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def made(author: Author, tasks: BackgroundTasks, lock: Callable[[], object] | None = None) -> Background:
    """Return a background task."""
    return Background(tasks, "key-refresh", "route#1", author, lock)  # type: ignore[arg-type]


def test_a_task_that_fails_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is logged and counted, whatever is raised, and the task is started again."""

    async def scenario() -> None:
        author, tasks = Author(ValueError("a reason"), SystemExit(3), asyncio.CancelledError()), BackgroundTasks()
        task = made(author, tasks)
        task.start()
        await until(lambda: author.running == 1)
        assert (author.calls, tasks.failures["key-refresh"], tasks.count) == (4, 3, 1)
        await task.stop()
        assert (author.running, tasks.count) == (0, 0)

    asyncio.run(scenario())

    assert caplog.text.count("the background task of plugin key-refresh failed. It is started again in") == 3
    assert "ValueError: a reason" in caplog.text


def states(caplog: pytest.LogCaptureFixture) -> list[tuple[object, object]]:
    """Return the states of tasks that were logged, with the names of the tasks."""
    return [(record.__dict__["task"], record.__dict__["background"]) for record in caplog.records if "background" in record.__dict__]


def test_the_states_of_tasks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each start, failure and end. A failure has its traceback and the time until the next start."""
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        failing, returning = Author(ValueError("a reason")), Author(None)
        tasks = BackgroundTasks()
        first, second = made(failing, tasks), made(returning, tasks)
        first.start()
        await until(lambda: failing.running == 1)
        second.start()
        await until(lambda: tasks.count == 1)
        await first.stop()
        await second.stop()

    asyncio.run(scenario())
    found = states(caplog)
    first, second = dict.fromkeys(name for name, _ in found)

    assert [state for name, state in found if name == first] == ["running", "failed", "running", "stopped"]
    assert [state for name, state in found if name == second] == ["running", "returned", "stopped"]
    (failure,) = [record for record in caplog.records if record.__dict__["background"] == "failed"]
    assert (failure.__dict__["plugin"], failure.__dict__["route"], failure.__dict__["retry_s"]) == ("key-refresh", "route#1", 0.001)
    assert failure.exc_info is not None
    assert isinstance(failure.exc_info[1], ValueError)


def test_a_task_that_returns_is_not_started_again() -> None:
    """It is done."""

    async def scenario() -> int:
        author, tasks = Author(None), BackgroundTasks()
        task = made(author, tasks)
        task.start()
        await until(lambda: author.calls == 1 and tasks.count == 0)
        await task.stop()
        return author.calls

    assert asyncio.run(scenario()) == 1


def test_a_task_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """`stop` does not wait for it for long."""
    monkeypatch.setattr(background, "STOP_S", 0.01)

    async def scenario() -> None:
        end = asyncio.Event()

        async def stubborn() -> None:
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    continue

        tasks = BackgroundTasks()
        task = Background(tasks, "stubborn", None, stubborn, None)
        task.start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await task.stop()
        end.set()
        await until(lambda: tasks.count == 0)

    asyncio.run(scenario())

    assert "the background task of plugin stubborn did not end" in caplog.text


@pytest.fixture
def lock() -> Iterator[Callable[[], object]]:
    """The lock of a configuration, for several workers."""
    backend = MemoryBackend()
    yield partial(Store("key-refresh", _backend=lambda: backend).alock, lease_key("{}"), 15.0)
    backend.close()


def test_once(lock: Callable[[], object], caplog: pytest.LogCaptureFixture) -> None:
    """One of three runs. When it stops, another one continues. The log names those that wait."""
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        authors, tasks = [Author() for _ in range(3)], BackgroundTasks()
        workers = [made(author, tasks, lock) for author in authors]
        for worker in workers:
            worker.start()
        await until(lambda: sum(author.running for author in authors) == 1)
        for remaining in (2, 1, 0):
            assert [author.running for author in authors].count(1) == 1
            running = next(number for number, author in enumerate(authors) if author.running)
            await workers[running].stop()
            if remaining:
                await until(lambda: sum(author.running for author in authors) == 1)
        assert [author.calls for author in authors] == [1, 1, 1]

    asyncio.run(scenario())

    assert [state for _, state in states(caplog)].count("waiting") == 2


def test_a_task_that_returns_is_run_once(lock: Callable[[], object]) -> None:
    """The other workers do not run it again."""

    async def scenario() -> int:
        authors, tasks = [Author(None), Author(None)], BackgroundTasks()
        workers = [made(author, tasks, lock) for author in authors]
        for worker in workers:
            worker.start()
        await until(lambda: sum(author.calls for author in authors) == 1)
        await asyncio.sleep(0.05)  # several periods in which the other worker tries to get the lease
        calls = sum(author.calls for author in authors)
        for worker in workers:
            await worker.stop()
        return calls

    assert asyncio.run(scenario()) == 1


def test_a_lost_lease_stops_the_task(lock: Callable[[], object]) -> None:
    """A worker that has lost the lease cancels the task, and waits for the lease again."""
    leases: list[Lease] = []

    async def remembering() -> Lease | None:
        lease: Lease | None = await lock()  # type: ignore[misc]
        leases.extend([] if lease is None else [lease])
        return lease

    async def scenario() -> None:
        author, tasks = Author(), BackgroundTasks()
        task = made(author, tasks, remembering)
        task.start()
        await until(lambda: author.running == 1)
        leases[0].release()
        await until(lambda: author.calls == 2 and author.running == 1)
        await task.stop()
        assert author.running == 0

    asyncio.run(scenario())

    assert len(leases) == 2


def test_a_store_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The task waits for the store, and this is logged once."""
    failures = 3

    async def failing() -> Lease | None:
        nonlocal failures
        failures -= 1
        raise StoreError("no store")

    async def scenario() -> None:
        author = Author()
        task = made(author, BackgroundTasks(), failing)
        task.start()
        await until(lambda: failures == 0)
        await task.stop()
        assert author.calls == 0

    asyncio.run(scenario())

    assert caplog.text.count("waits for the shared store: no store") == 1


def test_the_key_of_a_lease_does_not_show_the_configuration() -> None:
    """Configurations can be secret. Equal ones have the same key."""
    assert lease_key('{"a": 1}') == lease_key('{"a": 1}')
    assert lease_key('{"a": 1}') != lease_key('{"a": 2}')
    assert "1" * 8 not in lease_key("1" * 8)
