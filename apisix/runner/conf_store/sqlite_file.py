# SPDX-License-Identifier: Apache-2.0
"""
The SQLite file of the conf store. It is opened again if another worker replaces it, and moved aside if it is damaged.

The journal is a rollback journal that is truncated. A write-ahead log is faster, but its index is mapped memory: if another process
truncates that file, every worker is killed by SIGBUS. Opening the log also needs space on the disk. With `synchronous=OFF`, data can be
lost after a power failure. That stops the gateway too, and so makes all tokens invalid. A process that is killed loses no data.
"""

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum
from pathlib import Path
from typing import TypeVar

from apisix.runner.conf_store.placement import create_private
from apisix.runner.conf_store.write_lock import WriteLock

logger = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION_ID = 0x41365354  # "A6ST"
SCHEMA_VERSION = 1

# How long a call may wait for the lock of another process, in seconds. A write normally has the lock only for a moment.
LOCK_PATIENCE_S = 0.25
LOCK_PAUSE_S = 0.0001

_SCHEMA = (
    """
    CREATE TABLE configuration (
        token INTEGER PRIMARY KEY,
        seal BLOB NOT NULL,        -- of token and content, so that a damaged file cannot lead to a wrong chain
        content BLOB,              -- key and conf; NULL if removed because of the limit, so that its token is not used again
        given_at REAL NOT NULL,    -- the last PrepareConf, in seconds since 1970
        used_at REAL NOT NULL      -- the last use by any worker, likewise
    )
    """,
    # Each row is in one of these, so that both kinds are counted and sorted without reading their contents.
    "CREATE INDEX living_used_at ON configuration (used_at) WHERE content IS NOT NULL",
    "CREATE INDEX emptied_used_at ON configuration (used_at) WHERE content IS NULL",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_PRAGMAS = (
    "PRAGMA journal_mode = TRUNCATE",
    "PRAGMA synchronous = OFF",
    "PRAGMA mmap_size = 0",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
)


class _Problem(Enum):
    """The meaning of an SQLite error for the store."""

    CORRUPT = "is damaged, or is not a store of this version"
    LOCKED = "is locked by another process"
    UNWRITABLE = "can't be read or written"


# SQLite's primary result codes. All others are UNWRITABLE (full, read-only, I/O error, no memory).
_PROBLEMS = {
    sqlite3.SQLITE_CORRUPT: _Problem.CORRUPT,
    sqlite3.SQLITE_NOTADB: _Problem.CORRUPT,
    sqlite3.SQLITE_ERROR: _Problem.CORRUPT,  # "no such table"
    sqlite3.SQLITE_MISMATCH: _Problem.CORRUPT,
    sqlite3.SQLITE_CONSTRAINT: _Problem.CORRUPT,
    sqlite3.SQLITE_FORMAT: _Problem.CORRUPT,
    sqlite3.SQLITE_BUSY: _Problem.LOCKED,
    sqlite3.SQLITE_LOCKED: _Problem.LOCKED,
}


class Damaged(sqlite3.DatabaseError):
    """The file is a database, but it is damaged or was not written by this version."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class StoreFile:
    """The connection of one process to the file. The first `attempt` opens it, so after the fork. Used by one thread."""

    def __init__(self, path: Path, write_lock: WriteLock | None = None) -> None:
        """Args: path: the path that `choose_path` returned. write_lock: shared with the other workers."""
        self.path = path
        self._write_lock = write_lock
        self._db: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._patience_s = LOCK_PATIENCE_S
        self._warned: set[_Problem] = set()

    def attempt(self, action: Callable[[], T], *, follow: bool = True) -> T | None:
        """
        Run `action` on the open file. Return its result, or None if the file can't be read or written.

        A damaged file is replaced by a new one, and `action` is run again. Each kind of error is logged once, until a write succeeds.

        Args: follow: check first whether another worker has replaced the file.
        """
        for _ in range(2):
            try:
                if follow or self._db is None:
                    self._follow()
                result = action()
            except sqlite3.ProgrammingError:
                raise  # used by another thread, or wrong SQL: a defect of the runner
            except (sqlite3.Error, OSError) as error:
                problem = _PROBLEMS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _Problem.UNWRITABLE)
                if problem is _Problem.CORRUPT:
                    self._set_aside(error)
                    follow = True
                    continue
                if problem is _Problem.LOCKED:
                    self._patience_s = 0.0  # one call has waited; later calls do not wait, until a write succeeds
                self._warn(problem, error)
                return None
            return result
        return None

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        """
        Run one statement inside an `attempt`. Wait for a short time if another process has the lock.

        SQLite's own busy handler sleeps much longer between its attempts than other processes normally have the lock.
        """
        if self._db is None:
            raise sqlite3.OperationalError("the file is not open")
        waiting_since = 0.0
        while True:
            try:
                return self._db.execute(statement, parameters)
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                waiting_since = waiting_since or now
                waited_s = now - waiting_since
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or waited_s >= self._patience_s:
                    raise
            time.sleep(LOCK_PAUSE_S)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Take the lock for reading once, for all statements of the block. This is faster than once for each statement."""
        self.execute("BEGIN")
        try:
            yield
        finally:
            if self._db is not None and self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take the write lock, and commit at the end of the block, or roll back if the block raises an exception."""
        with nullcontext() if self._write_lock is None else self._write_lock.taken():
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._db is not None and self._db.in_transaction:
                    with suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise
        self._patience_s = LOCK_PATIENCE_S
        self._warned.clear()

    def close(self) -> None:
        """Close the file. The next `attempt` opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _follow(self) -> None:
        """Open the file, or open it again if the path leads to another file now."""
        if self._db is not None:
            with suppress(FileNotFoundError):
                if _identity(os.lstat(self.path)) == self._identity:
                    return
            self.close()
        create_private(self.path, own_directory=False)
        self._identity = _identity(os.lstat(self.path))
        self._db = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        self._db.text_factory = bytes  # a store contains no text, but a damaged one may contain text that is not UTF-8
        for pragma in _PRAGMAS:
            self.execute(pragma)
        if self._is_blank():
            with self.transaction():
                if self._is_blank():  # check again, because another worker may have been first
                    for statement in _SCHEMA:
                        self.execute(statement)
        if self._version() != (APPLICATION_ID, SCHEMA_VERSION):
            raise Damaged("the application id or the schema version differs")

    def _is_blank(self) -> bool:
        (tables,) = self.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return tables == 0 and self._version() == (0, 0)

    def _version(self) -> tuple[int, int]:
        (application_id,) = self.execute("PRAGMA application_id").fetchone()
        (version,) = self.execute("PRAGMA user_version").fetchone()
        return application_id, version

    def _set_aside(self, error: BaseException) -> None:
        """Move a damaged file aside, unless another worker has just done so. It may be a file of the operator, so do not delete it."""
        self.close()
        aside = self.path.with_name(self.path.name + ".bad")
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # so that two workers do not move each other's new file
            if _identity(os.fstat(descriptor)) == self._identity == _identity(os.lstat(self.path)):
                for suffix in ("-journal", "-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                self.path.replace(aside)
                logger.warning(
                    "conf store: %s %s (%s). It was moved to %s, and a new store is used", self.path, _Problem.CORRUPT.value, error, aside
                )
        except OSError as move_error:
            self._warn(_Problem.UNWRITABLE, move_error)
        finally:
            os.close(descriptor)

    def _warn(self, problem: _Problem, error: BaseException) -> None:
        if problem not in self._warned:
            self._warned.add(problem)
            logger.warning(
                "conf store: %s %s (%s). New tokens are kept in memory, and are lost when this runner exits",
                self.path,
                problem.value,
                error,
            )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
