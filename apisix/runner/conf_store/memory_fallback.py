# SPDX-License-Identifier: Apache-2.0
"""
Where the workers keep what the conf store can't take: a file without a name, made before the fork, that all of them have open.

A full disk keeps SQLite from writing, and a lack of descriptors from opening its journal. The gateway uses a token over all
connections all the same, so one worker's memory is not enough. This file lies in memory where the system has that, and takes
neither disk nor descriptor. It is there as long as the runner is. Source: design, 6.
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
"""What is more stays in the memory of the worker that was given it."""
TRIES: Final = 50
PAUSE_S: Final = 0.0002
"""How long to wait before the next try to lock the file. The lock is held for some 20 us."""

_END: Final = struct.Struct("<Q")  # at the start of the file: where the whole records end
_RECORD: Final = struct.Struct("<II")  # token, bytes of content, which follow


class SpareFile:
    """
    Records of token and content, one behind the other, by all workers and for all of them.

    A record counts once the end behind it is written, so one whose writer was killed is written over.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Make an empty one. To be called before the fork. Raises: OSError: no descriptor is left."""
        self._descriptor = _nameless_file()
        self._most_bytes = most_bytes
        self._read_up_to = _END.size
        self._contents: dict[int, bytes] = {}

    def get(self, token: int) -> bytes | None:
        """Return the content that some worker has put under `token`."""
        if token not in self._contents:
            self._read_on()
        return self._contents.get(token)

    def put(self, token: int, content: bytes) -> bool:
        """
        Let all workers know what `token` stands for.

        Returns: whether they do now: not where it stands for something else, or there is no room.
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
        except OSError:  # out of memory, or somebody was stopped with the lock
            return False
        return True

    def close(self) -> None:
        """Give the descriptor back."""
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
        # The process's lock, which goes with it, not the descriptor's, which all workers share. One that was stopped with it is not
        # waited for: who can't have it keeps its content to itself.
        for _ in range(TRIES):
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                break
            time.sleep(PAUSE_S)
        else:
            raise BlockingIOError("the lock can't be had")
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("conf-store-spare", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
