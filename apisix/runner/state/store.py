# SPDX-License-Identifier: Apache-2.0
"""`Store`, which plugins use to share state between workers and machines, and `Lease`, a lock that ends by itself."""

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from apisix.runner.errors import StoreError
from apisix.runner.state.backend import Backend, current
from apisix.runner.state.counters import counters
from apisix.runner.state.throttling import to_us
from apisix.runner.state.values import MAX_NAME_BYTES, decode_value, encode_key, encode_value, to_ms

logger = logging.getLogger(__name__)


class _Raise:
    """The type of `RAISE`."""

    def __repr__(self) -> str:
        return "RAISE"


RAISE: Final = _Raise()
"""The default of `fallback`: an operation that can't be done raises StoreError."""


class Store:
    """
    A key-value store that all workers share. Stores with the same name are the same store; others never see its keys.

    By default the entries are in the memory of this machine, and survive restarts of workers and of the runner. With the setting
    `state.url` they are in Redis, for many machines. `self.store` of a plugin is the store with the name of the plugin.

    With Redis, plain methods block the thread, and so the event loop, so use the async variants.

    Values are bytes, str, int, or JSON: float, bool, dict and list. They are read as the same type. Each operation is atomic. Methods whose
    names begin with `a` are for coroutines.

    If an operation can't be done, for example because Redis is not available, it raises StoreError, and the call is refused. If `fallback`
    is given, the operation returns that value instead, which is logged and counted. In both cases, a write may have been done, if only
    the reply was lost. Locks have no fallback. A value or key that can't be stored raises TypeError or ValueError in any case.

    Args: name: the name of the store, up to 128 bytes of UTF-8 without control characters.
    Raises: ValueError: the name is not allowed.

    >>> store = Store("visits")
    >>> store.incr("10.0.0.1", ttl_s=60)
    1
    >>> store.get("10.0.0.1")
    1
    """

    __slots__ = ("_backend", "_lock_prefix", "_prefix", "name")

    def __init__(self, name: str, *, _backend: Callable[[], Backend] = current) -> None:
        if not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"the name of a store must have from 1 to {MAX_NAME_BYTES} bytes and be printable, not {name!r}")
        self.name = name
        self._backend = _backend
        self._prefix = name.encode() + b"\0"
        self._lock_prefix = b"\1" + self._prefix  # no name begins like that, because it would not be printable

    def __repr__(self) -> str:
        return f"Store({self.name!r})"

    def get(self, key: str, *, fallback: Any = RAISE) -> Any:
        """
        Return the value of an entry, or None if it is absent.

        Args:
            key: up to 1024 bytes of UTF-8.
            fallback: returned if the store is not available. The same applies to all methods.
        Raises:
            StoreError: the store is not available, and no fallback is given.
        """
        encoded = encode_key(self._prefix, key)
        try:
            (payload,) = self._backend().get((encoded,))
        except StoreError as error:
            return _failed(error, fallback)
        return None if payload is None else decode_value(payload)

    async def aget(self, key: str, *, fallback: Any = RAISE) -> Any:
        """Same as `get`, but for coroutines."""
        encoded = encode_key(self._prefix, key)
        try:
            (payload,) = await self._backend().aget((encoded,))
        except StoreError as error:
            return _failed(error, fallback)
        return None if payload is None else decode_value(payload)

    def get_many(self, keys: Iterable[str], *, fallback: Any = RAISE) -> Any:
        """
        Return a dict of the values of several entries, without those that are absent.

        They are read at the same moment, except in a cluster of Redis, which has them on several servers.
        """
        names = list(keys)
        encoded = [encode_key(self._prefix, key) for key in names]
        try:
            payloads = self._backend().get(encoded) if encoded else []
        except StoreError as error:
            return _failed(error, fallback)
        return {name: decode_value(payload) for name, payload in zip(names, payloads, strict=True) if payload is not None}

    async def aget_many(self, keys: Iterable[str], *, fallback: Any = RAISE) -> Any:
        """Same as `get_many`, but for coroutines."""
        names = list(keys)
        encoded = [encode_key(self._prefix, key) for key in names]
        try:
            payloads = await self._backend().aget(encoded) if encoded else []
        except StoreError as error:
            return _failed(error, fallback)
        return {name: decode_value(payload) for name, payload in zip(names, payloads, strict=True) if payload is not None}

    def set(self, key: str, value: object, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """
        Store an entry, and return True. It replaces an entry with the same key, and its lifetime.

        Args:
            value: bytes, str, int or JSON, up to 1 MiB.
            ttl_s: the lifetime, in seconds. None: it is kept until it is deleted or evicted.
        Raises:
            TypeError: the value would be read as another type.
            ValueError: the value is too large, or the lifetime is not allowed.
        """
        encoded, payload, ttl_ms = encode_key(self._prefix, key), encode_value(value), to_ms(ttl_s)
        try:
            return self._backend().put(encoded, payload, ttl_ms)
        except StoreError as error:
            return _failed(error, fallback)

    async def aset(self, key: str, value: object, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """Same as `set`, but for coroutines."""
        encoded, payload, ttl_ms = encode_key(self._prefix, key), encode_value(value), to_ms(ttl_s)
        try:
            return await self._backend().aput(encoded, payload, ttl_ms)
        except StoreError as error:
            return _failed(error, fallback)

    def add(self, key: str, value: object, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """Same as `set`, but only if the entry is absent. Return True if it was stored, False if there is an entry with the key."""
        encoded, payload, ttl_ms = encode_key(self._prefix, key), encode_value(value), to_ms(ttl_s)
        try:
            return self._backend().put(encoded, payload, ttl_ms, if_absent=True)
        except StoreError as error:
            return _failed(error, fallback)

    async def aadd(self, key: str, value: object, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """Same as `add`, but for coroutines."""
        encoded, payload, ttl_ms = encode_key(self._prefix, key), encode_value(value), to_ms(ttl_s)
        try:
            return await self._backend().aput(encoded, payload, ttl_ms, if_absent=True)
        except StoreError as error:
            return _failed(error, fallback)

    def cas(self, key: str, expected: object, value: object, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """
        Replace an entry if its value is `expected`, and return True. Return False if it has another value, so that the caller can retry.

        Args:
            expected: the value that `get` has returned, None if the entry must be absent.
            value: the new value, None to delete the entry.
            ttl_s: the new lifetime, in seconds.
        """
        arguments = self._cas_arguments(key, expected, value, ttl_s)
        try:
            return self._backend().cas(*arguments)
        except StoreError as error:
            return _failed(error, fallback)

    async def acas(self, key: str, expected: object, value: object, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """Same as `cas`, but for coroutines."""
        arguments = self._cas_arguments(key, expected, value, ttl_s)
        try:
            return await self._backend().acas(*arguments)
        except StoreError as error:
            return _failed(error, fallback)

    def incr(self, key: str, by: int = 1, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """
        Add to an int and return the sum. An absent entry counts as 0, and is created.

        Args:
            by: what to add. It may be negative.
            ttl_s: the lifetime, in seconds, if the entry is created. It does not change the lifetime of an existing entry, so the entry
                is a fixed window: it begins with the first `incr`, and ends `ttl_s` later.
        Raises:
            TypeError: the entry is not an int.
            ValueError: the sum does not fit in 64 bits.
        """
        encoded, ttl_ms = encode_key(self._prefix, key), to_ms(ttl_s)
        _check_int(by)
        try:
            return self._backend().incr(encoded, by, ttl_ms)
        except StoreError as error:
            return _failed(error, fallback)

    async def aincr(self, key: str, by: int = 1, ttl_s: float | None = None, *, fallback: Any = RAISE) -> Any:
        """Same as `incr`, but for coroutines."""
        encoded, ttl_ms = encode_key(self._prefix, key), to_ms(ttl_s)
        _check_int(by)
        try:
            return await self._backend().aincr(encoded, by, ttl_ms)
        except StoreError as error:
            return _failed(error, fallback)

    def throttle(self, key: str, rate: float, burst: int = 0, *, fallback: Any = RAISE) -> Any:
        """
        Count an event against a rate limit, and return `(allowed, wait_s)`.

        Events are allowed at an even distance, 1 / `rate`. Up to `burst` of them can come early. If the event is allowed, `wait_s` is how
        early it is: whoever delays it by that many seconds keeps the rate. If it is not allowed, it is not counted, and one is allowed
        after `wait_s`. This is GCRA, or the leaky bucket, with the clock of the store, which all machines share.

        Args:
            rate: events per second, up to 1,000,000. Every caller that uses the key must have the same limit.
            burst: how many events can come early.
        Raises:
            TypeError: the entry is not an int, or an argument has another type.
            ValueError: an argument is not allowed, or (burst + 1) / rate is more than ten years.

        >>> store = Store("logins")
        >>> store.throttle("ali", rate=0.1, burst=1)
        (True, 0.0)
        >>> allowed, wait_s = store.throttle("ali", rate=0.1, burst=1)
        >>> allowed, round(wait_s)
        (True, 10)
        >>> store.throttle("ali", rate=0.1, burst=1)[0]
        False
        """
        encoded, limit = encode_key(self._prefix, key), to_us(rate, burst)
        try:
            allowed, wait_us = self._backend().throttle(encoded, *limit)
        except StoreError as error:
            return _failed(error, fallback)
        return allowed, wait_us / 1e6

    async def athrottle(self, key: str, rate: float, burst: int = 0, *, fallback: Any = RAISE) -> Any:
        """Same as `throttle`, but for coroutines."""
        encoded, limit = encode_key(self._prefix, key), to_us(rate, burst)
        try:
            allowed, wait_us = await self._backend().athrottle(encoded, *limit)
        except StoreError as error:
            return _failed(error, fallback)
        return allowed, wait_us / 1e6

    def delete(self, key: str, *, fallback: Any = RAISE) -> Any:
        """Delete an entry. Return True, or False if it is absent."""
        encoded = encode_key(self._prefix, key)
        try:
            return self._backend().delete(encoded)
        except StoreError as error:
            return _failed(error, fallback)

    async def adelete(self, key: str, *, fallback: Any = RAISE) -> Any:
        """Same as `delete`, but for coroutines."""
        encoded = encode_key(self._prefix, key)
        try:
            return await self._backend().adelete(encoded)
        except StoreError as error:
            return _failed(error, fallback)

    def expire(self, key: str, ttl_s: float | None, *, fallback: Any = RAISE) -> Any:
        """Set the lifetime of an entry, in seconds from now; None for no limit. Return True, or False if the entry is absent."""
        encoded, ttl_ms = encode_key(self._prefix, key), to_ms(ttl_s)
        try:
            return self._backend().expire(encoded, ttl_ms)
        except StoreError as error:
            return _failed(error, fallback)

    async def aexpire(self, key: str, ttl_s: float | None, *, fallback: Any = RAISE) -> Any:
        """Same as `expire`, but for coroutines."""
        encoded, ttl_ms = encode_key(self._prefix, key), to_ms(ttl_s)
        try:
            return await self._backend().aexpire(encoded, ttl_ms)
        except StoreError as error:
            return _failed(error, fallback)

    def ttl(self, key: str, *, fallback: Any = RAISE) -> Any:
        """Return how many seconds an entry has left, infinity if it has no limit, or None if it is absent."""
        encoded = encode_key(self._prefix, key)
        try:
            return _seconds(self._backend().ttl(encoded))
        except StoreError as error:
            return _failed(error, fallback)

    async def attl(self, key: str, *, fallback: Any = RAISE) -> Any:
        """Same as `ttl`, but for coroutines."""
        encoded = encode_key(self._prefix, key)
        try:
            return _seconds(await self._backend().attl(encoded))
        except StoreError as error:
            return _failed(error, fallback)

    def lock(self, key: str, lease_s: float) -> "Lease | None":
        """
        Acquire the lock `key`, and return its lease, or None if another one has it. This does not wait.

        The lock ends when the lease is released, or `lease_s` seconds after it was acquired or renewed. So it also ends if its owner is
        killed. An owner that takes longer than that has lost the lock without noticing: `renew` returns False then. Locks and entries with
        the same key are independent.

        Raises: StoreError: the store is not available.

        >>> store = Store("reports")
        >>> if lease := store.lock("daily", lease_s=30):
        ...     with lease:
        ...         print("only one worker does this at a time")
        only one worker does this at a time
        """
        lease = Lease(encode_key(self._lock_prefix, key), lease_s, self._backend)
        with _counting():
            return lease if self._backend().put(lease.key, lease.payload, to_ms(lease_s), if_absent=True) else None

    async def alock(self, key: str, lease_s: float) -> "Lease | None":
        """Same as `lock`, but for coroutines."""
        lease = Lease(encode_key(self._lock_prefix, key), lease_s, self._backend)
        with _counting():
            return lease if await self._backend().aput(lease.key, lease.payload, to_ms(lease_s), if_absent=True) else None

    def _cas_arguments(
        self, key: str, expected: object, value: object, ttl_s: float | None
    ) -> tuple[bytes, bytes | None, bytes | None, int | None]:
        return (
            encode_key(self._prefix, key),
            None if expected is None else encode_value(expected),
            None if value is None else encode_value(value),
            to_ms(ttl_s),
        )


class Lease:
    """
    A lock that was acquired. As a context manager, also an async one, it is released at the end of the block.

    Attributes:
        lease_s: how long the lock lasts if it is not renewed, in seconds.
        key, payload: the entry in the backend. The payload is a random token, so that nobody else can release or renew the lock.
    """

    __slots__ = ("_backend", "key", "lease_s", "payload")

    def __init__(self, key: bytes, lease_s: float, backend: Callable[[], Backend]) -> None:
        if lease_s is None:
            raise TypeError("a lease must have a number of seconds, because its owner may be killed")
        self._backend = backend
        self.key = key
        self.lease_s = lease_s
        self.payload = encode_value(secrets.token_hex(16))

    def renew(self, lease_s: float | None = None) -> bool:
        """
        Extend the lock to `lease_s` seconds from now (by default, as long as before). Return False if the lock was lost.

        Raises: StoreError: the store is not available. The lock may have been extended or not.
        """
        with _counting():
            return self._backend().cas(self.key, self.payload, self.payload, to_ms(lease_s or self.lease_s))

    async def arenew(self, lease_s: float | None = None) -> bool:
        """Same as `renew`, but for coroutines."""
        with _counting():
            return await self._backend().acas(self.key, self.payload, self.payload, to_ms(lease_s or self.lease_s))

    def release(self) -> bool:
        """
        Release the lock. Return False if it was lost before.

        Raises: StoreError: the store is not available. The lock ends by itself. At the end of a `with` block, this is logged instead.
        """
        with _counting():
            return self._backend().cas(self.key, self.payload, None, None)

    async def arelease(self) -> bool:
        """Same as `release`, but for coroutines."""
        with _counting():
            return await self._backend().acas(self.key, self.payload, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with _logging_only(self.lease_s):
            self.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        with _logging_only(self.lease_s):
            await self.arelease()


@contextmanager
def _counting() -> Iterator[None]:
    """Count an operation that fails and has no fallback."""
    try:
        yield
    except StoreError:
        counters.errors += 1
        raise


@contextmanager
def _logging_only(lease_s: float) -> Iterator[None]:
    """Log that a lock was not released. The block has done its work, so it must not fail."""
    try:
        yield
    except StoreError as error:
        logger.warning("a lock was not released, so it ends up to %g seconds later: %s", lease_s, error)


def _failed(error: StoreError, fallback: Any) -> Any:
    """Return the fallback of the call site, or raise the error if there is none."""
    if fallback is RAISE:
        counters.errors += 1
        raise error
    counters.fallbacks += 1
    logger.warning("an operation of the shared store failed, so a plugin continues with its fallback: %s", error)
    return fallback


def _check_int(by: object) -> None:
    if type(by) is not int:
        raise TypeError(f"`by` must be an int, not {type(by).__name__}")


def _seconds(ttl_ms: int | None) -> float | None:
    return None if ttl_ms is None else float("inf") if ttl_ms < 0 else ttl_ms / 1000
