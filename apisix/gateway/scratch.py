# SPDX-License-Identifier: Apache-2.0
"""The temporary directory of one `dev` process. It is removed at the end, or when the next `dev` starts."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "apisix-dev-"
# A directory younger than this, in seconds, may not be locked yet by the process that created it.
YOUNG_S = 10.0
# A file in the directory is locked, not the directory itself: the runner locks that while it binds and unlinks its socket.
LOCK = "lock"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """
    Create a directory that is removed at the end, and remove those that a killed `dev` of the same user left behind.

    The kernel releases the lock on a file in it when its process ends for any reason. A pid would not suffice, because it may belong to
    another process by now, or to another container that shares the directory.
    """
    sweep()
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = os.open(directory / LOCK, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):  # the file system has no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def sweep() -> None:
    """Remove the directories of this user that no running process has locked."""
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
    """Return whether a running process has locked the directory. Raise OSError if this can't be determined."""
    try:
        lock = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False  # its process was killed before it created the file
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
