# SPDX-License-Identifier: Apache-2.0
"""
Entries in an LMDB file in memory, which all workers of a machine have open.

LMDB writes copies of pages and then switches to them at once, and its lock is released by the kernel if its owner is killed. So a process
can be killed at any instruction, and the others continue with the last complete transaction. Nothing is written to a disk.

The unnamed database has the entries. Each payload has a header: the time at which the entry expires, and the number of the entry in the
order of writes to its group. A group is what the key has before its first zero byte: the name of a store, or of its locks. The database
`order` has the keys by group and number, `expiry` has those with a limit by their time, and `sizes` has the size of each group. They are
used to make room: expired entries are removed first, and then the oldest ones of the largest group. So a plugin that caches much evicts
what it has stored itself, and not the counters and locks of others.

A counter is written too often to become the newest entry each time. Instead, a bit in its header is set. If it is the oldest entry and has
this bit, it is not evicted, but loses the bit, and becomes the newest entry (the second chance of the CLOCK algorithm).

Free pages are needed even to delete entries, and a process that is interrupted while it reads holds on to old pages. So entries may use
only half of the file. All pages of the file are allocated when it is opened: if the memory were full later, writing to a page that is not
allocated would kill the process.

Two files belong together: the data, and the lock file with the mutex and the readers. If one of them is removed, or the data is damaged,
both are replaced, because a process must never use one of them with another partner. The lock file is always removed first.
"""

import errno
import fcntl
import logging
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from apisix.runner.errors import StoreError
from apisix.runner.state.backend import Backend, Usage
from apisix.runner.state.counters import Counters, counters
from apisix.runner.state.throttling import admit
from apisix.runner.state.values import MIN_INT, decode_int, encode_int

logger = logging.getLogger(__name__)

MAX_READERS: Final = 1000
"""How many processes and threads can read at the same time."""
SIZE_STEP_BYTES: Final = 1 << 20
"""Sizes of files are multiples of this. A file with another size was truncated."""
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
CHANCES_PER_WRITE: Final = 16
"""How many counters that are in use are kept at most, as the newest entries, when an entry is created. More are evicted."""
MAX_LMDB_KEY_BYTES: Final = 511
PAGE_BYTES: Final = 1 << 12
ENTRY_BYTES: Final = 100
"""About how many bytes an entry takes in addition to its key and its payload."""
LARGE_BYTES: Final = 1 << 10
"""An entry that is larger than this may need pages of its own, which must be adjacent."""

T = TypeVar("T")

_HEADER: Final = struct.Struct(">QQ")  # the time at which the entry expires in milliseconds since 1970, or 0, and its number
_NUMBER: Final = struct.Struct(">Q")

_IN_USE: Final = 1 << 63
"""The bit in the number of an entry that is set if the entry is a counter that was used since it had become the newest entry."""

_NO_LIMIT: Final = bytes(8)
"""The beginning of the header of an entry that does not expire."""


class Damaged(Exception):
    """The content of the file is not what this module writes."""


# Errors that a file causes if it is damaged or not of LMDB. All other errors leave the file as it is. The size of a file never changes, so
# it is damaged if its content does not fit.
_DAMAGED: Final = (
    lmdb.BadTxnError,
    lmdb.CorruptedError,
    lmdb.CursorFullError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.MapResizedError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.ProblemError,
    lmdb.VersionMismatchError,
    struct.error,
    Damaged,
)


class Fragmented(lmdb.MapFullError):
    """There are no adjacent free pages for a large entry."""


