# SPDX-License-Identifier: Apache-2.0
"""The test client in async tests, on the event loop of the test."""

import asyncio
from contextvars import ContextVar

import pytest

from apisix import Plugin, Reply, Request
from apisix.runner.errors import BodyError
from apisix.testing import Client, DeadlineExceeded
from tests.testing import samples

tenant: ContextVar[str] = ContextVar("tenant")


@pytest.mark.parametrize("plugin", [samples.Show, samples.ShowAsync, samples.ShowBlocking])
async def test_info_requests(client: Client, plugin: type[Plugin]) -> None:
    """Plugins of each kind get info replies."""
    result = await client.apost("/", body="hello", vars={"consumer_name": "jack"}, plugins=[(plugin, ["consumer_name", "body"])])

    assert result.reply.json() == ["jack", "hello"]
    assert result.asked == ("consumer_name", "body")
    await client.aclose()


async def test_response(client: Client) -> None:
    """The same works in the response phase."""
    result = await client.arespond(json={"public": "me"}, plugins=[samples.HideAsync])

    assert result.response.body == b"me"
    with pytest.raises(BodyError):
        await client.arespond(plugins=[samples.HideAsync])


async def test_same_loop_and_context(client: Client) -> None:
    """The plugin runs on the event loop of the test and in its context, so both can share objects that belong to a loop."""
    arrived = asyncio.Event()
    seen: list[str] = []

    class Note(Plugin):
        async def on_request(self, request: Request) -> None:
            seen.append(tenant.get())
            arrived.set()

    tenant.set("a")
    await client.aget("/", plugins=[Note])
    await arrived.wait()
    assert seen == ["a"]


async def test_calls_at_the_same_time(client: Client) -> None:
    """Several calls run at the same time, each with its own info replies and effects."""
    met = asyncio.Barrier(3)

    class Meet(Plugin):
        async def on_request(self, request: Request) -> Reply:
            await met.wait()
            return Reply(200, await request.avar("n") or "")

    results = await asyncio.gather(*(client.aget("/", vars={"n": n}, plugins=[Meet]) for n in range(3)))

    assert [result.reply.text for result in results] == ["0", "1", "2"]
    assert [result.asked for result in results] == [("n",)] * 3
    assert [len(result.effects) for result in results] == [1, 1, 1]


async def test_offered_classes_of_calls_at_the_same_time(client: Client) -> None:
    """Two calls that start at the same time can offer different classes of the same name."""

    def offer(status: int) -> type[Plugin]:
        class Same(Plugin):
            async def on_request(self, request: Request) -> Reply:
                return Reply(status)

        return Same

    results = await asyncio.gather(*(client.aget("/", plugins=[offer(status)]) for status in (201, 202)))
    assert [result.reply.status for result in results] == [201, 202]


async def test_exceptions_are_raised(client: Client) -> None:
    """An exception of a plugin is raised where the test awaits the call. The same applies to the time limit."""
    for plugin in (samples.Fail, samples.FailAsync, samples.FailBlocking):
        with pytest.raises(ValueError, match="this is wrong"):
            await client.aget("/", plugins=[(plugin, '"value"')])
    async with Client(plugin_timeout_s=0.01) as hasty:
        with pytest.raises(DeadlineExceeded):
            await hasty.aget("/", plugins=[samples.Wait])


async def test_cancelled_test(client: Client) -> None:
    """If a test is cancelled, the plugin is cancelled too, as if a gateway had closed the connection."""
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
    """`setup` runs before the first call, and `close` at the end, both on the event loop of the test."""
    samples.Count.events.clear()
    async with Client() as client:
        await client.aget("/", plugins=[samples.Count])
        await client.aget("/", plugins=[samples.Count])
        assert samples.Count.events == ["setup"]
        with pytest.raises(RuntimeError, match=r"await client\.aclose"):
            client.close()
    assert samples.Count.events == ["setup", "close"]
    client.close()


def test_loops_of_the_tests_own() -> None:
    """The plugins that were used on another event loop are closed there. If that loop is closed, a warning names them."""
    samples.Count.events.clear()
    loop = asyncio.new_event_loop()
    with Client() as client:
        loop.run_until_complete(client.aget("/", plugins=[samples.Count]))
    assert samples.Count.events == ["setup", "close"]

    loop.run_until_complete(client.aget("/", plugins=[samples.Count]))
    loop.close()
    with pytest.warns(ResourceWarning, match="before count could be closed; call `await client.aclose"):
        client.close()


class TestFixture:
    """The fixture `client` in async tests."""

    async def test_first(self, client: Client) -> None:
        """A test does not have to close its plugins, because the fixture does it."""
        samples.Count.events.clear()
        await client.aget("/", plugins=[samples.Count])

    async def test_second(self) -> None:
        """The plugins of the previous test were closed on their own event loop; otherwise a warning would have failed that test."""
        assert samples.Count.events == ["setup", "close"]


def test_failing_close_at_the_end_of_the_loop() -> None:
    """An exception that `close` raises at the end of the event loop is raised again when the client is closed."""
    client = Client()

    async def main() -> None:
        await client.aget("/", plugins=[samples.NoClose])

    asyncio.run(main())
    with pytest.raises(ConnectionError, match="any more"):
        client.close()
