# SPDX-License-Identifier: Apache-2.0
"""Entries in the memory of this process, with a clock that tests can set."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from apisix.runner.state.backend import Backend
from apisix.runner.state.counters import counters
from apisix.runner.state.throttling import admit
from apisix.runner.state.values import decode_int, encode_int

MAX_ENTRIES: Final = 100_000


class MemoryBackend(Backend):
    """
    Entries in a dict. If there are too many, the one that was not written for longest is removed.

    Args:
        max_entries: how many entries are kept.
        clock: returns the time in seconds.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.time) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._ahead_s = 0.0
        self._lock = threading.RLock()
        self._entries: dict[bytes, tuple[bytes, float | None]] = {}  # payload, and the time at which it expires

    def advance(self, seconds: float) -> None:
        """Let time pass for the entries."""
        self._ahead_s += seconds

    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        with self._lock:
            return [self._find(key) for key in keys]

    def put(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        with self._lock:
            if if_absent and self._find(key) is not None:
                return False
            self._store(key, payload, ttl_ms)
            return True

    def cas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        with self._lock:
            if self._find(key) != expected:
                return False
            if payload is None:
                self._entries.pop(key, None)
            else:
                self._store(key, payload, ttl_ms)
            return True

    def incr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        with self._lock:
            found = self._find(key)
            if found is None:
                self._store(key, encode_int(by), ttl_ms)
                return by
            total = decode_int(found) + by
            self._entries[key] = encode_int(total), self._entries.pop(key)[1]  # now the newest one
            return total

    def throttle(self, key: bytes, interval_us: int, tolerance_us: int) -> tuple[bool, int]:
        with self._lock:
            found, now_us = self._find(key), int(self._now() * 1e6)
            empty_us = 0 if found is None else decode_int(found)
            is_allowed, wait_us, until_us = admit(empty_us, now_us, interval_us, tolerance_us)
            if until_us != empty_us:
                self._store(key, encode_int(until_us), (until_us - now_us) // 1000 + 1)
            return is_allowed, wait_us

    def delete(self, key: bytes) -> bool:
        with self._lock:
            return self._find(key) is not None and self._entries.pop(key) is not None

    def expire(self, key: bytes, ttl_ms: int | None) -> bool:
        with self._lock:
            found = self._find(key)
            if found is None:
                return False
            self._store(key, found, ttl_ms)
            return True

    def ttl(self, key: bytes) -> int | None:
        with self._lock:
            if self._find(key) is None:
                return None
            expiry_s = self._entries[key][1]
            return -1 if expiry_s is None else max(1, round((expiry_s - self._now()) * 1000))

    def _now(self) -> float:
        return self._clock() + self._ahead_s

    def _expiry(self, ttl_ms: int | None) -> float | None:
        return None if ttl_ms is None else self._now() + ttl_ms / 1000

    def _find(self, key: bytes) -> bytes | None:
        found = self._entries.get(key)
        if found is None:
            return None
        payload, expiry_s = found
        if expiry_s is not None and expiry_s <= self._now():
            del self._entries[key]
            return None
        return payload

    def _store(self, key: bytes, payload: bytes, ttl_ms: int | None) -> None:
        self._entries.pop(key, None)  # so that the entry becomes the newest one
        while len(self._entries) >= self._max_entries:
            oldest = next(iter(self._entries))
            counters.evictions += self._find(oldest) is not None
            self._entries.pop(oldest, None)
        self._entries[key] = payload, self._expiry(ttl_ms)
