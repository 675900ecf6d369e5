# SPDX-License-Identifier: Apache-2.0
"""Faults of a Redis server, and of the network to it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

import pytest

from apisix import Store
from apisix.runner.errors import StoreError
from apisix.runner.state import backend as chosen
from apisix.runner.state.redis_server import RedisBackend
from tests.state.redis_process import Server, Setup, running, running_cluster, running_sentinels, wait_until
from tests.state.redis_proxy import Proxy, proxied

pytestmark = pytest.mark.process

SOON_S = 0.3
"""A time-out that tests wait for."""
PATIENT_S = 30.0
"""A time-out that no test waits for."""

Operation = Callable[[Store], Awaitable[Any]]


def in_thread(operation: Callable[[Store], Any]) -> Operation:
    """Return an operation with a plain method as a coroutine."""
    return lambda store: asyncio.to_thread(operation, store)


INCREMENTS: dict[str, Operation] = {
    "incr": in_thread(lambda store: store.incr("n")),
    "aincr": lambda store: store.aincr("n"),
    "incr, window": in_thread(lambda store: store.incr("n", ttl_s=600)),
    "aincr, window": lambda store: store.aincr("n", ttl_s=600),
}
READS: dict[str, Operation] = {
    "get": in_thread(lambda store: store.get("b")),
    "aget": lambda store: store.aget("b"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Setup]:
    """A server for all tests of this module that do not stop it."""
    with running() as setup:
        yield setup


@pytest.fixture
def proxy(server: Setup) -> Iterator[Proxy]:
    """A proxy to the server, which is empty."""
    server.clear()
    with proxied(server) as proxy:
        yield proxy


class Opened:
    """Opens backends, and closes them at the end of a test."""

    def __init__(self) -> None:
        self.backends: list[RedisBackend] = []

    def __call__(self, url: str, timeout_s: float = PATIENT_S, pool_size: int = 4) -> Store:
        backend = RedisBackend(url, pool_size, timeout_s)
        self.backends.append(backend)
        return Store("limits", _backend=lambda: backend)


@pytest.fixture
async def connect() -> AsyncIterator[Opened]:
    """A function that returns a store for a URL."""
    opened = Opened()
    yield opened
    for backend in opened.backends:
        await backend.aclose()


def counted(server: Setup) -> int:
    """Return the value of the counter that `INCREMENTS` use, as the server has it."""
    with server.servers[0].client() as client:
        return int(client.get(b"apisix:limits\0n") or 0)


async def failing(operation: Awaitable[Any]) -> str:
    """Return the message of an operation that must fail."""
    with pytest.raises(StoreError) as raised:
        await operation
    return str(raised.value)


async def eventually(operation: Callable[[], Awaitable[Any]]) -> Any:
    """Return the first result that is not None. Operations may fail before, also because this machine is busy."""
    async with asyncio.timeout(2 * PATIENT_S):
        while True:
            with suppress(StoreError):
                found = await operation()
                if found is not None:
                    return found
            await asyncio.sleep(0.01)


async def until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition."""

    async def check() -> bool | None:
        return is_true() or None

    await eventually(check)


@pytest.mark.parametrize("cut_after", [0, 2])
@pytest.mark.parametrize("name", INCREMENTS)
async def test_reply_that_is_lost(server: Setup, proxy: Proxy, connect: Opened, name: str, cut_after: int) -> None:
    """The server has counted, and the operation raises. It is not sent again. The next one has a new connection."""
    store, increment = connect(proxy.url), INCREMENTS[name]
    await increment(store)
    proxy.cut_after = cut_after
    message = await failing(increment(store))
    after_loss = counted(server)

    assert (await increment(store), after_loss) == (3, 2)
    assert "Redis is not available" in message


@pytest.mark.parametrize("acquire", [in_thread(lambda store: store.lock("job", 60)), lambda store: store.alock("job", 60)])
async def test_lock_whose_reply_is_lost(proxy: Proxy, connect: Opened, acquire: Operation) -> None:
    """Nobody gets the lock, although the server has noted it. It is free again when its lease has ended."""
    store = connect(proxy.url)
    await store.aset("x", 1)
    store.set("x", 1)
    proxy.cut_after = 0
    await failing(acquire(store))

    assert await acquire(store) is None


@pytest.mark.parametrize("name", READS)
async def test_late_reply(proxy: Proxy, connect: Opened, name: str) -> None:
    """A reply that arrives after its operation has failed is not taken for that of the next operation."""
    store, read = connect(proxy.url, SOON_S), READS[name]
    await connect(proxy.url).aset("b", "late")
    await eventually(partial(read, store))
    proxy.delay_s = 3 * SOON_S
    message = await failing(read(store))
    proxy.delay_s = 0.0
    await connect(proxy.url).aset("b", "new")

    assert [await eventually(partial(read, store)) for _ in range(5)] == ["new"] * 5
    assert "Redis is too slow" in message


