# SPDX-License-Identifier: Apache-2.0
"""The test client in async tests: on the test's own loop."""

import asyncio
from contextvars import ContextVar

import pytest

from apisix import Plugin, Reply, Request
from apisix.runner.errors import BodyError
from apisix.testing import Client, DeadlineExceeded
from tests.testing import samples

tenant: ContextVar[str] = ContextVar("tenant")


@pytest.mark.parametrize("plugin", [samples.Tell, samples.TellAsync, samples.TellBlocking])
async def test_questions(client: Client, plugin: type[Plugin]) -> None:
    """Plugins of each kind get what they ask for."""
    result = await client.apost("/", body="hello", vars={"consumer_name": "jack"}, plugins=[(plugin, ["consumer_name", "body"])])

    assert ["jack", "hello"] == result.reply.json()
    assert ("consumer_name", "body") == result.asked
    await client.aclose()


async def test_response(client: Client) -> None:
    """Responses too."""
    result = await client.arespond(json={"public": "me"}, plugins=[samples.HideAsync])

    assert b"me" == result.response.body
    with pytest.raises(BodyError):
        await client.arespond(plugins=[samples.HideAsync])


async def test_same_loop_and_context(client: Client) -> None:
    """The plugin runs on the test's loop, and sees its context, so that both can share what belongs to a loop."""
    arrived = asyncio.Event()
    seen: list[str] = []

    class Note(Plugin):
        async def on_request(self, request: Request) -> None:
            seen.append(tenant.get())
            arrived.set()

    tenant.set("a")
    await client.aget("/", plugins=[Note])
    await arrived.wait()
    assert ["a"] == seen


async def test_calls_at_once(client: Client) -> None:
    """Several calls run at once, each with its own answers and effects."""
    met = asyncio.Barrier(3)

    class Meet(Plugin):
        async def on_request(self, request: Request) -> Reply:
            await met.wait()
            return Reply(200, await request.avar("n") or "")

    results = await asyncio.gather(*(client.aget("/", vars={"n": n}, plugins=[Meet]) for n in range(3)))

    assert ["0", "1", "2"] == [result.reply.text for result in results]
    assert [("n",)] * 3 == [result.asked for result in results]
    assert [1, 1, 1] == [len(result.effects) for result in results]


async def test_offered_classes_of_calls_at_once(client: Client) -> None:
    """Two calls that begin at once may offer different classes of one name."""

    def offer(status: int) -> type[Plugin]:
        class Same(Plugin):
            async def on_request(self, request: Request) -> Reply:
                return Reply(status)

        return Same

    results = await asyncio.gather(*(client.aget("/", plugins=[offer(status)]) for status in (201, 202)))
    assert [201, 202] == [result.reply.status for result in results]


async def test_exceptions_come_through(client: Client) -> None:
    """What plugins raise is raised where the test awaits; a deadline likewise."""
    for plugin in (samples.Fail, samples.FailAsync, samples.FailBlocking):
        with pytest.raises(ValueError, match="this is wrong"):
            await client.aget("/", plugins=[(plugin, '"value"')])
    async with Client(plugin_timeout_s=0.01) as hasty:
        with pytest.raises(DeadlineExceeded):
            await hasty.aget("/", plugins=[samples.Wait])


async def test_call_that_is_given_up(client: Client) -> None:
    """A test that waits no longer cancels the plugin, as a gateway that hangs up does."""
    began = asyncio.Event()
    ended = asyncio.Event()

    class Linger(Plugin):
        async def on_request(self, request: Request) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    calling = asyncio.create_task(client.aget("/", plugins=[Linger]))
    await began.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.wait_for(ended.wait(), 5)


async def test_lifecycle() -> None:
    """`setup` runs before the first call and `close` at the end, both on the test's loop."""
    samples.Count.events.clear()
    async with Client() as client:
        await client.aget("/", plugins=[samples.Count])
        await client.aget("/", plugins=[samples.Count])
        assert ["setup"] == samples.Count.events
        with pytest.raises(RuntimeError, match=r"await client\.aclose"):
            client.close()
    assert ["setup", "close"] == samples.Count.events
    client.close()


def test_loops_of_the_tests_own() -> None:
    """A client that was used on another loop closes the plugins there; where that loop is gone, it warns and names them."""
    samples.Count.events.clear()
    loop = asyncio.new_event_loop()
    with Client() as client:
        loop.run_until_complete(client.aget("/", plugins=[samples.Count]))
    assert ["setup", "close"] == samples.Count.events

    loop.run_until_complete(client.aget("/", plugins=[samples.Count]))
    loop.close()
    with pytest.warns(ResourceWarning, match="before count could be closed: await client.aclose"):
        client.close()


class TestFixture:
    """The fixture `client` in async tests."""

    async def test_first(self, client: Client) -> None:
        """A test may leave it to the fixture to close its plugins."""
        samples.Count.events.clear()
        await client.aget("/", plugins=[samples.Count])

    async def test_second(self) -> None:
        """The one before was closed, on its own loop: else a warning would have failed it."""
        assert ["setup", "close"] == samples.Count.events


def test_close_that_fails_at_the_end_of_the_loop() -> None:
    """What `close` raises when the loop ends comes through when the client is closed."""
    client = Client()

    async def main() -> None:
        await client.aget("/", plugins=[samples.NoClose])

    asyncio.run(main())
    with pytest.raises(ConnectionError, match="any more"):
        client.close()
