# SPDX-License-Identifier: Apache-2.0
"""
Request metadata that all workers share, in a file of its own, so that entries of plugins and metadata do not evict each other.

If a runner has one worker, its first worker keeps metadata in its own memory, which is faster and needs no file. Before it is replaced or
exits, it moves the metadata to the file. All later workers use the file, because they overlap with the worker that they replace.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.errors import StoreError
from apisix.runner.metrics.families import PREFIX, Family, counter, gauge
from apisix.runner.settings.table import Settings
from apisix.runner.state.counters import Counters
from apisix.runner.worker.shared_store import open_file, store_path

if TYPE_CHECKING:
    from apisix.runner.state.embedded import EmbeddedBackend

logger = logging.getLogger(__name__)

FILE_NAME: Final = "metadata.mdb"
MOVE_S: Final = 1.0
"""How long a worker may take to move metadata to the file, in seconds. The newest is moved first. Calls wait meanwhile."""


class SharedMetadata:
    """
    Keeps the metadata of requests for all workers of a runner, and for its successors. It is a `MetadataStore`.

    The file is opened when it is first used, because most runners have no plugin that uses metadata.

    Args:
        settings: the settings of the runner.
        is_alone: True if no other worker of the runner serves calls until `share` is called.
    """

    def __init__(self, settings: Settings, *, is_alone: bool = False) -> None:
        self._settings = settings
        self._path = store_path(settings).with_name(FILE_NAME)
        self._own = MemoryMetadata(settings.metadata_expire_s, settings.metadata_size // 2) if is_alone else None
        self._expire_ms = max(1, round(settings.metadata_expire_s * 1000))
        self._opening = threading.Lock()
        self._backend: EmbeddedBackend | None = None
        self._counters = Counters()

    def get(self, request_id: str) -> bytes | None:
        """Return what was stored, or None. Raise StoreError if the file can't be used."""
        own = self._own
        if own is not None:
            found = own.get(request_id)
            if found is not None or not self._has_file():
                return found
        (found,) = self._opened().get([request_id.encode()])
        return found

    def put(self, request_id: str, data: bytes) -> None:
        """Store the metadata of a request. Raise StoreError if that is not possible."""
        own = self._own
        if own is not None:
            own.put(request_id, data)
            return
        self._opened().put(request_id.encode(), data, self._expire_ms)

    def delete(self, request_id: str) -> None:
        """Remove the metadata of a request, if there is any. If that is not possible, it expires."""
        own = self._own
        if own is not None:
            own.delete(request_id)
            if self._backend is None:
                return
        with suppress(StoreError):
            self._opened().delete(request_id.encode())

    def share(self) -> None:
        """Move what this worker has in its own memory to the file. Called before another worker serves calls. Raises nothing."""
        own = self._own
        if own is None:
            return
        moved, end_s = 0, time.monotonic() + MOVE_S
        try:
            for request_id, data, left_s in own.newest_first():
                if time.monotonic() > end_s:
                    break
                self._opened().put(request_id.encode(), data, max(1, round(left_s * 1000)))
                moved += 1
        except StoreError as error:
            logger.error("the metadata of %d requests is lost, because the worker is replaced: %s", len(own) - moved, error)
        self._counters.evictions += own.evicted
        self._own = None  # last, because threads of plugins may read meanwhile

    def close(self) -> None:
        """Share what this worker has in its own memory, and close the file. It is not removed, because other workers use it."""
        self.share()
        with self._opening:
            backend, self._backend = self._backend, None
            if backend is not None:
                backend.close()

    def families(self) -> Iterator[Family]:
        """Yield the metrics. All workers share the file."""
        usage = None if self._backend is None else self._backend.usage()
        entries, used_bytes = (0, 0) if usage is None else usage
        evictions = self._counters.evictions
        if (own := self._own) is not None:
            entries, used_bytes, evictions = entries + len(own), used_bytes + own.bytes_used, evictions + own.evicted
        yield gauge(f"{PREFIX}metadata_entries", "Requests whose metadata is kept.", ((), entries), merge="max")
        yield gauge(f"{PREFIX}metadata_bytes", "Bytes that the metadata of requests uses.", ((), used_bytes), merge="max")
        yield counter(f"{PREFIX}metadata_evictions", "Requests whose metadata was removed before it had expired.", ((), evictions))

    def _has_file(self) -> bool:
        """Return True if an earlier worker or runner may have left metadata in the file."""
        return self._backend is not None or self._path.exists()

    def _opened(self) -> "EmbeddedBackend":
        if self._backend is None:
            with self._opening:  # plugins in threads may be first
                if self._backend is None:
                    self._backend = open_file(self._settings, FILE_NAME, self._settings.metadata_size, self._counters)
        return self._backend
