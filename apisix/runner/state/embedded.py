# SPDX-License-Identifier: Apache-2.0
"""
Entries in an LMDB file in memory, which all workers of a machine have open.

LMDB writes copies of pages and then switches to them at once, and its lock is released by the kernel if its owner is killed. So a process
can be killed at any instruction, and the others continue with the last complete transaction. Nothing is written to a disk.

The unnamed database has the entries. Each payload has a header: the time at which the entry expires, and the number of the entry in the
order of writes. The database `order` has the keys by that number, and `expiry` has those with a limit by their time. Both are used to make
room: expired entries are removed first, and then the oldest ones.

Free pages are needed even to delete entries, and a process that is interrupted while it reads holds on to old pages. So entries may use
only half of the file. All pages of the file are allocated when it is opened: if the memory were full later, writing to a page that is not
allocated would kill the process.
"""

import fcntl
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from apisix.runner.errors import StoreError
from apisix.runner.state.backend import Backend, Usage
from apisix.runner.state.counters import Counters, counters
from apisix.runner.state.values import decode_int, encode_int

logger = logging.getLogger(__name__)

MAX_READERS: Final = 1000
"""How many processes and threads can read at the same time."""
LOCK_FILE_BYTES: Final = 68 << 10
"""The size of LMDB's lock file: 64 bytes for each reader, and a header."""
LOOK_S: Final = 1.0
"""How often to check whether another worker has replaced a damaged file, in seconds."""
PATIENCE_S: Final = 1.0
"""How long to wait for pages that interrupted readers hold, in seconds."""
PAUSE_S: Final = 0.001
EXPIRED_PER_WRITE: Final = 4
"""How many expired entries are removed when an entry is created."""
EVICTED_PER_WRITE: Final = 256
"""How many entries are evicted at most when an entry is created."""
MAX_LMDB_KEY_BYTES: Final = 511

T = TypeVar("T")

_HEADER: Final = struct.Struct(">QQ")  # the time at which the entry expires in milliseconds since 1970, or 0, and its number
_NUMBER: Final = struct.Struct(">Q")

# What LMDB reports for a file that is damaged or not its own. All other errors leave the file as it is.
_DAMAGED: Final = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError, lmdb.VersionMismatchError)


class Damaged(Exception):
    """The content of the file is not what this module writes."""


