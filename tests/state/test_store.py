# SPDX-License-Identifier: Apache-2.0
"""What every place of the shared store has to do: one suite for all of them."""

import math
from datetime import datetime
from typing import Any

import pytest

from apisix import Store
from tests.state.conftest import Place

VALUES: list[Any] = [
    b"",
    b"\x00\xff12",
    "",
    "12",
    "caf\u00e9 \0",
    0,
    -5,
    2**63 - 1,
    -(2**63),
    1.5,
    1.0,
    True,
    False,
    [],
    {},
    {"b": [1, None, {"a": "x"}], "a": 2.5},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_value_is_read_as_the_same_type(store: Store, value: object) -> None:
    """A value is equal to the stored one, and of the same type, whichever variant stores and reads it."""
    store.set("plain", value)
    await store.aset("async", value)
    found = [store.get("plain"), await store.aget("plain"), store.get("async"), await store.aget("async")]

    assert found == [value] * 4
    assert {type(each) for each in found} == {type(value)}


@pytest.mark.parametrize(
    "value",
    [None, (1,), {1}, object(), [(1,)], {1: "a"}, [math.nan], [b"x"], [datetime(2026, 1, 1)], bytearray(b"x")],
    ids=lambda value: type(value).__name__,
)
def test_value_that_would_change_is_refused(store: Store, value: object) -> None:
    """A value that can't be read as the same value raises where it is stored."""
    with pytest.raises(TypeError, match=r"value must be|JSON"):
        store.set("key", value)
    assert store.get("key") is None


@pytest.mark.parametrize(
    ("value", "message"),
    [(b"x" * (1 << 20), "at most 1048576 bytes"), ("\ud800", "valid Unicode"), (2**63, "64 bits"), (-(2**63) - 1, "64 bits")],
)
def test_value_that_is_too_large_is_refused(store: Store, value: object, message: str) -> None:
    """The limits are in the message."""
    with pytest.raises(ValueError, match=message):
        store.set("key", value)


@pytest.mark.parametrize("key", ["", "x" * 1025, "\ud800"], ids=["empty", "long", "surrogate"])
def test_key_that_is_not_allowed(store: Store, key: str) -> None:
    """A key has a size limit, and is valid Unicode."""
    with pytest.raises(ValueError, match="a key must"):
        store.get(key)


def test_key_that_is_not_a_str(store: Store) -> None:
    """A key of another type is a mistake."""
    with pytest.raises(TypeError, match="must be a str, not int"):
        store.get(1)  # type: ignore[arg-type]  # as a plugin without types may do


def test_long_keys_that_begin_alike(store: Store) -> None:
    """Keys of the largest size are separate entries."""
    keys = ["x" * 1023 + end for end in "ab"]
    for key in keys:
        store.set(key, key)

    assert [store.get(key) for key in keys] == keys


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 129])
def test_name_that_is_not_allowed(name: str) -> None:
    """The name of a store is short and printable."""
    with pytest.raises(ValueError, match="name of a store"):
        Store(name)


def test_stores_are_separate(place: Place) -> None:
    """The same key in a store with another name is another entry, also if the names begin alike."""
    place.store("a").set("bc", 1)
    place.store("ab").set("c", 2)

    assert [place.store("a").get("bc"), place.store("ab").get("c"), place.store("a").get("c")] == [1, 2, None]


async def test_absent_entry(store: Store) -> None:
    """An absent entry is None, and deleting it or changing its lifetime returns False."""
    found = [store.get("x"), store.get_many(["x"]), store.delete("x"), store.expire("x", 5), store.ttl("x")]
    afound = [
        await store.aget("x"),
        await store.aget_many(["x"]),
        await store.adelete("x"),
        await store.aexpire("x", 5),
        await store.attl("x"),
    ]

    assert found == [None, {}, False, False, None]
    assert afound == found


async def test_add_only_if_absent(place: Place) -> None:
    """The first one that adds an entry wins, until it expires."""
    store = place.store()
    added = [store.add("x", 1, ttl_s=10), store.add("x", 2), await store.aadd("x", 3)]
    first = store.get("x")
    place.advance(10)
    again = await store.aadd("x", 4)

    assert (added, first, again, store.get("x")) == ([True, False, False], 1, True, 4)


async def test_incr_is_a_fixed_window(place: Place) -> None:
    """The lifetime begins with the first increment. Later ones do not change it, even if they name another one."""
    store = place.store()
    sums = [store.incr("x", ttl_s=10), await store.aincr("x", 5, ttl_s=100), store.incr("x", -2)]
    place.advance(9)
    sums.append(store.incr("x", ttl_s=10))
    place.advance(1.1)
    sums.append(store.incr("x", ttl_s=10))

    assert sums == [1, 6, 4, 5, 1]