class EmbeddedBackend(Backend):
    """
    Entries in a file of LMDB.

    A file that is damaged or was removed is replaced by an empty one, which is logged. The other workers notice that within a second.

    Args:
        path: the file, in a directory that no other user can write to. A file with `-lock` appended to the name is beside it.
        size_bytes: the size of the file, if it does not exist yet. It is rounded up to 1 MiB. Entries may use half of it.
        clock: returns the seconds since 1970.
        counters: count what is evicted, and how often the file was replaced.
        setting: the setting that has the size, for messages.
        check: called before the file is opened, also if that happens again. It raises StoreError if the file must not be used.
    Raises: StoreError: the file can't be opened.
    """

    def __init__(
        self,
        path: Path,
        size_bytes: int,
        clock: Callable[[], float] = time.time,
        counters: Counters = counters,
        setting: str = "state.size",
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._counters = counters
        self._size_bytes = -(-size_bytes // SIZE_STEP_BYTES) * SIZE_STEP_BYTES
        self._clock = clock
        self._setting = setting
        self._check = check
        self._look_s = 0.0
        self._opening = threading.RLock()
        self._retired: list[lmdb.Environment] = []  # of replaced files, which other threads may still use
        self._kept: bytes | None = None  # the place that eviction has to keep, if further transactions have to evict
        with self._reporting():
            self._open()

    def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        if time.monotonic() < self._look_s:
            try:
                with self._environment.begin() as txn:
                    return self._get(txn, keys)
            except (lmdb.Error, struct.error):
                pass
        return self._attempt(self._get, keys, write=False)

    def put(self, key: bytes, payload: bytes, ttl_ms: int | None, *, if_absent: bool = False) -> bool:
        return self._attempt(self._put, key, payload, ttl_ms, if_absent)

    def cas(self, key: bytes, expected: bytes | None, payload: bytes | None, ttl_ms: int | None) -> bool:
        return self._attempt(self._cas, key, expected, payload, ttl_ms)

    def incr(self, key: bytes, by: int, ttl_ms: int | None) -> int:
        return self._attempt(self._incr, key, by, ttl_ms)

    def throttle(self, key: bytes, interval_us: int, tolerance_us: int) -> tuple[bool, int]:
        return self._attempt(self._throttle, key, interval_us, tolerance_us)

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
        payloads: list[bytes | None] = []
        for key in keys:
            found = self._find(txn, _stored_key(key))
            payloads.append(None if found is None else found[_HEADER.size :])
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
        expiry_ms, number = _HEADER.unpack_from(found)
        txn.put(key, _HEADER.pack(expiry_ms, number | _IN_USE) + encode_int(total))
        return total

    def _throttle(self, txn: lmdb.Transaction, key: bytes, interval_us: int, tolerance_us: int) -> tuple[bool, int]:
        key = _stored_key(key)
        found, now_us = self._find(txn, key), int(self._clock() * 1e6)
        empty_us = 0 if found is None else decode_int(found[_HEADER.size :])
        is_allowed, wait_us, until_us = admit(empty_us, now_us, interval_us, tolerance_us)
        if until_us != empty_us:
            self._write(txn, key, encode_int(until_us), (until_us - now_us) // 1000 + 1)
        return is_allowed, wait_us

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
        found: bytes | None = txn.get(key)  # type: ignore[assignment]  # the transaction has no buffers
        if found is None or found.startswith(_NO_LIMIT) or _HEADER.unpack_from(found)[0] > self._now_ms():
            return found
        return None

    def _write(self, txn: lmdb.Transaction, key: bytes, payload: bytes, ttl_ms: int | None) -> None:
        """Store an entry as the newest one of its group, and make room."""
        place = self._append(txn, key, payload, expiry_ms=0 if ttl_ms is None else self._now_ms() + ttl_ms)
        self._remove_expired(txn)
        self._evict(txn, keep=place)

    def _append(self, txn: lmdb.Transaction, key: bytes, payload: bytes, expiry_ms: int) -> bytes:
        """Store an entry as the newest one of its group, and return its place in the order."""
        group = _group_of(key)
        freed_bytes = self._take_out(txn, key, group)
        number = self._next_number(txn, group)
        stored, place = _HEADER.pack(expiry_ms, number) + payload, group + _NUMBER.pack(number)
        try:
            txn.put(key, stored)
        except lmdb.MapFullError as error:
            raise Fragmented(str(error)) if LARGE_BYTES < len(payload) < self._limit_bytes else error from None
        txn.put(place, key, db=self._order)
        if expiry_ms:
            txn.put(_HEADER.pack(expiry_ms, number) + group, key, db=self._expiry)
        self._resize(txn, group, _size_of(key, stored) - freed_bytes)
        return place

    def _remove(self, txn: lmdb.Transaction, key: bytes) -> int:
        """Remove an entry, if there is one, and return its size."""
        group = _group_of(key)
        if freed_bytes := self._take_out(txn, key, group):
            self._resize(txn, group, -freed_bytes)
        return freed_bytes

    def _take_out(self, txn: lmdb.Transaction, key: bytes, group: bytes) -> int:
        """Remove an entry, if there is one, and return its size."""
        found: bytes | None = txn.pop(key)  # type: ignore[assignment]  # the transaction has no buffers
        if found is None:
            return 0
        expiry_ms, number = _HEADER.unpack_from(found)
        number &= ~_IN_USE
        txn.delete(group + _NUMBER.pack(number), db=self._order)
        if expiry_ms:
            txn.delete(_HEADER.pack(expiry_ms, number) + group, db=self._expiry)
        return _size_of(key, found)

    def _resize(self, txn: lmdb.Transaction, group: bytes, by: int) -> None:
        if by == 0:
            return
        found = txn.get(group, db=self._sizes)
        size = by if found is None else by + _NUMBER.unpack(found)[0]
        if size > 0:
            txn.put(group, _NUMBER.pack(size), db=self._sizes)
        else:
            txn.delete(group, db=self._sizes)

    def _next_number(self, txn: lmdb.Transaction, group: bytes) -> int:
        with txn.cursor(self._order) as cursor:
            # The place after all of the group, and the one before that.
            has_last = cursor.prev() if cursor.set_range(group[:-1] + b"\1") else cursor.last()
            place = bytes(cursor.key()) if has_last else b""
        return int(_NUMBER.unpack(place[len(group) :])[0]) + 1 if place.startswith(group) else 1

    def _remove_expired(self, txn: lmdb.Transaction) -> None:
        now_ms = self._now_ms()
        for _ in range(EXPIRED_PER_WRITE):
            with txn.cursor(self._expiry) as cursor:
                if not cursor.first() or _HEADER.unpack_from(cursor.key())[0] > now_ms:
                    return
                key = bytes(cursor.value())
            self._remove(txn, key)

    def _evict(self, txn: lmdb.Transaction, keep: bytes) -> None:
        """Make room for the entry at the place `keep`, which stays, while the entries use more than half of the file."""
        has_more = self._used(txn) > self._limit_bytes and self._evict_down_to(txn, self._limit_bytes, keep)
        self._kept = keep if has_more else None

    def _evict_down_to(self, txn: lmdb.Transaction, limit_bytes: int, keep: bytes = b"") -> bool:
        """Remove the oldest entries of the largest group until all others use `limit_bytes`. Return True if there is more to remove."""
        left, chances = EVICTED_PER_WRITE, CHANCES_PER_WRITE
        for group in self._largest_first(txn):
            to_free = 0  # bytes, before the file has to be asked again, which takes longer than to evict an entry
            while to_free > 0 or (over := self._used(txn) - limit_bytes) > 0:
                if left == 0:
                    return True
                left -= 1
                to_free = to_free if to_free > 0 else over // 2
                with txn.cursor(self._order) as cursor:
                    place = bytes(cursor.key()) if cursor.set_range(group) else b""
                    if not place.startswith(group) or place == keep:
                        break
                    key = bytes(cursor.value())
                found = self._find(txn, key)
                expiry_ms, number = (0, 0) if found is None else _HEADER.unpack_from(found)
                if found is not None and number & _IN_USE and chances:
                    chances -= 1
                    self._append(txn, key, found[_HEADER.size :], expiry_ms)
                else:
                    to_free -= self._remove(txn, key)
                    self._counters.evictions += found is not None
            else:
                return False
        return False

    def _largest_first(self, txn: lmdb.Transaction) -> list[bytes]:
        """Return the groups, from the largest to the smallest."""
        with txn.cursor(self._sizes) as cursor:
            sizes = [(size, group) for group, size in cursor]
        return [bytes(group) for _, group in sorted(sizes, reverse=True)]

    def _used(self, txn: lmdb.Transaction) -> int:
        pages = 0
        for database in (self._entries, self._order, self._expiry, self._sizes):
            stat = txn.stat(database)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages * stat["psize"])

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    # Transactions.

    def _attempt(self, work: Callable[..., T], *args: Any, write: bool = True) -> T:
        """Same as `_attempt_one`, but if the transaction could not evict enough, further ones do."""
        result = self._attempt_one(work, *args, write=write)
        while (place := self._kept) is not None:
            self._kept = None
            self._attempt_one(self._evict, place)
        return result

    def _attempt_one(self, work: Callable[..., T], *args: Any, write: bool = True) -> T:
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
        if isinstance(error, _DAMAGED):
            self._replace(error, self._environment)
        elif isinstance(error, lmdb.MapFullError):
            # Pages are held by a reader that is interrupted, or was killed.
            self._environment.reader_check()
            if not isinstance(error, Fragmented) or not self._evict_for_large():
                time.sleep(PAUSE_S)
        elif isinstance(error, lmdb.ReadersFullError):
            if self._environment.reader_check() == 0:
                raise error
        else:
            raise error

    def _evict_for_large(self) -> bool:
        """Evict some of the oldest entries, so that adjacent pages become free. Return False if that is not possible, or would not help."""
        try:
            with self._environment.begin(write=True) as txn:
                used = self._used(txn)
                if used <= self._limit_bytes // 4:
                    return False
                self._evict_down_to(txn, used - self._limit_bytes // 32)
            # LMDB uses the pages that a transaction has freed when another one has been written after it.
            with self._environment.begin(write=True) as txn:
                txn.put(_NUMBER.pack(0), b"", db=self._sizes)
                txn.delete(_NUMBER.pack(0), db=self._sizes)
        except lmdb.MapFullError:
            return False
        return True

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Raise StoreError instead of other errors."""
        try:
            yield
        except lmdb.MapFullError as error:
            reason = f"a process holds on to its old pages, or {self._setting} is too small"
            raise StoreError(f"the store {self._path} is full: {reason}") from error
        except (lmdb.Error, struct.error, OSError, Damaged) as error:
            # OSError is here because opening a file again may fail, for example if no memory is left for it.
            raise StoreError(f"the store {self._path} can't be used: {error}") from error

    # The file.

    def _look(self, now_s: float) -> None:
        """If the files were replaced or removed, open new ones. Until that succeeds, no operation uses the old ones."""
        if self._inodes() != self._opened_inodes:
            with self._reporting(), self._opening:
                if self._inodes() != self._opened_inodes:
                    retired = self._environment
                    self._open()
                    self._retired.append(retired)
                    logger.warning("the store %s was replaced or removed, so this worker has opened it again", self._path)
        self._look_s = now_s + LOOK_S

    def _inodes(self) -> tuple[int, int] | None:
        """Return what identifies the two files, None if one of them is missing."""
        try:
            return os.stat(self._path).st_ino, os.stat(self._lock_path).st_ino
        except FileNotFoundError:
            return None

    def _open(self) -> None:
        """Open the file. Create it if it is missing, and replace it if it is damaged."""
        self._check()
        with self._directory_locked():
            has_data = self._path.exists() and self._path.stat().st_size > 0
            if has_data != self._lock_path.exists():
                # Others may use the one file with a removed or truncated other one.
                self._set_aside("its lock file was removed" if has_data else "it is empty")
            try:
                self._open_file()
            except _DAMAGED as error:
                self._set_aside(error)
                self._open_file()
            except StoreError:  # the memory is full
                if not has_data:  # otherwise the files would look as if others had stored something
                    self._remove_files()
                raise

    def _replace(self, error: Exception, damaged: lmdb.Environment) -> None:
        with self._opening:
            if self._environment is not damaged:
                return  # another thread has replaced it
            with self._directory_locked():
                if self._inodes() == self._opened_inodes:
                    self._set_aside(error)
                self._open_file()
            self._retired.append(damaged)

    def _set_aside(self, reason: object) -> None:
        logger.error("the store %s is damaged (%s), so it is replaced by an empty one. What plugins had stored is lost", self._path, reason)
        self._counters.replacements += 1
        self._remove_files()

    def _remove_files(self) -> None:
        for path in (self._lock_path, self._path):
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
        self._allocate(self._lock_path, LOCK_FILE_BYTES)
        found_bytes = self._path.stat().st_size if self._path.exists() else 0
        if found_bytes % SIZE_STEP_BYTES:
            raise Damaged(f"it has {found_bytes} bytes, so it was truncated")
        size_bytes = found_bytes or self._size_bytes
        environment = self._environment_of(size_bytes)
        try:
            if (environment.info()["last_pgno"] + 1) * environment.stat()["psize"] > size_bytes:
                raise Damaged("it was truncated")
            self._allocate(self._path, size_bytes)
            environment.reader_check()
            order, expiry, sizes, entries = (environment.open_db(name) for name in (b"order", b"expiry", b"sizes", None))
            with environment.begin() as txn:
                if txn.stat(order)["entries"] and not txn.stat(sizes)["entries"]:
                    raise Damaged("it is of an earlier version")
            inodes = self._inodes()
        except BaseException:
            environment.close()
            raise
        self._environment, self._order, self._expiry, self._sizes, self._entries = environment, order, expiry, sizes, entries
        self._limit_bytes = size_bytes // 2
        self._opened_inodes = inodes
        self._look_s = time.monotonic() + LOOK_S

    def _allocate(self, path: Path, size_bytes: int) -> None:
        try:
            _allocate(path, size_bytes)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            found = os.statvfs(path.parent)
            size, free = self._size_bytes / SIZE_STEP_BYTES, found.f_bavail * found.f_frsize / SIZE_STEP_BYTES
            raise StoreError(
                f"the store {self._path} can't be used: {error.strerror}. All of {self._setting} is allocated at once, {size:g} MiB, and "
                f"{free:.1f} MiB are free. Give its directory more memory (a container: --shm-size), set state.directory to another one in "
                f"memory, or reduce {self._setting}"
            ) from error

    def _environment_of(self, size_bytes: int) -> lmdb.Environment:
        try:
            return lmdb.open(
                str(self._path),
                map_size=size_bytes,
                subdir=False,
                mode=0o600,
                sync=False,
                metasync=False,
                writemap=True,
                meminit=False,
                max_dbs=3,
                max_readers=MAX_READERS,
            )
        except (lmdb.MemoryError, lmdb.InvalidParameterError) as error:
            # If the file can be mapped, its header must have caused this, with a size that is too large.
            with open(self._path, "rb") as file, mmap.mmap(file.fileno(), size_bytes, access=mmap.ACCESS_READ):
                raise Damaged(str(error)) from error
        except lmdb.Error as error:
            if "data format" in str(error):  # it has no class of its own
                raise Damaged(str(error)) from error
            raise


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


def _group_of(key: bytes) -> bytes:
    """Return the group of a key, with the zero byte at its end."""
    name, zero, _ = key.partition(b"\0")
    return name + zero if zero else b"\0"


def _size_of(key: bytes, stored: bytes) -> int:
    """Return about how many bytes an entry takes. All whole numbers have the same size, so `incr` does not change it."""
    size = max(len(stored), _HEADER.size + len(encode_int(MIN_INT)))
    return ENTRY_BYTES + len(key) + (size if size < PAGE_BYTES // 2 else -(-size // PAGE_BYTES) * PAGE_BYTES)


def _stored_key(key: bytes) -> bytes:
    """Return the key for LMDB, which has a limit for its size. A long key is replaced by its beginning and a digest."""
    if len(key) <= MAX_LMDB_KEY_BYTES:
        return key
    from hashlib import blake2b

    return key[: MAX_LMDB_KEY_BYTES - 33] + b"\0" + blake2b(key, digest_size=32).digest()
