# SPDX-License-Identifier: Apache-2.0
"""One timer serves all deadlines."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from apisix.runner import primitives
from apisix.runner.call.deadlines import Deadlines


class Waiting:
    """Takes note that it has expired, and ends others then."""

    def __init__(self, expired: list[str], name: str, then: Callable[[], None] = lambda: None) -> None:
        self._expired = expired
        self._name = name
        self._then = then

    def expire(self) -> None:
        """Take note."""
        self._expired.append(self._name)
        self._then()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_what_is_late_expires(loop: asyncio.AbstractEventLoop) -> None:
    """Each expires at its own time, whatever the order in which they came; what was discarded does not."""
    expired: list[str] = []
    deadlines = Deadlines(loop)
    now_s = primitives.now_s()
    gone = Waiting(expired, "gone")
    deadlines.add(gone, now_s)
    deadlines.add(Waiting(expired, "second", loop.stop), now_s + 0.02)
    deadlines.add(Waiting(expired, "first"), now_s + 0.01)
    deadlines.discard(gone)
    loop.run_forever()
    assert ["first", "second"] == expired


def test_a_late_loop_keeps_the_order(loop: asyncio.AbstractEventLoop) -> None:
    """What has become due meanwhile expires in the order of the times."""
    expired: list[str] = []
    deadlines = Deadlines(loop)
    now_s = primitives.now_s()
    deadlines.add(Waiting(expired, "second", loop.stop), now_s - 1)
    deadlines.add(Waiting(expired, "first"), now_s - 2)
    loop.run_forever()
    assert expired == ["first", "second"]


def test_one_timer_for_many(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that come and go need no timer each."""
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
    assert 1 == len(timers)
    deadlines.close()


def test_one_that_ends_another(loop: asyncio.AbstractEventLoop) -> None:
    """What is discarded while others expire does not expire any more."""
    expired: list[str] = []
    deadlines = Deadlines(loop)
    now_s = primitives.now_s()
    other = Waiting(expired, "other")
    deadlines.add(Waiting(expired, "one", lambda: deadlines.discard(other)), now_s)
    deadlines.add(other, now_s)
    deadlines.add(Waiting(expired, "last", loop.stop), now_s + 0.01)
    loop.run_forever()
    assert ["one", "last"] == expired