def test_incr_without_lifetime(place: Place) -> None:
    """Without a lifetime, the entry is kept."""
    store = place.store()
    store.incr("x")
    place.advance(10**6)

    assert (store.incr("x"), store.ttl("x")) == (2, math.inf)


def test_incr_continues_an_int_that_was_set(store: Store) -> None:
    """An int is the same whether it was set or counted."""
    store.set("x", 41)

    assert store.incr("x") == 42


@pytest.mark.parametrize("value", ["1", b"1", 1.0, True, [1]], ids=repr)
async def test_incr_of_another_type(store: Store, value: object) -> None:
    """Only an int can be incremented. The entry stays."""
    store.set("x", value)
    with pytest.raises(TypeError, match="needs an entry that is an int"):
        store.incr("x")
    with pytest.raises(TypeError, match="needs an entry that is an int"):
        await store.aincr("x")
    assert store.get("x") == value


def test_incr_above_64_bits(store: Store) -> None:
    """A sum that does not fit raises, and the entry stays."""
    store.set("x", 2**63 - 1)
    with pytest.raises(ValueError, match="64 bits"):
        store.incr("x")
    with pytest.raises(ValueError, match="64 bits"):
        store.incr("y", 2**63)
    assert (store.get("x"), store.get("y")) == (2**63 - 1, None)


@pytest.mark.parametrize("by", [1.0, True, "1", None])
def test_incr_by_another_type(store: Store, by: Any) -> None:
    """Only whole numbers can be added."""
    with pytest.raises(TypeError, match="`by` must be an int"):
        store.incr("x", by)


def let_pass(store: Store, key: str, seconds: float) -> None:
    """Let time pass for a rate limit. The entry is the time at which the bucket is empty, in microseconds."""
    store.set(key, store.get(key) - int(seconds * 1e6))


RATE = 0.001
"""So few events per second that the duration of a test does not matter."""


async def test_throttle(store: Store) -> None:
    """Of many events, one and the burst are allowed, then one in each interval."""
    allowed = [store.throttle("x", RATE, 2)[0], (await store.athrottle("x", RATE, 2))[0]]
    allowed += [store.throttle("x", RATE, 2)[0] for _ in range(3)]
    let_pass(store, "x", 1000)
    allowed += [store.throttle("x", RATE, 2)[0], (await store.athrottle("x", RATE, 2))[0]]

    assert allowed == [True, True, True, False, False, True, False]


async def test_throttle_after_a_pause(place: Place) -> None:
    """After a pause, the whole burst is allowed again, and no more."""
    store = place.store()
    before = [store.throttle("x", RATE, 1)[0] for _ in range(3)]
    place.advance(2001)
    found = store.get("x")
    after = [store.throttle("x", RATE, 1)[0] for _ in range(3)]

    assert (before, found, after) == ([True, True, False], None, [True, True, False])


async def test_wait_of_throttle(store: Store) -> None:
    """An event that is allowed waits until it is on time. One that is not allowed waits until another one is allowed."""
    waits = [store.throttle("x", RATE, 2)[1] for _ in range(5)] + [(await store.athrottle("x", RATE, 2))[1]]
    let_pass(store, "x", 900)
    waits.append(store.throttle("x", RATE, 2)[1])

    assert waits[0] == 0
    assert [math.ceil(wait_s / 100) * 100 for wait_s in waits] == [0, 1000, 2000, 1000, 1000, 1000, 100]


async def test_throttle_with_another_limit(store: Store) -> None:
    """If the limit was changed, or the clock was set back, the bucket is full, and becomes empty at the rate."""
    store.set("x", 4_000_000_000_000_000)
    first = store.throttle("x", RATE, 1)
    let_pass(store, "x", 1000)
    second = await store.athrottle("x", RATE, 1)

    assert (first, second[0]) == ((False, 1000), True)


@pytest.mark.parametrize("value", ["1", b"1", 1.0, True, [1]], ids=repr)
async def test_throttle_of_another_type(store: Store, value: object) -> None:
    """An entry of another type is not a rate limit. It stays."""
    store.set("x", value)
    with pytest.raises(TypeError, match="needs an entry that is an int"):
        store.throttle("x", 1)
    with pytest.raises(TypeError, match="needs an entry that is an int"):
        await store.athrottle("x", 1)
    assert store.get("x") == value