async def test_cancelled_operation(proxy: Proxy, connect: Opened) -> None:
    """The reply to an operation that was cancelled, as at the time-out of a plugin, is not taken for that of another one."""
    store = connect(proxy.url, pool_size=2)
    for key in "ab":
        await store.aset(key, key)
    proxy.delay_s = 0.2
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.aget("a"), 0.05)
    proxy.delay_s = 0.0

    assert await asyncio.gather(*(store.aget("b") for _ in range(10))) == ["b"] * 10


@pytest.mark.parametrize("name", INCREMENTS)
async def test_server_that_does_not_reply(server: Setup, proxy: Proxy, connect: Opened, name: str) -> None:
    """The operation fails instead of waiting for long. Afterwards, the pool has connections as before."""
    store, increment = connect(proxy.url, SOON_S, pool_size=1), INCREMENTS[name]
    await eventually(partial(increment, store))
    with server.servers[0].hanging():
        messages = [await failing(increment(store)) for _ in range(3)]

    assert await eventually(partial(increment, store)) >= 2  # the server may run what was sent while it did not reply
    assert ["Redis is too slow" in message or "Timeout reading" in message for message in messages] == [True] * 3


async def test_more_operations_than_connections(server: Setup, proxy: Proxy, connect: Opened) -> None:
    """Operations wait for a connection, and for each other in no other way. There are never more connections than allowed."""
    store = connect(proxy.url, pool_size=2)
    proxy.delay_s = 0.01
    found = await asyncio.gather(*(store.aincr("n") for _ in range(20)))
    threads = [threading.Thread(target=partial(store.incr, "n")) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT_S)

    assert sorted(found) == list(range(1, 21))
    assert (counted(server), proxy.accepted) == (40, 4)


@pytest.mark.parametrize("name", ["get", "aget"])
async def test_no_connection_that_becomes_free(server: Setup, proxy: Proxy, connect: Opened, name: str) -> None:
    """An operation that waits too long for a connection fails, and the message names the setting."""
    store, read = connect(proxy.url, SOON_S, pool_size=1), READS[name]
    await connect(proxy.url).aset("b", 1)
    with server.servers[0].hanging():
        results = await asyncio.gather(*(read(store) for _ in range(8)), return_exceptions=True)

    assert [type(result) for result in results] == [StoreError] * 8
    assert any("state.pool_size" in str(result) for result in results)
    assert await eventually(partial(read, store)) == 1


async def test_connections_that_are_reset(server: Setup, proxy: Proxy, connect: Opened) -> None:
    """Idle connections that the server has closed are replaced before a command is sent, so no operation fails."""
    store = connect(proxy.url)
    await asyncio.gather(*(store.aincr("n") for _ in range(4)))
    store.incr("n")
    wait_until(lambda: counted(server) == 5)
    proxy.cut()
    await asyncio.sleep(0.01)  # the event loop learns that its connections are closed

    assert [await store.aincr("n"), store.incr("n")] == [6, 7]


async def test_network_that_flaps(server: Setup, proxy: Proxy, connect: Opened) -> None:
    """Each success has counted exactly once, each failure at most once. After each outage, operations succeed again."""
    store = connect(proxy.url, pool_size=3)
    sums: list[int] = []
    failures = 0
    finished = False

    async def count(increment: Operation) -> None:
        nonlocal failures
        while not finished:
            try:
                sums.append(await increment(store))
            except StoreError:
                failures += 1
                await asyncio.sleep(0.001)

    def has_sums(enough: int) -> bool:
        return len(sums) >= enough

    def has_failed(disturb: Callable[[], None], before: int) -> bool:
        disturb()  # again and again, because no operation may be waiting for its reply
        return failures > before

    tasks = [asyncio.create_task(count(increment)) for increment in INCREMENTS.values() for _ in range(2)]
    for _ in range(5):
        for disturb in (proxy.cut, proxy.close):
            enough, before = len(sums) + 20, failures
            await until(partial(has_sums, enough))
            await until(partial(has_failed, disturb, before))
            proxy.open()
    finished = True
    await asyncio.gather(*tasks)

    assert len(set(sums)) == len(sums)
    assert len(sums) <= counted(server) <= len(sums) + failures
    assert await store.aincr("n") == counted(server)


@pytest.mark.parametrize("name", INCREMENTS)
async def test_server_that_is_killed_and_started(connect: Opened, name: str) -> None:
    """Operations fail meanwhile, and succeed as soon as the server accepts connections. The new server does not have the scripts yet."""
    with running() as own:
        store, increment = connect(own.url), INCREMENTS[name]
        before = [await increment(store), await increment(store)]
        own.servers[0].stop()
        messages = [await failing(increment(store)) for _ in range(3)]
        own.servers[0].start()
        after = [await increment(store), await increment(store)]

    assert (before, after) == ([1, 2], [1, 2])
    assert ["Redis is not available" in message for message in messages] == [True] * 3


async def test_server_that_is_full(connect: Opened) -> None:
    """A write that the server refuses raises. Reads and deletes still succeed."""
    with running() as own:
        store = connect(own.url)
        await store.aset("small", 1)
        with own.servers[0].client() as client:
            client.config_set("maxmemory", 1)
        message = await failing(store.aset("x", b"x" * 100_000))
        found = await store.aget("small"), await store.aadd("y", 1, fallback=False), await store.adelete("small")

    assert "Redis has refused an operation of the store" in message
    assert found == (1, False, True)


