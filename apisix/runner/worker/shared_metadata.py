# SPDX-License-Identifier: Apache-2.0
"""Request metadata that all workers share, in a file of its own, so that entries of plugins and metadata do not evict each other."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from apisix.runner.errors import StoreError
from apisix.runner.metrics.families import PREFIX, Family, counter, gauge
from apisix.runner.settings.table import Settings
from apisix.runner.state.counters import Counters
from apisix.runner.worker.shared_store import open_file

if TYPE_CHECKING:
    from apisix.runner.state.embedded import EmbeddedBackend

FILE_NAME: Final = "metadata.mdb"


class SharedMetadata:
    """
    Keeps the metadata of requests for all workers of a runner, and for its successors. It is a `MetadataStore`.

    The file is opened when it is first used, because most runners have no plugin that uses metadata.

    Args: settings: the settings of the runner.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._expire_ms = max(1, round(settings.metadata_expire_s * 1000))
        self._opening = threading.Lock()
        self._backend: EmbeddedBackend | None = None
        self._counters = Counters()

    def get(self, request_id: str) -> bytes | None:
        """Return what was stored, or None. Raise StoreError if the file can't be used."""
        (found,) = self._opened().get([request_id.encode()])
        return found

    def put(self, request_id: str, data: bytes) -> None:
        """Store the metadata of a request. Raise StoreError if that is not possible."""
        self._opened().put(request_id.encode(), data, self._expire_ms)

    def delete(self, request_id: str) -> None:
        """Remove the metadata of a request, if there is any. If that is not possible, it expires."""
        with suppress(StoreError):
            self._opened().delete(request_id.encode())

    def close(self) -> None:
        """Close the file. It is not removed, because other workers use it."""
        with self._opening:
            backend, self._backend = self._backend, None
            if backend is not None:
                backend.close()

    def families(self) -> Iterator[Family]:
        """Yield the metrics. All workers share the file."""
        usage = None if self._backend is None else self._backend.usage()
        entries, used_bytes = (0, 0) if usage is None else usage
        yield gauge(f"{PREFIX}metadata_entries", "Requests whose metadata is kept.", ((), entries), merge="max")
        yield gauge(f"{PREFIX}metadata_bytes", "Bytes that the metadata of requests uses.", ((), used_bytes), merge="max")
        yield counter(
            f"{PREFIX}metadata_evictions", "Requests whose metadata was removed before it had expired.", ((), self._counters.evictions)
        )

    def _opened(self) -> "EmbeddedBackend":
        if self._backend is None:
            with self._opening:  # plugins in threads may be first
                if self._backend is None:
                    self._backend = open_file(self._settings, FILE_NAME, self._settings.metadata_size, self._counters)
        return self._backend
