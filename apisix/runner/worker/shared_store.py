# SPDX-License-Identifier: Apache-2.0
"""Where the shared store of plugins is: its file for this runner's socket, or Redis."""

import os
import tempfile
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apisix.runner.conf_store.placement import create_private
from apisix.runner.errors import SettingsError, StoreError
from apisix.runner.metrics.families import PREFIX, Family, counter, gauge
from apisix.runner.settings.table import Settings
from apisix.runner.state import backend
from apisix.runner.state.backend import Backend, Usage
from apisix.runner.state.counters import Counters, counters

if TYPE_CHECKING:
    from apisix.runner.state.embedded import EmbeddedBackend

DIRECTORY_SUFFIX: Final = ".state"
FILE_NAME: Final = "state.mdb"
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  # a private directory is created in it, and its owner and mode are checked


def opener_for(settings: Settings) -> Callable[[], Backend]:
    """Return a function that opens the store of a runner with these settings. It imports the library only when it is called."""

    return lambda: open_file(settings, FILE_NAME, settings.state_size) if settings.state_url is None else connect(settings)


def check_store(settings: Settings) -> None:
    """
    Check that the store of the setting `state.url` can be used. This does not connect, because Redis may start after the runner.

    Raises: SettingsError: redis-py is not installed, or the URL can't be read. The message does not contain the URL, which may be secret.
    """
    if find_spec("redis") is None:
        raise SettingsError(
            "state.url is set, which needs redis-py. It comes with the extra redis: pip install 'apisix-python-plugin-runner[redis]'"
        )
    from apisix.runner.state.redis_url import read_url

    try:
        read_url(settings.state_url or "")
    except ValueError as error:
        raise SettingsError(f"the URL of state.url can't be used: {error}") from None


def connect(settings: Settings) -> Backend:
    """
    Return the store in Redis. It connects when it is used.

    Raises: StoreError: the settings are not usable.
    """
    try:
        check_store(settings)
    except SettingsError as error:  # in a process that the supervisor has not started, such as a test
        raise StoreError(str(error)) from None
    from apisix.runner.state.redis_server import RedisBackend

    return RedisBackend(settings.state_url or "", settings.state_pool_size, settings.state_timeout_s, settings.state_prefix)


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

    def check() -> None:
        try:
            create_private(path, own_directory=True)
        except OSError as error:
            raise StoreError(f"the store {path} can't be used: {error}. Set state.directory to a directory in memory") from error

    setting = "state.size" if name == FILE_NAME else "metadata.size"
    return EmbeddedBackend(path, size_bytes, counters=counters, setting=setting, check=check)


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
        f"{PREFIX}store_replacements",
        "Times that a damaged file of the shared store was replaced by an empty one.",
        ((), counters.replacements),
    )
    yield counter(
        f"{PREFIX}store_errors",
        "Operations of the shared store that could not be done, by what the caller got.",
        ((("result", "error"),), counters.errors),
        ((("result", "fallback"),), counters.fallbacks),
    )
    opened = backend.opened()
    usage = Usage(0, 0) if opened is None else opened.usage()
    if usage is not None:
        # All workers share one store.
        yield gauge(f"{PREFIX}store_entries", "Entries in the shared store of this machine.", ((), usage.entries), merge="max")
        yield gauge(f"{PREFIX}store_bytes", "Bytes that the entries of the shared store use.", ((), usage.used_bytes), merge="max")
