# SPDX-License-Identifier: Apache-2.0
"""Examine the store of route configurations: its path, its modes, and if it can be read. Its content is not shown."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Final

from apisix.cli.diagnosis.result import Result, Results, counted, ok, problem, warning
from apisix.runner.conf_store.placement import DIRECTORY_SUFFIX, FILE_NAME
from apisix.runner.conf_store.sqlite_file import APPLICATION_ID
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.listening.credentials import user_name

LEAST_FREE_BYTES: Final = 16 << 20

MEANWHILE: Final = (
    "Until then, the runner keeps its tokens in a temporary directory or, if that is not possible, in memory that its workers share. "
    "Tokens in memory are lost at a restart. The runner's log contains the place"
)
_REMOVE: Final = f"{MEANWHILE}. Remove it and restart the runner"
_CLOSE: Final = f"{MEANWHILE}. Remove the write permission of others (chmod go-w) and restart the runner"
_LET_WRITE: Final = f"{MEANWHILE}. Allow the runner's user to write there and restart the runner"


def examine_store(settings: Settings) -> Results:
    """Examine the file. It is not changed, and its writers are not blocked."""
    beside = Path(settings.socket_file + DIRECTORY_SUFFIX) / FILE_NAME
    path = beside if settings.conf_store_file is None else Path(settings.conf_store_file)
    own_directory = settings.conf_store_file is None
    try:
        problems = list(_problems_of_directory(path.parent, own_directory=own_directory))
        status = None if problems and not path.parent.is_dir() else _status(path)
    except PermissionError:
        yield warning("store", f"user {user_name(os.geteuid())} can't examine {path}", "Run this command as the user of the runner")
        return
    except OSError as error:
        yield warning("store", f"{path.parent} can't be used: {error.strerror}", _LET_WRITE)
        return
    if status is not None:
        problems = [*_problems_of_file(path, status, own_directory=own_directory), *problems]
    if problems:  # the runner does not use the file, so its content does not matter
        yield from problems
    elif status is None:
        yield ok("store", f"{path} does not exist yet; the runner creates it when it starts")
    else:
        yield ok("store", f"{path}: {status.st_size >> 10} KiB, user {user_name(status.st_uid)}, mode {_mode(status)}")
        yield from _examine_free_space(path.parent)
        yield from _examine_content(path, settings.conf_store_max_entries)


def _problems_of_directory(directory: Path, *, own_directory: bool) -> Results:
    """Yield why the runner would not keep its store in `directory`. Source: `placement.create_private`."""
    status = _status(directory, follow=not own_directory)
    if status is None:
        above = _status(directory.parent, follow=True)
        if above is not None and not os.access(directory.parent, os.W_OK | os.X_OK):
            yield _unwritable(directory.parent, above)
        elif above is None and not own_directory:  # the directory of the socket is examined with the socket
            yield warning("store", f"{directory} can't be created, because there is no directory {directory.parent}", _LET_WRITE)
    elif not stat.S_ISDIR(status.st_mode):
        yield warning("store", f"{directory} is not a directory", _REMOVE)
    elif status.st_mode & (0o077 if own_directory else 0o022):
        yield _open_to_others(directory, status, _REMOVE if own_directory else _CLOSE)
    elif not _may(directory, status, os.W_OK | os.X_OK):
        yield _unwritable(directory, status)


def _problems_of_file(path: Path, status: os.stat_result, *, own_directory: bool) -> Results:
    """Yield why the runner would not use the existing file. The file should belong to the runner's user, who is not known here."""
    directory_owner = path.parent.stat().st_uid
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        yield problem("store", f"{path} is not a regular file with one link", _REMOVE)
    elif status.st_mode & 0o077:
        yield _open_to_others(path, status, _REMOVE)
    elif directory_owner != status.st_uid and (own_directory or directory_owner != 0):
        yield warning(
            "store", f"{path.parent} belongs to user {user_name(directory_owner)}, {path} to user {user_name(status.st_uid)}", _REMOVE
        )
    elif not _may(path, status, os.R_OK | os.W_OK):
        yield _unwritable(path, status)


def _status(path: Path, *, follow: bool = False) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=follow)
    except FileNotFoundError:
        return None


def _may(place: Path, status: os.stat_result, wanted: int) -> bool:
    """Return True if this user and the owner have a permission. root has all permissions, but the runner may not be root."""
    return os.access(place, wanted) and (status.st_uid == 0 or (status.st_mode >> 6) & wanted == wanted)


def _unwritable(place: Path, status: os.stat_result) -> Result:
    return warning("store", f"{place} can't be written (mode {_mode(status)}, user {user_name(status.st_uid)})", _LET_WRITE)


def _open_to_others(place: Path, status: os.stat_result, advice: str) -> Result:
    return warning("store", f"{place} has mode {_mode(status)}, which gives access to others", advice)


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def _examine_free_space(directory: Path) -> Results:
    space = os.statvfs(directory)
    free_bytes = space.f_bavail * space.f_frsize
    if free_bytes < LEAST_FREE_BYTES:
        yield problem(
            "store",
            f"the disk of {directory} has only {free_bytes >> 10} KiB left",
            "Free some space. Until then, new tokens are kept in memory that the workers share, and are lost when the runner exits",
        )


def _examine_content(path: Path, max_entries: int) -> Results:
    damaged = "You do not have to do anything: the runner renames a damaged file and creates a new one"
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)) as db:
            (application_id,) = db.execute("PRAGMA application_id").fetchone()
            if application_id not in (0, APPLICATION_ID):
                yield problem("store", f"{path} is the database of another program", "Set conf_store.file to another path")
                return
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            (count,) = db.execute("SELECT count(*) FROM configuration WHERE content IS NOT NULL").fetchone()
    except sqlite3.Error as error:
        yield warning("store", f"{path} can't be read: {error}", damaged)
        return
    if verdict != "ok":
        yield warning("store", f"{path} is damaged: {verdict}", damaged)
    elif count >= max_entries:
        yield warning(
            "store", f"the store contains {counted(count, 'route configuration')}, which is the limit", "Raise conf_store.max_entries"
        )
    else:
        yield ok("store", f"the store contains {counted(count, 'route configuration')}")
