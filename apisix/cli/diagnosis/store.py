# SPDX-License-Identifier: Apache-2.0
"""The store of configurations: its place, its modes, and whether what is there can be read. Nothing is shown of what it holds."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Final

from apisix.cli.diagnosis.finding import Findings, ok, problem, warning
from apisix.runner.server.conf_store_file import APPLICATION_ID
from apisix.runner.server.conf_store_path import DIRECTORY_SUFFIX, FILE_NAME
from apisix.runner.server.peers import user_name
from apisix.runner.settings import Settings

LEAST_FREE_BYTES: Final = 16 << 20


def look_at_store(settings: Settings) -> Findings:
    """Look at the file without changing it: its writers go on."""
    beside = Path(settings.socket_file + DIRECTORY_SUFFIX) / FILE_NAME
    path = beside if settings.conf_store_file is None else Path(settings.conf_store_file)
    try:
        status = path.lstat()
    except PermissionError:
        yield warning("store", f"{path} can't be looked at by user {user_name(os.geteuid())}", "Run this as the user of the runner")
        return
    except OSError:
        yield ok("store", f"there is no {path} yet: the runner makes it when it starts")
        return
    yield from _look_at_file(path, status, own_directory=settings.conf_store_file is None)
    yield from _look_at_room(path.parent)
    if stat.S_ISREG(status.st_mode):
        yield from _look_inside(path, settings.conf_store_max_entries)


def _look_at_file(path: Path, status: os.stat_result, *, own_directory: bool) -> Findings:
    elsewhere = "The runner keeps its store elsewhere meanwhile, and says so in its log. Remove it, and start the runner anew"
    if not stat.S_ISREG(status.st_mode):
        yield problem("store", f"{path} is not a regular file", elsewhere)
    for place, forbidden in ((path, 0o077), (path.parent, 0o077 if own_directory else 0o022)):
        found = place.lstat()
        if found.st_mode & forbidden:
            yield warning("store", f"{place} has mode {stat.S_IMODE(found.st_mode):04o}, which lets others in", elsewhere)
    yield ok("store", f"{path}: {status.st_size >> 10} KiB, user {user_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}")


def _look_at_room(directory: Path) -> Findings:
    room = os.statvfs(directory)
    free_bytes = room.f_bavail * room.f_frsize
    if free_bytes < LEAST_FREE_BYTES:
        yield problem(
            "store", f"{directory} has {free_bytes >> 10} KiB left on its disk", "Make room, or tokens are lost with their worker"
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
