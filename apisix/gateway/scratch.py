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
# Not the directory itself is locked: the runner locks that of its socket while it binds and while it unlinks, and would wait for us.
LOCK = "lock"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """
    Make a directory that is removed at the end, and remove those of our user that were left behind by a `dev` that was killed.

    The kernel lets go of the lock on a file in it when its process ends, in whatever way. A pid would not do: it may be another's by
    now, or count in another container that shares the directory.
    """
    sweep()
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = os.open(directory / LOCK, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def sweep() -> None:
    """Remove the directories of our user that no living process holds."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                status = os.fstat(directory)
                is_young = time.time() - status.st_mtime <= YOUNG_S
                if status.st_uid == os.geteuid() and not is_young and not _is_held(directory):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(directory)


def _is_held(directory: int) -> bool:
    """Tell whether a living process has locked the directory. Raises: OSError: it can't be told."""
    try:
        lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False  # who made it was killed before it came to that
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
