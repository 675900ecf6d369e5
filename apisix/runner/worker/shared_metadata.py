# SPDX-License-Identifier: Apache-2.0
"""
Request metadata that all workers share, in a file of its own, so that entries of plugins and metadata do not evict each other.

If a runner has one worker, this worker keeps metadata in its own memory, which is faster and needs no file. Before it is replaced or exits,
it moves the metadata to the file. Its successor may have connections by then: it is a new worker of this runner, or of a runner that has
taken the path. So a file is locked while a worker has metadata in its memory, and the successor does not serve before it is unlocked. The
kernel releases the lock of a worker that is killed, whose metadata is lost.
"""

import asyncio
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.conf_store.placement import create_private
from apisix.runner.errors import StoreError
from apisix.runner.metrics.families import PREFIX, Family, counter, gauge
from apisix.runner.settings.table import Settings
from apisix.runner.state.counters import Counters
from apisix.runner.worker.shared_store import open_file, store_path

if TYPE_CHECKING:
    from apisix.runner.state.embedded import EmbeddedBackend

logger = logging.getLogger(__name__)

FILE_NAME: Final = "metadata.mdb"
LOCK_NAME: Final = "metadata.lock"
PATIENCE_S: Final = 3.0
"""How long a worker waits until its predecessor has moved its metadata, in seconds. A predecessor that takes longer does not respond."""
PAUSE_S: Final = 0.005
"""How often to check whether it has, in seconds."""
NO_LOCK: Final = -1
"""Instead of the descriptor of the locked file."""


class SharedMetadata:
    """
    Keeps the metadata of requests for all workers of a runner, and for its successors. It is a `MetadataStore`.

    The file is opened when it is first used, because most runners have no plugin that uses metadata.

    Args: settings: the settings of the runner.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = store_path(settings).with_name(FILE_NAME)
        self._lock_path = self._path.with_name(LOCK_NAME)
        self._lock: int | None = None  # its descriptor, NO_LOCK if this worker does not have it, and None if it has not tried
        self._may_serve = False
        self._own = MemoryMetadata(settings.metadata_expire_s, settings.metadata_size // 2) if settings.workers == 1 else None
        self._expire_ms = max(1, round(settings.metadata_expire_s * 1000))
        self._opening = threading.Lock()
        self._backend: EmbeddedBackend | None = None
        self._counters = Counters()

    async def wait_for_predecessor(self) -> None:
        """Wait until no other worker has metadata in its memory. Called before a connection is served. Raises nothing."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + PATIENCE_S
        while not self._may_serve:
            if not self._is_locked():
                self._may_serve = True
            elif loop.time() < end_s:
                await asyncio.sleep(PAUSE_S)
            else:
                self._may_serve = True
                logger.warning(
                    "another worker has not moved its metadata within %g s, so requests that began there may have lost it", PATIENCE_S
                )

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
        if self._lock is None and self._own is not None:
            self._take_lock()
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
        """Move what this worker has in its own memory to the file. Called before another worker serves its connections. Raises nothing."""
        own = self._own
        if own is None:
            return
        moved = 0
        try:
            for request_id, data, left_s in own.unexpired():
                self._opened().put(request_id.encode(), data, max(1, round(left_s * 1000)))
                moved += 1
        except StoreError as error:
            logger.error("the metadata of %d requests is lost, because the worker is replaced: %s", len(own) - moved, error)
        self._counters.evictions += own.evicted
        self._own = None  # not before, because threads of plugins may read meanwhile
        self._release_lock()

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

    def _is_locked(self) -> bool:
        """Return True if another worker has metadata in its memory."""
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # no worker has ever locked it, or this one can't use it
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _take_lock(self) -> None:
        """Lock the metadata in this worker's memory. If another worker has the lock, use the file, to which that one moves its metadata."""
        self._lock = NO_LOCK
        try:
            create_private(self._lock_path, own_directory=True)
            descriptor = os.open(self._lock_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # nobody can use the directory, so nothing can be moved
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock = descriptor
        except OSError:
            os.close(descriptor)
            self._own = None

    def _release_lock(self) -> None:
        if self._lock is not None and self._lock != NO_LOCK:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # a child process that a plugin has forked may have the descriptor
            os.close(self._lock)
        self._lock = NO_LOCK

    def _has_file(self) -> bool:
        """Return True if an earlier worker or runner may have left metadata in the file."""
        return self._backend is not None or self._path.exists()

    def _opened(self) -> "EmbeddedBackend":
        if self._backend is None:
            with self._opening:  # plugins in threads may be first
                if self._backend is None:
                    self._backend = open_file(self._settings, FILE_NAME, self._settings.metadata_size, self._counters)
        return self._backend
