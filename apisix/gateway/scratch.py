# SPDX-License-Identifier: Apache-2.0
"""The temporary directory of one `dev`, which goes with it, and at the latest when the next one starts."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "apisix-dev-"
# One this young, in seconds, may be about to be locked by who has just made it.
YOUNG_S = 10.0


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """
    Make a directory that is removed at the end, and remove those of our user that were left behind by a `dev` that was killed.

    The kernel lets go of the lock on a directory when its process ends, in whatever way. A pid would not do: it may be another's by
    now, or count in another container that shares the directory.
    """
    sweep()
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = _lock(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sweep() -> None:
    """Remove the directories of our user that no living process holds."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = _lock(directory)
        if lock is None:
            continue
        try:
            status = os.fstat(lock)
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > YOUNG_S:
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(lock)


def _lock(directory: Path) -> int | None:
    """Lock a directory until the descriptor is closed. Returns: None where another process holds it, or it is no directory of ours."""
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    if descriptor is not None:
        os.close(descriptor)
    return None
