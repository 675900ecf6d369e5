# SPDX-License-Identifier: Apache-2.0
"""The store of configurations: its place, its modes, and whether what is there can be read. Nothing is shown of what it holds."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Final

from apisix.cli.diagnosis.finding import Finding, Findings, ok, problem, warning
from apisix.runner.conf_store.placement import DIRECTORY_SUFFIX, FILE_NAME
from apisix.runner.conf_store.sqlite_file import APPLICATION_ID
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.credentials import user_name

LEAST_FREE_BYTES: Final = 16 << 20

MEANWHILE: Final = (
    "The runner's log says where it keeps its tokens meanwhile: among the temporary files or, where that can't be either, in memory "
    "shared by its workers, where tokens do not survive a restart"
)
_REMOVE: Final = f"{MEANWHILE}. Remove it, and start the runner anew"
_CLOSE: Final = f"{MEANWHILE}. Close it to others (chmod go-w), and start the runner anew"
_LET_WRITE: Final = f"{MEANWHILE}. Let the runner's user write there, and start the runner anew"


def look_at_store(settings: Settings) -> Findings:
    """Look at the file without changing it: its writers go on."""
    beside = Path(settings.socket_file + DIRECTORY_SUFFIX) / FILE_NAME
    path = beside if settings.conf_store_file is None else Path(settings.conf_store_file)
    own_directory = settings.conf_store_file is None
    try:
        refusals = list(_refusals_of_directory(path.parent, own_directory=own_directory))
        status = None if refusals and not path.parent.is_dir() else _status(path)
    except PermissionError:
        yield warning("store", f"{path} can't be looked at by user {user_name(os.geteuid())}", "Run this as the user of the runner")
        return
    except OSError as error:
        yield warning("store", f"{path.parent} can't be used: {error.strerror}", _LET_WRITE)
        return
    if status is not None:
        refusals = [*_refusals_of_file(path, status, own_directory=own_directory), *refusals]
    if refusals:  # the runner does not use what is there, so nothing is said of its content
        yield from refusals
    elif status is None:
        yield ok("store", f"there is no {path} yet: the runner makes it when it starts")
    else:
        yield ok("store", f"{path}: {status.st_size >> 10} KiB, user {user_name(status.st_uid)}, mode {_mode(status)}")
        yield from _look_at_room(path.parent)
        yield from _look_inside(path, settings.conf_store_max_entries)


def _refusals_of_directory(directory: Path, *, own_directory: bool) -> Findings:
    """Say why the runner would not keep its store in `directory`. Source: `conf_store_path.create_private`."""
    status = _status(directory, follow=not own_directory)
    if status is None:
        above = _status(directory.parent, follow=True)
        if above is not None and not os.access(directory.parent, os.W_OK | os.X_OK):
            yield _unwritable(directory.parent, above)
        elif above is None and not own_directory:  # the socket's directory is looked at with the socket
            yield warning("store", f"{directory} can't be made: there is no {directory.parent}", _LET_WRITE)
    elif not stat.S_ISDIR(status.st_mode):
        yield warning("store", f"{directory} is not a directory", _REMOVE)
    elif status.st_mode & (0o077 if own_directory else 0o022):
        yield _open_to_others(directory, status, _REMOVE if own_directory else _CLOSE)
    elif not _may(directory, status, os.W_OK | os.X_OK):
        yield _unwritable(directory, status)


def _refusals_of_file(path: Path, status: os.stat_result, *, own_directory: bool) -> Findings:
    """Say why the runner would not take the file that is there. The runner's user is not known; who owns the file should be it."""
    directory_owner = path.parent.stat().st_uid
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        yield problem("store", f"{path} is not a regular file of its own", _REMOVE)
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
    """Tell whether whoever runs this may, and the owner: root may everything, and the runner is not root then."""
    return os.access(place, wanted) and (status.st_uid == 0 or (status.st_mode >> 6) & wanted == wanted)


def _unwritable(place: Path, status: os.stat_result) -> Finding:
    return warning("store", f"{place} can't be written (mode {_mode(status)}, user {user_name(status.st_uid)})", _LET_WRITE)


def _open_to_others(place: Path, status: os.stat_result, advice: str) -> Finding:
    return warning("store", f"{place} has mode {_mode(status)}, which lets others in", advice)


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def _look_at_room(directory: Path) -> Findings:
    room = os.statvfs(directory)
    free_bytes = room.f_bavail * room.f_frsize
    if free_bytes < LEAST_FREE_BYTES:
        yield problem(
            "store",
            f"{directory} has {free_bytes >> 10} KiB left on its disk",
            "Make room: new tokens are in memory shared by the workers meanwhile, and are lost when the runner ends",
        )


def _look_inside(path: Path, max_entries: int) -> Findings:
    damaged = "The runner moves a damaged file aside and begins a fresh one; nothing has to be done"
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
        yield warning("store", f"{count} configurations are known, as many as may be", "Raise conf_store.max_entries")
    else:
        yield ok("store", f"{count} configurations are known")
