# SPDX-License-Identifier: Apache-2.0
"""Descriptors are watched together, or one by one where the system has no epoll."""

import asyncio
import select
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from apisix.runner.worker.poller import MOST_AT_ONCE, Poller

BOUND_S = 10.0


class Recorder:
    """Takes note of what it is told, and reads what there is."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.told: list[str] = []
        self.on_readable: Callable[[], None] = lambda: None

    def readable(self) -> None:
        """Read."""
        self.told.append("readable")
        self.ours.recv(100)
        self.on_readable()

    def writable(self) -> None:
        """Take note."""
        self.told.append("writable")

    def cut(self) -> None:
        """Take note."""
        self.told.append("cut")

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def recorders() -> Iterator[list[Recorder]]:
    """A full turn of connections, and two more."""
    made = [Recorder() for _ in range(MOST_AT_ONCE + 2)]
    yield made
    for recorder in made:
        recorder.close()


@pytest.fixture(params=["epoll", "one by one"])
def poller(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Poller]:
    """A poller of either kind."""
    if request.param == "one by one":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.skip("this system has no epoll")
    poller = Poller(loop)
    yield poller
    poller.close()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that stops before it takes too long."""
    loop = request.param()
    timer = loop.call_later(BOUND_S, loop.stop)
    yield loop
    timer.cancel()
    loop.close()


def run_until(loop: asyncio.AbstractEventLoop, condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is the case."""

    async def turn() -> None:
        while not condition():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(turn(), BOUND_S))


def test_each_is_told(loop: asyncio.AbstractEventLoop, poller: Poller, recorders: list[Recorder]) -> None:
    """Whoever has something to read is told once for it, however many they are."""
    for recorder in recorders:
        poller.watch(recorder.ours.fileno(), recorder)
        recorder.theirs.send(b"x")
    run_until(loop, lambda: all(recorder.told for recorder in recorders))
    assert [["readable"]] * len(recorders) == [recorder.told for recorder in recorders]
    for recorder in recorders:
        poller.unwatch(recorder.ours.fileno())


def test_writing_is_told_while_it_is_wanted(loop: asyncio.AbstractEventLoop, poller: Poller, recorders: list[Recorder]) -> None:
    """There is room to write at almost any time, so it is told only when somebody waits for that."""
    first = recorders[0]
    descriptor = first.ours.fileno()
    poller.watch(descriptor, first)
    poller.want(descriptor, reading=False, writing=True)
    first.theirs.send(b"x")
    run_until(loop, lambda: bool(first.told))
    assert {"writable"} == set(first.told)
    poller.want(descriptor, reading=True, writing=False)
    first.told.clear()
    run_until(loop, lambda: bool(first.told))
    assert ["readable"] == first.told
    poller.unwatch(descriptor)


def test_one_that_ends_another(loop: asyncio.AbstractEventLoop, poller: Poller, recorders: list[Recorder]) -> None:
    """Who is not watched any more is not told, even if its turn was just about to come."""
    first, second = recorders[:2]

    def end_other(other: Recorder) -> None:
        poller.unwatch(other.ours.fileno())

    first.on_readable = lambda: end_other(second)
    second.on_readable = lambda: end_other(first)
    for recorder in (first, second):
        poller.watch(recorder.ours.fileno(), recorder)
        recorder.theirs.send(b"x")
    run_until(loop, lambda: bool(first.told or second.told))
    loop.run_until_complete(asyncio.sleep(0))
    assert [[], ["readable"]] == sorted((first.told, second.told))
    poller.unwatch((first if first.told else second).ours.fileno())


def test_a_defect_ends_one_connection(
    loop: asyncio.AbstractEventLoop, poller: Poller, recorders: list[Recorder], caplog: pytest.LogCaptureFixture
) -> None:
    """What a session raises is logged, and costs its own connection, not those that come after it."""
    for recorder in recorders[:2]:
        poller.watch(recorder.ours.fileno(), recorder)
        recorder.theirs.send(b"x")

    def fail() -> None:
        raise LookupError("nobody expects this")

    recorders[0].on_readable = fail
    run_until(loop, lambda: len(recorders[0].told) == 2 and bool(recorders[1].told))
    assert [["readable", "cut"], ["readable"]] == [recorder.told for recorder in recorders[:2]]
    assert "nobody expects this" in caplog.text
    for recorder in recorders[:2]:
        poller.unwatch(recorder.ours.fileno())
