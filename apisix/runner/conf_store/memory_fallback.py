# SPDX-License-Identifier: Apache-2.0
"""
Configurations that the conf store could not write, in a file without a name that all workers have open.

A full disk stops SQLite from writing, and a lack of file descriptors stops it from opening its journal. The gateway uses a token on all
connections, so the memory of one worker is not enough. This file is in memory if the system supports that, and needs neither disk nor
another file descriptor. It is lost when the runner exits. Source: design, 6.
"""

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

MOST_BYTES: Final = 16 << 20
"""How large the file may become. More configurations are kept in the memory of the worker that received them."""
TRIES: Final = 50
PAUSE_S: Final = 0.0002
"""How long to wait before locking the file is tried again, in seconds."""

_END: Final = struct.Struct("<Q")  # at the start of the file: the end of the complete records
_RECORD: Final = struct.Struct("<II")  # token and size of the content, which follows


class MemoryFallback:
    """
    Records of token and content, written and read by all workers.

    The file begins with the position at which the complete records end. A writer increases it after it has written its record. If the
    writer is killed before that, the next record overwrites the incomplete one.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Create an empty file. Must be called before the fork. Raise OSError if no file descriptor is left."""
        self._descriptor = _nameless_file()
        self._most_bytes = most_bytes
        self._read_up_to = _END.size
        self._contents: dict[int, bytes] = {}

    def get(self, token: int) -> bytes | None:
        """Return the content that a worker has stored under `token`, or None."""
        if token not in self._contents:
            self._read_on()
        return self._contents.get(token)

    def put(self, token: int, content: bytes) -> bool:
        """
        Store `content` under `token` for all workers.

        Returns: False if another content is stored under that token, or the file is full or locked.
        """
        try:
            with self._locked():
                if (known := self.get(token)) is not None:
                    return known == content
                end = self._read_up_to  # `get` has read up to it
                record = _RECORD.pack(token, len(content)) + content
                if end + len(record) > self._most_bytes or os.pwrite(self._descriptor, record, end) < len(record):
                    return False
                os.pwrite(self._descriptor, _END.pack(end + len(record)), 0)
        except OSError:  # out of memory, or a process was stopped while it had the lock
            return False
        return True

    def close(self) -> None:
        """Close the file descriptor."""
        os.close(self._descriptor)

    def _read_on(self) -> None:
        header = os.pread(self._descriptor, _END.size, 0)
        end = _END.unpack(header)[0] if header else _END.size
        if end <= self._read_up_to:
            return
        data = os.pread(self._descriptor, end - self._read_up_to, self._read_up_to)
        at = 0
        while at < len(data):
            token, size = _RECORD.unpack_from(data, at)
            at += _RECORD.size + size
            self._contents[token] = data[at - size : at]
        self._read_up_to = end

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A lock of the process, which the system releases when the process exits. A lock of the descriptor would be shared by all workers.
        # The wait is bounded because the holder may have been stopped.
        for _ in range(TRIES):
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                break
            time.sleep(PAUSE_S)
        else:
            raise BlockingIOError("the file is locked")
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("conf-store-fallback", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