@pytest.mark.parametrize(
    ("rate", "burst", "error"),
    [
        (0, 0, ValueError),
        (-1, 0, ValueError),
        (math.nan, 0, ValueError),
        (1_000_001, 0, ValueError),
        (1, -1, ValueError),
        (1e-6, 1000, ValueError),
        (5e-324, 0, ValueError),
        ("1", 0, TypeError),
        (True, 0, TypeError),
        (1, 1.0, TypeError),
        (1, True, TypeError),
    ],
)
async def test_limit_that_is_not_allowed(store: Store, rate: Any, burst: Any, error: type[Exception]) -> None:
    """A limit has a range, and a message that names it."""
    with pytest.raises(error, match=r"rate|`burst`"):
        store.throttle("x", rate, burst)
    with pytest.raises(error, match=r"rate|`burst`"):
        await store.athrottle("x", rate, burst)
    assert store.get("x") is None


async def test_set_replaces_value_and_lifetime(place: Place) -> None:
    """After a set without a lifetime, the entry no longer expires."""
    store = place.store()
    store.set("x", 1, ttl_s=1)
    await store.aset("x", "one")
    place.advance(2)

    assert store.get("x") == "one"


async def test_expire_and_ttl(place: Place) -> None:
    """The lifetime can be set, read, and removed."""
    store = place.store()
    store.set("x", 1)
    store.set("y", 1, ttl_s=10)
    before = store.ttl("y")
    changed = [store.expire("x", 10), await store.aexpire("y", None)]
    place.advance(9)
    left = [store.ttl("x"), await store.attl("y")]
    place.advance(2)

    assert 9 < before <= 10
    assert changed == [True, True]
    assert 0 < left[0] <= 1
    assert (left[1], store.get("x"), store.get("y")) == (math.inf, None, 1)


@pytest.mark.parametrize(
    ("ttl_s", "error"), [(0, ValueError), (-1, ValueError), (1e12, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_lifetime_that_is_not_allowed(store: Store, ttl_s: Any, error: type[Exception]) -> None:
    """A lifetime is above 0 seconds, and at most ten years."""
    with pytest.raises(error, match="a lifetime must be"):
        store.set("x", 1, ttl_s=ttl_s)


async def test_get_many(store: Store) -> None:
    """Only entries that exist are in the result."""
    store.set("a", 1)
    store.set("b", [2])

    assert store.get_many(["a", "missing", "b"]) == {"a": 1, "b": [2]}
    assert await store.aget_many(("b", "a")) == {"a": 1, "b": [2]}
    assert [store.get_many([]), await store.aget_many([])] == [{}, {}]


async def test_cas(store: Store) -> None:
    """An entry is only replaced if it has the expected value."""
    done = [store.cas("x", None, {"b": 1, "a": 2}), store.cas("x", None, 2), store.cas("x", {"a": 2, "b": 1}, 3)]
    done += [await store.acas("x", "3", 4), await store.acas("x", 3, None)]

    assert (done, store.get("x")) == ([True, False, True, False, True], None)


async def test_delete(store: Store) -> None:
    """A deleted entry is absent."""
    store.set("x", 1, ttl_s=5)
    store.set("y", 1)

    assert [store.delete("x"), store.delete("x"), await store.adelete("y"), store.get("x")] == [True, False, True, None]


async def test_lock_has_one_owner(place: Place) -> None:
    """A lock can be acquired again when it was released, or when its lease has ended."""
    store = place.store()
    first = store.lock("job", 10)
    second = [store.lock("job", 10), await store.alock("job", 10)]
    assert first is not None
    released = first.release()
    third = await store.alock("job", 10)
    place.advance(10.1)
    fourth = store.lock("job", 10)

    assert (second, released, third is None, fourth is None) == ([None, None], True, False, False)


async def test_lost_lock(place: Place) -> None:
    """An owner whose lease has ended can neither renew nor release the lock of the next owner."""
    store = place.store()
    first = store.lock("job", 1)
    place.advance(1.1)
    second = store.lock("job", 10)
    assert first is not None
    assert second is not None

    assert [first.renew(), await first.arenew(), first.release(), await first.arelease()] == [False] * 4
    assert second.renew()


async def test_renewed_lock(place: Place) -> None:
    """A lease that is renewed in time lasts longer."""
    store = place.store()
    lease = store.lock("job", 10)
    assert lease is not None
    place.advance(9)
    renewed = [lease.renew(), await lease.arenew(20)]
    place.advance(15)

    assert (renewed, store.lock("job", 1)) == ([True, True], None)


async def test_lock_as_context_manager(store: Store) -> None:
    """The lock is released at the end of the block."""
    for _ in range(2):
        lease = store.lock("job", 10)
        assert lease is not None
        with lease:
            assert store.lock("job", 10) is None
        alease = await store.alock("job", 10)
        assert alease is not None
        async with alease:
            assert store.lock("job", 10) is None


def test_lock_and_entry_are_independent(store: Store) -> None:
    """A lock does not use up a key."""
    lease = store.lock("job", 10)
    assert (lease is None, store.get("job"), store.add("job", 1)) == (False, None, True)