def test_child_process(server: Setup) -> None:
    """A plugin that forks does not share connections with its child."""
    server.clear()
    chosen.choose(lambda: RedisBackend(server.url, 2, PATIENT_S))
    try:
        store = Store("limits")
        store.incr("n")
        pid = os.fork()
        if pid == 0:
            os._exit(store.incr("n", fallback=99))
        _, status = os.waitpid(pid, 0)
        found = store.incr("n")
        asyncio.run(chosen.close_opened())
    finally:
        chosen.choose(None)

    assert (os.waitstatus_to_exitcode(status), found) == (2, 3)


def test_event_loops_one_after_the_other(server: Setup, connect: Opened) -> None:
    """Each event loop has connections of its own, and those of a loop that was closed are dropped."""
    server.clear()
    store = connect(server.url)

    async def count() -> int:
        number = await store.aincr("n")
        (backend,) = connect.backends
        client, _ = backend._async[asyncio.get_running_loop()]
        await client.connection_pool.disconnect()  # a test fails if connections are not closed
        return int(number)

    found = [asyncio.run(count()) for _ in range(3)]

    assert found == [1, 2, 3]
    assert len(connect.backends[0]._async) == 1


@pytest.mark.parametrize(
    "start", [running, *(pytest.param(start, marks=pytest.mark.slow) for start in (running_sentinels, running_cluster))]
)
async def test_connection_that_is_closed_before_the_reply(start: Callable[[], AbstractContextManager[Setup]], connect: Opened) -> None:
    """The increment is not sent again, although the server would accept it. This also applies to sentinels and to a cluster."""
    with start() as setup:
        store = connect(setup.url)
        for increment in INCREMENTS.values():
            await increment(store)
        for increment in INCREMENTS.values():
            for server in setup.primaries():
                with server.client() as client:
                    client.execute_command("CLIENT", "PAUSE", 3_600_000, "WRITE")
            task = asyncio.ensure_future(increment(store))
            await until(lambda: sum(map(kill_waiting, setup.primaries())) > 0)
            for server in setup.primaries():
                with server.client() as client:
                    client.execute_command("CLIENT", "UNPAUSE")
            await failing(task)

        assert await store.aincr("n") == 5


def kill_waiting(server: Server) -> int:
    """Close the connections whose commands wait for the end of a pause. Return how many there were."""
    with server.client() as client:
        waiting = [each["id"] for each in client.client_list() if "b" in each["flags"]]
        for number in waiting:
            client.execute_command("CLIENT", "KILL", "ID", number)
    return len(waiting)


@pytest.mark.slow
async def test_failover_with_sentinels(connect: Opened) -> None:
    """If the primary is killed, the sentinels choose the replica. Operations fail until then, and continue with its entries."""
    with running_sentinels() as setup:
        store = connect(setup.url, 5.0)
        with setup.servers[0].client() as client:
            before = [await increment(store) for increment in INCREMENTS.values()]
            client.execute_command("WAIT", 1, 10_000)  # replication is asynchronous
        setup.servers[0].stop()
        during = await store.aincr("n", fallback=None)
        first = await eventually(lambda: store.aincr("n"))
        after = [await increment(store) for increment in INCREMENTS.values()]

    assert before == [1, 2, 3, 4]
    assert (during, first, after) == (None, 5, [6, 7, 8, 9])


@pytest.mark.slow
async def test_primary_that_becomes_a_replica(connect: Opened) -> None:
    """At a planned failover, the old primary refuses writes. Open connections to it are replaced."""
    with running_sentinels() as setup:
        store = connect(setup.url, 5.0)
        before = [await increment(store) for increment in INCREMENTS.values()]
        with setup.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", "main")

        await until(lambda: [server.port for server in setup.primaries()] == [setup.servers[1].port])
        await eventually(lambda: store.aincr("n"))
        await eventually(lambda: asyncio.to_thread(store.incr, "n"))
        with setup.servers[1].client() as client:
            found = int(client.get(b"apisix:limits\0n") or 0)

    assert before == [1, 2, 3, 4]
    assert found == 6


@pytest.mark.slow
async def test_failover_of_a_cluster(connect: Opened) -> None:
    """If a primary of a cluster is killed, its replica continues with its entries. Entries of the others are available meanwhile."""
    with running_cluster(replicas=1) as setup:
        store = connect(setup.url, 5.0)
        keys = [f"key-{number}" for number in range(30)]
        for key in keys:
            await store.aincr(key)
            store.incr(key)
        for server in setup.servers[:3]:
            with server.client() as client:
                client.execute_command("WAIT", 1, 10_000)
        setup.servers[2].stop()
        during = [await store.aincr(key, fallback=None) for key in keys]
        for key in keys:
            await eventually(partial(store.aget, key))
            await eventually(partial(asyncio.to_thread, store.get, key))
        after = await store.aget_many(keys)
        plainly = store.get_many(keys)

    assert 3 in during
    assert after == {key: 2 if number is None else 3 for key, number in zip(keys, during, strict=True)}
    assert plainly == after
