# SPDX-License-Identifier: Apache-2.0
"""Where the shared store of plugins is: its file for this runner's socket."""

import os
import tempfile
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apisix.runner.conf_store.placement import create_private
from apisix.runner.errors import StoreError
from apisix.runner.metrics.families import PREFIX, Family, counter, gauge
from apisix.runner.settings.table import Settings
from apisix.runner.state import backend
from apisix.runner.state.backend import Backend
from apisix.runner.state.counters import Counters, counters

if TYPE_CHECKING:
    from apisix.runner.state.embedded import EmbeddedBackend

DIRECTORY_SUFFIX: Final = ".state"
FILE_NAME: Final = "state.mdb"
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  # a private directory is created in it, and its owner and mode are checked


def opener_for(settings: Settings) -> Callable[[], Backend]:
    """Return a function that opens the store of a runner with these settings. It imports the library only when it is called."""

    return lambda: open_file(settings, FILE_NAME, settings.state_size)


def open_file(settings: Settings, name: str, size_bytes: int, counters: Counters = counters) -> "EmbeddedBackend":
    """
    Open a file of entries in the directory of the store.

    Args:
        size_bytes: the size of the file, if it does not exist yet.
        counters: count what is evicted.
    Raises: StoreError: it can't be opened.
    """
    from apisix.runner.state.embedded import EmbeddedBackend

    path = store_path(settings).with_name(name)
    try:
        create_private(path, own_directory=True)
    except OSError as error:
        raise StoreError(f"the store {path} can't be used: {error}. Set state.directory to a directory in memory") from error
    return EmbeddedBackend(path, size_bytes, counters=counters)


def store_path(settings: Settings) -> Path:
    """Return the path of the store's file. It depends only on the settings, so that all workers, and the next runner, find it."""
    base = memory_directory() if settings.state_directory is None else Path(settings.state_directory)
    socket_path = Path(settings.socket_file)
    address = blake2b(os.fsencode(socket_path.absolute()), digest_size=8).hexdigest()
    return base / f"{socket_path.name[:64]}{DIRECTORY_SUFFIX}-{os.geteuid()}-{address}" / FILE_NAME


def memory_directory() -> Path:
    """Return a directory in memory that this user can write to, or the directory for temporary files if there is none."""
    for directory in (SHARED_MEMORY, os.environ.get("XDG_RUNTIME_DIR")):
        if directory and os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK):
            return Path(directory)
    return Path(tempfile.gettempdir())


def families() -> Iterator[Family]:
    """Yield the metrics of the store."""
    yield counter(f"{PREFIX}store_evictions", "Entries of the shared store that were evicted.", ((), counters.evictions))
    yield counter(
        f"{PREFIX}store_errors",
        "Operations of the shared store that could not be done, by what the caller got.",
        ((("result", "error"),), counters.errors),
        ((("result", "fallback"),), counters.fallbacks),
    )
    opened = backend.opened()
    if opened is not None and (usage := opened.usage()) is not None:
        # All workers share one store.
        yield gauge(f"{PREFIX}store_entries", "Entries in the shared store of this machine.", ((), usage.entries), merge="max")
        yield gauge(f"{PREFIX}store_bytes", "Bytes that the entries of the shared store use.", ((), usage.used_bytes), merge="max")