class EmbeddedBackend(Backend):
    """
    Entries in a file of LMDB.

    A damaged file is replaced by an empty one, which is logged. The other workers notice that within a second.

    Args:
        path: the file, in a directory that no other user can write to. A file with `-lock` appended to the name is beside it.
        size_bytes: the size of the file, if it does not exist yet. Entries may use half of it.
        clock: returns the seconds since 1970.
        counters: count what is evicted.
    Raises: StoreError: the file can't be opened.
    """

    def __init__(self, path: Path, size_bytes: int, clock: Callable[[], float] = time.time, counters: Counters = counters) -> None:
        self._path = path
        self._counters = counters
        self._size_bytes = size_bytes
        self._clock = clock
        self._look_s = 0.0
        self._opening = threading.RLock()
        self._retired: list[lmdb.Environment] = []  # of replaced files, which other threads may still use
        with self._reporting():
            self._open()

    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return self._attempt(self._get, keys, write=False)

    def put(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        return self._attempt(self._put, key, payload, ttl_ms, if_absent)

    def cas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        return self._attempt(self._cas, key, expected, payload, ttl_ms)

    def incr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        return self._attempt(self._incr, key, by, ttl_ms)

    def delete(self, key: bytes) -> bool:
        return self._attempt(self._delete, key)

    def expire(self, key: bytes, ttl_ms: int | None) -> bool:
        return self._attempt(self._expire, key, ttl_ms)

    def ttl(self, key: bytes) -> int | None:
        return self._attempt(self._ttl, key, write=False)

    def usage(self) -> Usage | None:
        """Return how much is stored, including expired entries that were not removed yet, or None if the file can't be read."""
        try:
            return self._attempt(lambda txn: Usage(txn.stat(self._order)["entries"], self._used(txn)), write=False)
        except StoreError:
            return None

    def close(self) -> None:
        """Close the file. It is not removed, because other workers use it."""
        for environment in (self._environment, *self._retired):
            environment.close()

    # The operations, each in one transaction. They may run again if a transaction fails.

    def _get(self, txn: lmdb.Transaction, keys: Sequence[bytes]) -> list[bytes | None]:
        now_ms = self._clock() * 1000
        payloads: list[bytes | None] = []
        for key in keys:
            found: bytes | None = txn.get(_stored_key(key))  # type: ignore[assignment]  # the transaction has no buffers
            payloads.append(None if found is None or 0 < _HEADER.unpack_from(found)[0] <= now_ms else found[_HEADER.size :])
        return payloads

    def _put(self, txn: lmdb.Transaction, key: bytes, payload: bytes, ttl_ms: int | None, if_absent: bool) -> bool:
        key = _stored_key(key)
        found = self._find(txn, key)
        if if_absent and found is not None:
            return False
        self._write(txn, key, payload, ttl_ms)
        return True

    def _cas(self, txn: lmdb.Transaction, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        key = _stored_key(key)
        found = self._find(txn, key)
        if (None if found is None else found[_HEADER.size :]) != expected:
            return False
        if payload is None:
            self._remove(txn, key)
        else:
            self._write(txn, key, payload, ttl_ms)
        return True

    def _incr(self, txn: lmdb.Transaction, key: bytes, by: int, ttl_ms: int | None) -> int:
        key = _stored_key(key)
        found = self._find(txn, key)
        if found is None:
            self._write(txn, key, encode_int(by), ttl_ms)
            return by
        total = decode_int(found[_HEADER.size :]) + by
        txn.put(key, found[: _HEADER.size] + encode_int(total))
        return total

    def _delete(self, txn: lmdb.Transaction, key: bytes) -> bool:
        key = _stored_key(key)
        existed = self._find(txn, key) is not None
        self._remove(txn, key)
        return existed

    def _expire(self, txn: lmdb.Transaction, key: bytes, ttl_ms: int | None) -> bool:
        key = _stored_key(key)
        found = self._find(txn, key)
        if found is None:
            return False
        self._write(txn, key, found[_HEADER.size :], ttl_ms)
        return True

    def _ttl(self, txn: lmdb.Transaction, key: bytes) -> int | None:
        found = self._find(txn, _stored_key(key))
        if found is None:
            return None
        expiry_ms = _HEADER.unpack_from(found)[0]
        return -1 if expiry_ms == 0 else max(1, expiry_ms - self._now_ms())

    # Parts of operations.

    def _find(self, txn: lmdb.Transaction, key: bytes) -> bytes | None:
        """Return an entry with its header, None if it is absent or has expired."""
        found: bytes | None = txn.get(key)  # type: ignore[assignment]
        if found is None or 0 < _HEADER.unpack_from(found)[0] <= self._now_ms():
            return None
        return found

    def _write(self, txn: lmdb.Transaction, key: bytes, payload: bytes, ttl_ms: int | None) -> None:
        """Store an entry as the newest one, and make room."""
        self._remove(txn, key)
        number = self._next_number(txn)
        expiry_ms = 0 if ttl_ms is None else self._now_ms() + ttl_ms
        txn.put(key, _HEADER.pack(expiry_ms, number) + payload)
        txn.put(_NUMBER.pack(number), key, db=self._order, append=True)
        if expiry_ms:
            txn.put(_HEADER.pack(expiry_ms, number), key, db=self._expiry)
        self._remove_expired(txn)
        self._evict(txn, keep=number)

    def _remove(self, txn: lmdb.Transaction, key: bytes) -> None:
        found = txn.pop(key)
        if found is None:
            return
        expiry_ms, number = _HEADER.unpack_from(found)
        txn.delete(_NUMBER.pack(number), db=self._order)
        if expiry_ms:
            txn.delete(_HEADER.pack(expiry_ms, number), db=self._expiry)

    def _next_number(self, txn: lmdb.Transaction) -> int:
        with txn.cursor(self._order) as cursor:
            return int(_NUMBER.unpack(cursor.key())[0]) + 1 if cursor.last() else 1

    def _remove_expired(self, txn: lmdb.Transaction) -> None:
        now_ms = self._now_ms()
        for _ in range(EXPIRED_PER_WRITE):
            with txn.cursor(self._expiry) as cursor:
                if not cursor.first() or _HEADER.unpack(cursor.key())[0] > now_ms:
                    return
                key = bytes(cursor.value())
            self._remove(txn, key)

    def _evict(self, txn: lmdb.Transaction, keep: int) -> None:
        """Remove the oldest entries, but not the one with the number `keep`, while the entries use more than half of the file."""
        for _ in range(EVICTED_PER_WRITE):
            if self._used(txn) <= self._limit_bytes:
                return
            with txn.cursor(self._order) as cursor:
                if not cursor.first() or _NUMBER.unpack(cursor.key())[0] == keep:
                    return
                key = bytes(cursor.value())
            self._remove(txn, key)
            self._counters.evictions += 1

    def _used(self, txn: lmdb.Transaction) -> int:
        pages = 0
        for database in (self._entries, self._order, self._expiry):
            stat = txn.stat(database)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages * stat["psize"])

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    # Transactions.

    def _attempt(self, work: Callable[..., T], *args: Any, write: bool = True) -> T:
        """Return the result of `work` in a transaction. If a transaction fails for a reason that can be removed, it is tried again."""
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look(now_s)
        try:
            with self._environment.begin(write=write) as txn:
                return work(txn, *args)
        except (lmdb.Error, struct.error) as error:
            return self._attempt_again(error, work, args, write)

    def _attempt_again(self, error: Exception, work: Callable[..., T], args: tuple[Any, ...], write: bool) -> T:
        until_s = time.monotonic() + PATIENCE_S
        with self._reporting():
            while True:
                self._repair(error, until_s)
                try:
                    with self._environment.begin(write=write) as txn:
                        return work(txn, *args)
                except (lmdb.Error, struct.error) as again:
                    if time.monotonic() > until_s:
                        raise
                    error = again

    def _repair(self, error: Exception, until_s: float) -> None:
        """Do what makes another attempt useful, or raise `error` if nothing does."""
        if isinstance(error, _DAMAGED | struct.error):
            self._replace(error, self._inode)
        elif isinstance(error, lmdb.MapFullError):
            # Pages are held by a reader that is interrupted, or was killed.
            self._environment.reader_check()
            time.sleep(PAUSE_S)
        elif isinstance(error, lmdb.ReadersFullError):
            if self._environment.reader_check() == 0:
                raise error
        elif isinstance(error, lmdb.MapResizedError):
            self._environment.set_mapsize(0)
        else:
            raise error

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Raise StoreError instead of other errors."""
        try:
            yield
        except lmdb.MapFullError as error:
            raise StoreError(f"the store {self._path} is full: a process holds on to its old pages, or state.size is too small") from error
        except (lmdb.Error, struct.error, OSError, Damaged) as error:
            raise StoreError(f"the store {self._path} can't be used: {error}") from error

    # The file.

    def _look(self, now_s: float) -> None:
        """If another worker has replaced the file, open the new one."""
        self._look_s = now_s + LOOK_S
        try:
            if os.stat(self._path).st_ino == self._inode:
                return
        except FileNotFoundError:
            pass
        with self._reporting(), self._opening:
            self._retired.append(self._environment)
            self._open()

    def _open(self) -> None:
        """Open the file. Create it if it is missing, and replace it if it is damaged."""
        with self._directory_locked():
            try:
                self._open_file()
            except (*_DAMAGED, Damaged) as error:
                self._set_aside(error)
                self._open_file()

    def _replace(self, error: Exception, inode: int) -> None:
        with self._opening, self._directory_locked():
            if self._inode != inode:
                return  # another thread has replaced it
            self._retired.append(self._environment)
            with suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == inode:
                    self._set_aside(error)
            self._open_file()

    def _set_aside(self, error: Exception) -> None:
        logger.error("the store %s is damaged (%s), so it is replaced by an empty one. What plugins had stored is lost", self._path, error)
        for path in (self._path, self._lock_path):
            path.unlink(missing_ok=True)

    @property
    def _lock_path(self) -> Path:
        return self._path.with_name(self._path.name + "-lock")

    @contextmanager
    def _directory_locked(self) -> Iterator[None]:
        """Let one process at a time create or replace the file. The kernel releases the lock if the process is killed."""
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open_file(self) -> None:
        # LMDB writes to its lock file through memory, so its pages must be allocated before.
        _allocate(self._lock_path, LOCK_FILE_BYTES)
        status = self._path.stat() if self._path.exists() else None
        size_bytes = status.st_size if status is not None and status.st_size else self._size_bytes
        if status is not None and status.st_size and size_bytes < 4 * os.sysconf("SC_PAGE_SIZE"):
            raise Damaged(f"it has only {size_bytes} bytes")
        environment = lmdb.open(
            str(self._path),
            map_size=size_bytes,
            subdir=False,
            mode=0o600,
            sync=False,
            metasync=False,
            writemap=True,
            meminit=False,
            max_dbs=2,
            max_readers=MAX_READERS,
        )
        try:
            if (environment.info()["last_pgno"] + 1) * environment.stat()["psize"] > size_bytes:
                raise Damaged("it was truncated")
            _allocate(self._path, size_bytes)
            environment.reader_check()
            self._order = environment.open_db(b"order")
            self._expiry = environment.open_db(b"expiry")
            self._entries = environment.open_db(None)
        except BaseException:
            environment.close()
            raise
        self._environment = environment
        self._limit_bytes = size_bytes // 2
        self._inode = self._path.stat().st_ino
        self._look_s = time.monotonic() + LOOK_S


def _allocate(path: Path, size_bytes: int) -> None:
    """Create a file if it is missing, and allocate its pages. Raise OSError if there is not enough memory."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size_bytes)
        elif os.fstat(descriptor).st_size < size_bytes:
            os.truncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def _stored_key(key: bytes) -> bytes:
    """Return the key for LMDB, which has a limit for its size. A long key is replaced by its beginning and a digest."""
    if len(key) <= MAX_LMDB_KEY_BYTES:
        return key
    from hashlib import blake2b

    return key[: MAX_LMDB_KEY_BYTES - 33] + b"\0" + blake2b(key, digest_size=32).digest()
