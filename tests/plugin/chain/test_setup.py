# SPDX-License-Identifier: Apache-2.0
"""A failed `setup` is retried with a longer delay each time. Calls before the retry are refused without another attempt."""

import asyncio

import pytest

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.chain.setup import Setup


class Clock:
    """The time of the running loop, which only the test advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now_s, raising=True)


class Author:
    """A plugin's `setup`, which fails until `works` is True."""

    def __init__(self) -> None:
        self.attempts = 0
        self.works = False

    async def setup(self) -> None:
        self.attempts += 1
        if not self.works:
            raise ConnectionError("no database")


async def _refused(setup: Setup) -> bool:
    """Return True if no attempt was made, and False if one failed."""
    with pytest.raises((ChainRefused, ConnectionError)) as raised:
        await setup.ensure()
    refused = isinstance(raised.value, ChainRefused)
    assert str(raised.value) == ("setup failed: ConnectionError('no database'); it is retried later" if refused else "no database")
    return refused


async def test_the_delay_starts_at_a_second_doubles_and_ends_at_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, author = Clock(monkeypatch), Author()
    setup = Setup(author.setup, timeout_s=5)
    assert await _refused(setup) is False

    for attempts, delay_s in enumerate([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0], start=1):
        clock.now_s += delay_s - 0.001
        assert (await _refused(setup), author.attempts) == (True, attempts)
        clock.now_s += 0.001
        assert (await _refused(setup), author.attempts) == (False, attempts + 1)


async def test_a_retry_that_succeeds_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, author = Clock(monkeypatch), Author()
    setup = Setup(author.setup, timeout_s=5)
    await _refused(setup)
    author.works = True
    clock.now_s += 1.0

    await setup.ensure()
    await setup.ensure()

    assert (setup.done, author.attempts) == (True, 2)


async def test_calls_share_an_attempt() -> None:
    author = Author()
    setup = Setup(author.setup, timeout_s=5)

    outcomes = await asyncio.gather(setup.ensure(), setup.ensure(), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]
    assert author.attempts == 1


async def test_a_call_that_is_cancelled_leaves_the_attempt_to_the_others() -> None:
    proceed = asyncio.Event()
    setup = Setup(lambda: _wait(proceed), timeout_s=5)
    first, second = asyncio.ensure_future(setup.ensure()), asyncio.ensure_future(setup.ensure())
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.sleep(0)
    proceed.set()
    await second

    assert first.cancelled()
    assert setup.done


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_long_failure_is_shortened() -> None:
    async def fail() -> None:
        raise ValueError("x" * 5000)

    setup = Setup(fail, timeout_s=5)
    with pytest.raises(ValueError, match="x"):
        await setup.ensure()

    with pytest.raises(ChainRefused) as refusal:
        await setup.ensure()

    assert len(str(refusal.value)) == len("setup failed: ; it is retried later") + 1000
