# SPDX-License-Identifier: Apache-2.0
"""
The file of records, which all workers of a runner append to.

A worker locks the file while it writes whole lines, so a line is never mixed with one of another worker, and what was written only in part
is removed. If the file gets too large, the worker that finds out renames it, and the others notice that the path is another file. Each
worker writes the configurations that its calls refer to once into each file.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from apisix.runner.errors import SettingsError
from apisix.runner.records.format import ConfigurationRecord, encode
from apisix.runner.settings.table import Settings


class Entry(NamedTuple):
    """A call to write: its configuration, and its record as a line without a line break."""

    configuration: ConfigurationRecord
    line: bytes


class RotatingFile:
    """
    A file of records. It is opened when something is written.

    Args:
        path: the file.
        max_bytes: the size at which it is renamed to `path.1`, and that one to `path.2`.
        files: how many files are kept, including the one that is written.
    """

    def __init__(self, path: str, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._descriptor: int | None = None
        self._configurations: set[str] = set()  # the digests of those that this process has written into this file

    def write(self, entries: Sequence[Entry]) -> None:
        """Append calls, each after its configuration. Raise OSError if that fails. The file contains no incomplete line then."""
        position = 0
        while position < len(entries):
            with self._locked() as descriptor:
                position = self._write_from(descriptor, entries, position)
                if position < len(entries):
                    self._rotate()

    def close(self) -> None:
        """Close the file. It is opened again if something is written."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write_from(self, descriptor: int, entries: Sequence[Entry], position: int) -> int:
        """Write the entries from `position` on that fit into the file. Return the position of the first one that does not."""
        size = os.fstat(descriptor).st_size
        # The last line is incomplete if the process that wrote it was killed.
        lines = bytearray(b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b"")
        fresh: set[str] = set()
        for entry in entries[position:]:
            digest = entry.configuration.digest
            is_known = digest in self._configurations or digest in fresh
            added = entry.line + b"\n" if is_known else encode(entry.configuration) + b"\n" + entry.line + b"\n"
            if size + len(lines) + len(added) > self._max_bytes and size + len(lines) > 0:
                break
            fresh.add(digest)
            lines += added
            position += 1
        _append(descriptor, lines, size)
        self._configurations |= fresh
        return position

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Lock the file at the path. Another process may rename it before it is locked."""
        while True:
            if self._descriptor is None:
                self._descriptor = open_private(self._path)
                self._configurations.clear()
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if _is_at(self._descriptor, self._path):
                break
            self.close()
        descriptor = self._descriptor
        try:
            yield descriptor
        finally:
            if self._descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _rotate(self) -> None:
        """Rename the file, which is locked, and close it."""
        if self._files == 1:
            os.unlink(self._path)
        else:
            names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._files))]
            for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
                with suppress(FileNotFoundError):
                    os.replace(newer, older)
        self.close()


def path_of(settings: Settings) -> str:
    """Return the path of the file: the setting `record.file`, or a file next to the socket."""
    return settings.record_file or f"{settings.socket_file}.records.jsonl"


def check_file(settings: Settings) -> None:
    """Raise SettingsError if the file can't be written to. Creates it."""
    path = path_of(settings)
    try:
        os.close(open_private(path))
    except OSError as error:
        raise SettingsError(f"record.file is {path!r}, which can't be opened: {reason_of(error)}") from error


def reason_of(error: OSError) -> str:
    """Return why a file can't be opened, for a message."""
    # O_NOFOLLOW reports a link as ELOOP, "too many levels of symbolic links".
    return "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)


def open_private(path: str) -> int:
    """
    Open a file of this user to read and append, and return its descriptor. Create the file if it is missing. Its mode is 0600 afterwards.

    Raises: OSError: it can't be opened, is a link, is not a regular file, or belongs to another user.
    """
    # In a directory that others can write to, another user may have placed a link or a pipe of that name.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "it belongs to another user")
        if status.st_nlink > 1:
            raise OSError(errno.EPERM, "it has a second name (a hard link)")
        if status.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: str) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), found)


def _append(descriptor: int, lines: bytearray, size: int) -> None:
    """Write lines to the end of a locked file of this size. If they can't all be written, none is. Raise OSError then."""
    if not lines:
        return
    try:
        written = os.write(descriptor, lines)
        if written < len(lines):  # no space is left
            written += os.write(descriptor, lines[written:])
        if written < len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
