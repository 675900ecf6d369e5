# SPDX-License-Identifier: Apache-2.0
"""One timer serves all deadlines."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from apisix.runner import primitives
from apisix.runner.call.deadlines import Deadlines


class Waiting:
    """Records that it has expired, and calls a function then."""

    def __init__(self, expired: list[str], name: str, then: Callable[[], None] = lambda: None) -> None:
        self._expired = expired
        self._name = name
        self._then = then

    def expire(self) -> None:
        """Record the name."""
        self._expired.append(self._name)
        self._then()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_each_deadline_expires_at_its_time(loop: asyncio.AbstractEventLoop) -> None:
    """The order in which deadlines are added does not matter. A discarded deadline does not expire."""
    expired: list[str] = []
    deadlines = Deadlines(loop)
    now_s = primitives.now_s()
    gone = Waiting(expired, "gone")
    deadlines.add(gone, now_s)
    deadlines.add(Waiting(expired, "second", loop.stop), now_s + 0.02)
    deadlines.add(Waiting(expired, "first"), now_s + 0.01)
    deadlines.discard(gone)
    loop.run_forever()
    assert expired == ["first", "second"]


def test_a_late_loop_keeps_the_order(loop: asyncio.AbstractEventLoop) -> None:
    """Deadlines that have passed while the event loop was busy expire in the order of their times."""
    expired: list[str] = []
    deadlines = Deadlines(loop)
    now_s = primitives.now_s()
    deadlines.add(Waiting(expired, "second", loop.stop), now_s - 1)
    deadlines.add(Waiting(expired, "first"), now_s - 2)
    loop.run_forever()
    assert expired == ["first", "second"]


def test_one_timer_for_many(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding and discarding deadlines does not set a timer each time."""
    timers = []
    call_later = loop.call_later

    def count(delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timers.append(delay)
        return call_later(delay, callback)

    monkeypatch.setattr(loop, "call_later", count)
    deadlines = Deadlines(loop)
    now_s = primitives.now_s()
    for number in range(100):
        waiting = Waiting([], "")
        deadlines.add(waiting, now_s + 50 + number)
        deadlines.discard(waiting)
    assert len(timers) == 1
    deadlines.close()


def test_one_that_ends_another(loop: asyncio.AbstractEventLoop) -> None:
    """A deadline that another `expire` discards does not expire."""
    expired: list[str] = []
    deadlines = Deadlines(loop)
    now_s = primitives.now_s()
    other = Waiting(expired, "other")
    deadlines.add(Waiting(expired, "one", lambda: deadlines.discard(other)), now_s)
    deadlines.add(other, now_s)
    deadlines.add(Waiting(expired, "last", loop.stop), now_s + 0.01)
    loop.run_forever()
    assert expired == ["one", "last"]
