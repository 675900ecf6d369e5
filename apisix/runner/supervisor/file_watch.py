# SPDX-License-Identifier: Apache-2.0
"""Notice that plugin files change, by looking at their times: no thread, no library, any file system."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

Stamp = tuple[int, int, int]


class FileWatch:
    """
    Compare what the directories hold with what they held before.

    Only Python files count, at any depth, hidden directories and caches excepted.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self._directories = tuple(directories)
        self._files: frozenset[str] = frozenset()
        self._stamps = dict(self._look())

    def add_files(self, files: Iterable[str]) -> None:
        """Watch single files too, such as modules of the path that were loaded."""
        new = frozenset(files) - self._files
        self._files |= new
        self._stamps.update((path, stamp) for path, stamp in map(_stamped, new) if stamp)

    def changed(self) -> list[str]:
        """Return the files that were changed, added or removed since the last call, in order."""
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
