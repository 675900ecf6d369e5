# SPDX-License-Identifier: Apache-2.0
"""The interface of the places in which entries are kept, and the choice of the one that is used."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Usage(NamedTuple):
    """How many entries there are, and how many bytes they use."""

    entries: int
    used_bytes: int


class Backend(ABC):
    """
    A place for entries. Each method is atomic, for all threads and processes that use the place.

    Keys and payloads are bytes. An entry that has expired is absent. Lifetimes are milliseconds, None for no limit.

    The async variants must not block the event loop. By default they call the plain methods, which is correct if these do not wait for a
    network.

    Raises: each method: StoreError: the operation could not be done.
    """

    @abstractmethod
    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Return the payloads of several keys, None for absent ones."""

    @abstractmethod
    def put(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        """Store an entry. Return False if `if_absent` is set and there is one."""

    @abstractmethod
    def cas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        """Replace an entry by `payload`, or delete it if that is None. Return False if its payload is not `expected` (None: absent)."""

    @abstractmethod
    def incr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        """
        Add to a whole number, and return the sum. An absent entry is created with `by` and the lifetime. Otherwise, its lifetime stays.

        Raises:
            TypeError: the entry is not a whole number.
            ValueError: the sum does not fit in 64 bits.
        """

    @abstractmethod
    def throttle(self, key: bytes, interval_us: int, tolerance_us: int) -> tuple[bool, int]:
        """
        Count an event, as `throttling.admit` does with the clock of this place, and return whether it is allowed and its wait.

        Raises: TypeError: the entry is not a whole number.
        """

    @abstractmethod
    def delete(self, key: bytes) -> bool:
        """Delete an entry. Return False if it is absent."""

    @abstractmethod
    def expire(self, key: bytes, ttl_ms: int | None) -> bool:
        """Set the lifetime of an entry, from now. Return False if it is absent."""

    @abstractmethod
    def ttl(self, key: bytes) -> int | None:
        """Return how many milliseconds an entry has left, -1 if it has no limit, None if it is absent."""

    async def aget(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Same as `get`, but for coroutines. So are the other methods whose names begin with `a`."""
        return self.get(keys)

    async def aput(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        return self.put(key, payload, ttl_ms, if_absent=if_absent)

    async def acas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        return self.cas(key, expected, payload, ttl_ms)

    async def aincr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        return self.incr(key, by, ttl_ms)

    async def athrottle(self, key: bytes, interval_us: int, tolerance_us: int) -> tuple[bool, int]:
        return self.throttle(key, interval_us, tolerance_us)

    async def adelete(self, key: bytes) -> bool:
        return self.delete(key)

    async def aexpire(self, key: bytes, ttl_ms: int | None) -> bool:
        return self.expire(key, ttl_ms)

    async def attl(self, key: bytes) -> int | None:
        return self.ttl(key)

    def usage(self) -> Usage | None:
        """Return how much is stored, None if the backend does not report it. Used for the metrics."""
        return None

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Close files and connections. Called once, when nothing uses the backend any more."""

    async def aclose(self) -> None:
        """Same as `close`, but on the event loop that the async variants have used."""
        self.close()


_local: ContextVar[Backend] = ContextVar("apisix_store_backend")
"""The backend of the test client whose call runs."""


class _Chosen:
    """The backend of this process. It is opened when it is first used, because most runners have no plugin that uses the store."""

    def __init__(self) -> None:
        self.opener: Callable[[], Backend] | None = None
        self.backend: Backend | None = None
        self.inherited: list[Backend] = []

    def forget(self) -> None:
        """Called in a child process. It must not use files and connections of its parent, not even to close them."""
        if self.backend is not None:
            self.inherited.append(self.backend)
            self.backend = None


_chosen = _Chosen()
os.register_at_fork(after_in_child=_chosen.forget)


def current() -> Backend:
    """
    Return the backend for the running code. It is opened if this is the first use.

    Raises: StoreError: it can't be opened.
    """
    local = _local.get(None)
    if local is not None:
        return local
    if _chosen.backend is None:
        _chosen.backend = _open()
    return _chosen.backend


def choose(opener: Callable[[], Backend] | None) -> None:
    """Set the function that opens the backend of this process. None: the entries are kept in the memory of this process."""
    _chosen.opener = opener


def opened() -> Backend | None:
    """Return the backend of this process if something has used it."""
    return _chosen.backend


async def close_opened() -> None:
    """Close the backend of this process if something has used it. A later use opens it again."""
    backend, _chosen.backend = _chosen.backend, None
    if backend is not None:
        await backend.aclose()


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """Let the code in this block, and the tasks that it starts, use another backend. For tests."""
    token = _local.set(backend)
    try:
        yield
    finally:
        _local.reset(token)


def _open() -> Backend:
    if _chosen.opener is not None:
        return _chosen.opener()
    from apisix.runner.state.memory import MemoryBackend

    return MemoryBackend()
