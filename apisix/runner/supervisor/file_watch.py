# SPDX-License-Identifier: Apache-2.0
"""Detect changes of plugin files by comparing their modification times. This works on any file system, without a thread or a library."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

Stamp = tuple[int, int, int]


class FileWatch:
    """
    Compares the files in directories with the files that were there before.

    Only Python files are compared, at any depth, except in hidden directories and caches.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self._directories = tuple(directories)
        self._files: frozenset[str] = frozenset()
        self._stamps = dict(self._look())

    def add_files(self, files: Iterable[str]) -> None:
        """Watch single files too, such as plugin modules that were loaded from the import path."""
        new = frozenset(files) - self._files
        self._files |= new
        self._stamps.update((path, stamp) for path, stamp in map(_stamped, new) if stamp)

    def changed(self) -> list[str]:
        """Return the files that were changed, added or removed since the last call, sorted by path."""
        before, self._stamps = self._stamps, dict(self._look())
        return sorted(path for path in before.keys() | self._stamps.keys() if before.get(path) != self._stamps.get(path))

    def _look(self) -> Iterator[tuple[str, Stamp]]:
        for directory in self._directories:
            yield from _python_files(directory)
        for path, stamp in map(_stamped, self._files):
            if stamp:
                yield path, stamp


def _python_files(directory: str) -> Iterator[tuple[str, Stamp]]:
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__pycache__")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _python_files(entry.path)
            elif entry.name.endswith(".py"):
                path, stamp = _stamped(entry.path)
                if stamp:
                    yield path, stamp


def _stamped(path: str) -> tuple[str, Stamp | None]:
    try:
        status = os.stat(path)
    except OSError:
        return path, None
    return path, (status.st_mtime_ns, status.st_size, status.st_ino)
