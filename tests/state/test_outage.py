# SPDX-License-Identifier: Apache-2.0
"""What each operation does while the store is not available."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from apisix import Store
from apisix.runner.errors import StoreError
from apisix.runner.state.counters import counters
from apisix.runner.state.memory import MemoryBackend
from apisix.runner.state.redis_server import RedisBackend
from apisix.runner.state.store import Lease

NOBODY = "unix:///nonexistent/redis.sock"

PLAIN: dict[str, Callable[..., Any]] = {
    "get": lambda store, **more: store.get("x", **more),
    "get_many": lambda store, **more: store.get_many(["x", "y"], **more),
    "set": lambda store, **more: store.set("x", 1, **more),
    "add": lambda store, **more: store.add("x", 1, **more),
    "cas": lambda store, **more: store.cas("x", 1, 2, **more),
    "cas, absent": lambda store, **more: store.cas("x", None, 2, **more),
    "cas, both absent": lambda store, **more: store.cas("x", None, None, **more),
    "incr": lambda store, **more: store.incr("x", **more),
    "incr, window": lambda store, **more: store.incr("x", ttl_s=1, **more),
    "throttle": lambda store, **more: store.throttle("x", 1, **more),
    "delete": lambda store, **more: store.delete("x", **more),
    "expire": lambda store, **more: store.expire("x", 1, **more),
    "expire, none": lambda store, **more: store.expire("x", None, **more),
    "ttl": lambda store, **more: store.ttl("x", **more),
}
ASYNC: dict[str, Callable[..., Awaitable[Any]]] = {
    "get": lambda store, **more: store.aget("x", **more),
    "get_many": lambda store, **more: store.aget_many(["x", "y"], **more),
    "set": lambda store, **more: store.aset("x", 1, **more),
    "add": lambda store, **more: store.aadd("x", 1, **more),
    "cas": lambda store, **more: store.acas("x", 1, 2, **more),
    "cas, absent": lambda store, **more: store.acas("x", None, 2, **more),
    "cas, both absent": lambda store, **more: store.acas("x", None, None, **more),
    "incr": lambda store, **more: store.aincr("x", **more),
    "incr, window": lambda store, **more: store.aincr("x", ttl_s=1, **more),
    "throttle": lambda store, **more: store.athrottle("x", 1, **more),
    "delete": lambda store, **more: store.adelete("x", **more),
    "expire": lambda store, **more: store.aexpire("x", 1, **more),
    "expire, none": lambda store, **more: store.aexpire("x", None, **more),
    "ttl": lambda store, **more: store.attl("x", **more),
}


@pytest.fixture
def store() -> Store:
    """A store on a server that is not there."""
    backend = RedisBackend(NOBODY, 2, 1.0)
    return Store("limits", _backend=lambda: backend)


@pytest.fixture(autouse=True)
def no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count from 0."""
    monkeypatch.setattr(counters, "errors", 0)
    monkeypatch.setattr(counters, "fallbacks", 0)


def test_both_variants_are_tested() -> None:
    """The tables have each public operation of a store, plain and async."""
    public = {name for name in vars(Store) if not name.startswith("_") and callable(getattr(Store, name))}
    tested = {name.partition(",")[0] for name in PLAIN} | {f"a{name.partition(',')[0]}" for name in ASYNC}

    assert public - {"lock", "alock"} == tested


@pytest.mark.parametrize("name", PLAIN)
async def test_operation_raises(store: Store, name: str) -> None:
    """Without a fallback, the operation raises, and is counted."""
    with pytest.raises(StoreError, match="Redis is not available"):
        PLAIN[name](store)
    with pytest.raises(StoreError, match="Redis is not available"):
        await ASYNC[name](store)
    assert (counters.errors, counters.fallbacks) == (2, 0)


@pytest.mark.parametrize("fallback", [None, 0, "unlimited"])
@pytest.mark.parametrize("name", PLAIN)
async def test_operation_returns_the_fallback(store: Store, name: str, fallback: object, caplog: pytest.LogCaptureFixture) -> None:
    """With a fallback, also with None, the operation returns it. This is counted and logged."""
    found = PLAIN[name](store, fallback=fallback), await ASYNC[name](store, fallback=fallback)

    assert found == (fallback, fallback)
    assert (counters.errors, counters.fallbacks) == (0, 2)
    assert [(record.levelno, record.getMessage().partition(":")[0]) for record in caplog.records] == [
        (logging.WARNING, "an operation of the shared store failed, so a plugin continues with its fallback")
    ] * 2


class Broken:
    """A client of which a method raises what redis-py does not declare."""

    def execute_command(self, *command: object) -> None:
        raise RuntimeError("the handler is closed")


def test_error_that_redis_py_does_not_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop raises RuntimeError if a connection is closed at the wrong moment. This is an outage too."""
    backend = RedisBackend(NOBODY, 2, 1.0)
    monkeypatch.setattr(backend, "_client", Broken())
    store = Store("limits", _backend=lambda: backend)
    with pytest.raises(StoreError, match="the handler is closed"):
        store.get("x")
    assert store.incr("x", fallback=0) == 0


async def test_lock_is_not_given_out(store: Store) -> None:
    """There is no fallback for a lock."""
    with pytest.raises(StoreError):
        store.lock("job", 10)
    with pytest.raises(StoreError):
        await store.alock("job", 10)
    assert counters.errors == 2


NOT_RELEASED = "a lock was not released, so it ends up to 10 seconds later: the store can't be used, because Redis is not available"


def lease_of_a_store_that_goes_away() -> tuple[Lease, Callable[[], object]]:
    """Return a lease, and a function that makes its store unavailable."""
    places = [MemoryBackend(), RedisBackend(NOBODY, 2, 1.0)]
    lease = Store("limits", _backend=lambda: places[0]).lock("job", 10)
    assert lease is not None
    return lease, lambda: places.pop(0)


async def test_lease_of_a_store_that_is_not_available() -> None:
    """An owner can neither renew nor release its lock. It learns that from the exception."""
    lease, end_store = lease_of_a_store_that_goes_away()
    end_store()
    for operation in (lease.renew, lease.release):
        with pytest.raises(StoreError):
            operation()
    for aoperation in (lease.arenew, lease.arelease):
        with pytest.raises(StoreError):
            await aoperation()
    assert counters.errors == 4


def test_lock_that_is_not_released_at_the_end_of_its_block(caplog: pytest.LogCaptureFixture) -> None:
    """The block has done its work, so it does not fail. This is logged and counted."""
    lease, end_store = lease_of_a_store_that_goes_away()
    with lease:
        end_store()

    assert [record.getMessage().startswith(NOT_RELEASED) for record in caplog.records] == [True]
    assert counters.errors == 1


async def test_block_that_fails_and_whose_lock_is_not_released(caplog: pytest.LogCaptureFixture) -> None:
    """The exception of the block is raised, not that of the store."""

    async def fail() -> None:
        lease, end_store = lease_of_a_store_that_goes_away()
        async with lease:
            end_store()
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert [record.getMessage().startswith(NOT_RELEASED) for record in caplog.records] == [True]


@pytest.mark.parametrize("operation", [PLAIN["set"], PLAIN["incr"]])
def test_mistakes_are_not_covered_by_the_fallback(store: Store, operation: Callable[..., Any]) -> None:
    """A key that is not allowed raises in any case."""
    with pytest.raises(ValueError, match="a key must have"):
        store.set("", 1, fallback=None)
    with pytest.raises(TypeError, match="a value must be"):
        store.set("x", object(), fallback=None)
    assert operation(store, fallback=5) == 5
