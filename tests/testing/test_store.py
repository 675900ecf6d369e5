# SPDX-License-Identifier: Apache-2.0
"""The shared store in tests of plugins."""

import pytest

from apisix import Plugin, Reply, Request
from apisix.testing import Client


class Inline(Plugin):
    """Counts calls, without waiting for the gateway."""

    name = "counter"

    def on_request(self, request: Request) -> Reply:
        return Reply(200, str(self.store.incr("calls", ttl_s=10)))


class Waiting(Plugin):
    """Counts calls after it has waited for the gateway."""

    name = "counter"

    def on_request(self, request: Request) -> Reply:
        request.var("route_id")
        return Reply(200, str(self.store.incr("calls", ttl_s=10)))


class Coroutine(Plugin):
    """Counts calls in a coroutine."""

    name = "counter"

    async def on_request(self, request: Request) -> Reply:
        await request.avar("route_id")
        return Reply(200, str(await self.store.aincr("calls", ttl_s=10)))


class Threaded(Plugin):
    """Counts calls in a thread."""

    name = "counter"
    blocking = True

    def on_request(self, request: Request) -> Reply:
        return Reply(200, str(self.store.incr("calls", ttl_s=10)))


KINDS = pytest.mark.parametrize("kind", [Inline, Waiting, Coroutine, Threaded])


def count(client: Client, kind: type[Plugin]) -> bytes:
    """Send a request, and return how many there were."""
    return client.get("/", plugins=[kind]).reply.body


@KINDS
def test_each_client_has_an_empty_store(kind: type[Plugin]) -> None:
    """Clients do not see each other's entries."""
    with Client() as first, Client() as second:
        counts = [count(each, kind) for each in (first, first, second)]

        assert (counts, first.store("counter").get("calls"), second.store("counter").get("calls")) == ([b"1", b"2", b"1"], 2, 1)


@KINDS
def test_clients_can_share_a_store(kind: type[Plugin]) -> None:
    """Two clients are like two workers, if they share a store."""
    with Client() as first, Client(share_store=first) as second:
        counts = [count(each, kind) for each in (first, second)]

    assert counts == [b"1", b"2"]


@KINDS
def test_time_passes(kind: type[Plugin]) -> None:
    """Entries expire when the client lets time pass."""
    with Client() as client:
        counts = [count(client, kind), count(client, kind)]
        client.advance(11)
        counts.append(count(client, kind))

    assert counts == [b"1", b"2", b"1"]


async def test_async_test() -> None:
    """In an async test, the store is empty too."""
    async with Client() as first, Client() as second:
        counts = [(await each.aget("/", plugins=[Coroutine])).reply.body for each in (first, first, second)]

    assert counts == [b"1", b"2", b"1"]
