# SPDX-License-Identifier: Apache-2.0
"""Request metadata in the memory of this process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

DEFAULT_EXPIRE_S: Final = 120.0
DEFAULT_MAX_BYTES: Final = 64 * 2**20
ENTRY_BYTES: Final = 300
"""About how much memory an entry takes in addition to its data, in bytes."""


class MemoryMetadata:
    """
    Keeps the metadata of requests in this process. It is a `MetadataStore`.

    Args:
        expire_s: how long an entry is kept after it was written, in seconds.
        max_bytes: how large all entries together may be, in bytes. If there are more, the oldest ones are removed.
        clock: returns the time in seconds.
    Attributes:
        evicted: how many entries were removed because there were too many bytes.
    """

    def __init__(
        self, expire_s: float = DEFAULT_EXPIRE_S, max_bytes: int = DEFAULT_MAX_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expire_s = expire_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # from the oldest to the latest
        self._bytes = 0
        self._lock = threading.Lock()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_used(self) -> int:
        """About how much memory the entries take, in bytes."""
        return self._bytes

    def unexpired(self) -> Iterator[tuple[str, bytes, float]]:
        """
        Yield the entries that have not expired, from the oldest to the latest.

        Yields: the id of the request, what was stored, and the time until it expires in seconds.
        """
        with self._lock:
            entries = list(self._entries.items())
        now_s = self._clock()
        for request_id, (written_s, data) in entries:
            if (left_s := written_s + self._expire_s - now_s) > 0:
                yield request_id, data, left_s

    def get(self, request_id: str) -> bytes | None:
        """Return what was stored, or None."""
        with self._lock:
            written_s, data = self._entries.get(request_id, (0.0, None))
            return None if data is None or self._clock() - written_s > self._expire_s else data

    def put(self, request_id: str, data: bytes) -> None:
        """Store the metadata of a request."""
        now_s = self._clock()
        with self._lock:
            self._remove(request_id)
            self._entries[request_id] = (now_s, data)
            self._bytes += ENTRY_BYTES + len(data)
            while self._entries:
                oldest = next(iter(self._entries))
                is_expired = now_s - self._entries[oldest][0] > self._expire_s
                if not is_expired and self._bytes <= self._max_bytes:
                    break
                self._remove(oldest)
                self.evicted += not is_expired

    def delete(self, request_id: str) -> None:
        """Remove the metadata of a request, if there is any."""
        with self._lock:
            self._remove(request_id)

    def _remove(self, request_id: str) -> None:
        removed = self._entries.pop(request_id, None)
        if removed is not None:
            self._bytes -= ENTRY_BYTES + len(removed[1])
