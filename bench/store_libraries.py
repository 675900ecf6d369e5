# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.store_libraries`: compare libraries that could be the embedded store.

Each is measured in a directory in memory, if it is installed: `pip install diskcache rocksdict shared-memory-dict UltraDict atomics`. Then
four processes increment one key, and the sum is checked. At last, a process is killed in the middle of a change, and another one must
increment within a time limit.
"""

import fcntl
import mmap
import multiprocessing
import os
import signal
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from apisix import Store
from apisix.runner.state.embedded import EmbeddedBackend
from bench.machine import in_words, machine

SIZE_BYTES: Final = 32 << 20
SECONDS: Final = 0.5
ROUNDS: Final = 3
PROCESSES: Final = 4
INCREMENTS: Final = 2_000
WITHIN_S: Final = 5.0
"""How long an increment may take after another process was killed."""
VALUE: Final = b"v" * 100
_COUNT: Final = struct.Struct("q")

_fork = multiprocessing.get_context("fork")


class Embedded:
    """The embedded store of the runner."""

    package = "lmdb"

    def __init__(self, directory: Path) -> None:
        self.backend = EmbeddedBackend(directory / "state.mdb", SIZE_BYTES)
        self.store = Store("bench", _backend=lambda: self.backend)
        self.get, self.set, self.incr = self.store.get, self.store.set, self.store.incr

    def begin_change(self) -> None:
        """Have the lock and an incomplete change."""
        self.transaction = self.backend._environment.begin(write=True)
        self.backend._put(self.transaction, b"bench\0count", b"7", None, False)

    def close(self) -> None:
        self.backend.close()


class Sqlite:
    """SQLite with a write-ahead log, without synchronisation to a disk."""

    package = None

    def __init__(self, directory: Path) -> None:
        self._connection = sqlite3.connect(directory / "state.sqlite", timeout=WITHIN_S, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value) WITHOUT ROWID")

    def get(self, key: str) -> Any:
        found = self._connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        return None if found is None else found[0]

    def set(self, key: str, value: object) -> None:
        self._connection.execute("INSERT INTO entries VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value))

    def incr(self, key: str) -> int:
        statement = "INSERT INTO entries VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value"
        return int(self._connection.execute(statement, (key,)).fetchall()[0][0])

    def begin_change(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self.incr("count")

    def close(self) -> None:
        self._connection.close()


class DiskCache:
    """diskcache, which is SQLite with a policy for eviction."""

    package = "diskcache"

    def __init__(self, directory: Path) -> None:
        self._cache = import_module("diskcache").Cache(str(directory), timeout=WITHIN_S, sqlite_synchronous=0, size_limit=SIZE_BYTES)
        self.get, self.set, self.incr, self.close = self._cache.get, self._cache.set, self._cache.incr, self._cache.close

    def begin_change(self) -> None:
        self._transaction = self._cache.transact()
        self._transaction.__enter__()
        self._cache.incr("count")


class RocksDict:
    """RocksDB, which one process at a time can open."""

    package = "rocksdict"

    def __init__(self, directory: Path) -> None:
        self._entries = import_module("rocksdict").Rdict(str(directory / "rocks"))
        self.get, self.close = self._entries.get, self._entries.close

    def set(self, key: str, value: object) -> None:
        self._entries[key] = value

    def incr(self, key: str) -> int:
        count = self._entries[key] = self._entries.get(key, 0) + 1
        return int(count)

    def begin_change(self) -> None:
        self.incr("count")


class SharedMemoryDict:
    """shared-memory-dict: a pickled dict in shared memory, with a lock of multiprocessing around each access."""

    package = "shared-memory-dict"

    def __init__(self, directory: Path) -> None:
        self._entries = import_module("shared_memory_dict").SharedMemoryDict(name=directory.name, size=1 << 20)

    def get(self, key: str) -> Any:
        return self._entries.get(key)

    def set(self, key: str, value: object) -> None:
        self._entries[key] = value

    def incr(self, key: str) -> int:
        count = self._entries[key] = self._entries.get(key, 0) + 1
        return int(count)

    def begin_change(self) -> None:
        import_module("shared_memory_dict.lock")._lock.acquire()

    def close(self) -> None:
        self._entries.shm.close()


class Ultra:
    """UltraDict: a dict in each process, and a stream of changes in shared memory, with a spin lock."""

    package = "UltraDict"

    def __init__(self, directory: Path) -> None:
        self._entries = import_module("UltraDict").UltraDict(name=directory.name, shared_lock=True, buffer_size=1 << 20)

    def get(self, key: str) -> Any:
        return self._entries.get(key)

    def set(self, key: str, value: object) -> None:
        self._entries[key] = value

    def incr(self, key: str) -> int:
        with self._entries.lock:
            count = self._entries[key] = self._entries.get(key, 0) + 1
        return int(count)

    def begin_change(self) -> None:
        self._entries.lock.acquire()

    def close(self) -> None:
        self._entries.close()


class MappedFile:
    """A file in memory with a fixed place for each key, and a lock of the kernel: the least that could work, without eviction."""

    package = None

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, 1 << 16)
        self._map = mmap.mmap(self._file, 1 << 16)
        self._places = {"key": 0, "count": 1024}

    def get(self, key: str) -> bytes | None:
        place = self._places.get(key)
        if place is None:
            return None
        fcntl.lockf(self._file, fcntl.LOCK_SH)
        value = self._map[place : place + len(VALUE)]
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        return value

    def set(self, key: str, value: bytes) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        self._map[self._places[key] : self._places[key] + len(value)] = value
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def incr(self, key: str) -> int:
        place = self._places[key]
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        count = int(_COUNT.unpack_from(self._map, place)[0]) + 1
        _COUNT.pack_into(self._map, place, count)
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        return count

    def begin_change(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        self._map[1024:1028] = b"\xff\xff\xff\xff"  # half of the number

    def close(self) -> None:
        self._map.close()
        os.close(self._file)


CANDIDATES: Final[dict[str, Any]] = {
    "the embedded store (LMDB)": Embedded,
    "sqlite3, WAL": Sqlite,
    "diskcache": DiskCache,
    "rocksdict": RocksDict,
    "shared-memory-dict": SharedMemoryDict,
    "UltraDict": Ultra,
    "mmap and fcntl locks": MappedFile,
}


def main() -> int:
    """Print a table in Markdown."""
    print("| library | get | set | incr | incr/s, 4 processes, one key | lost of 8,000 | if a process is killed in a change |")
    print("|---|---:|---:|---:|---:|---:|---|")
    os.environ["SHARED_MEMORY_USE_LOCK"] = "1"
    with suppress(ImportError):
        import_module("shared_memory_dict.lock")  # before processes are forked, which must share its lock
    for name, kind in CANDIDATES.items():
        version = _version(kind)
        if version is None:
            print(f"not installed: {kind.package}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as directory:  # a private directory
            place = Path(directory)
            cells = [*_alone(kind, _empty(place, "a")), *_together(kind, _empty(place, "b")), _after_a_kill(kind, _empty(place, "c"))]
        print(f"| {name} {version} | {' | '.join(cells)} |", flush=True)
    print(f"\n{in_words(machine())}")
    return 0


def _version(kind: Any) -> str | None:
    if kind.package is None:
        return sqlite3.sqlite_version if kind is Sqlite else ""
    try:
        return metadata.version(kind.package)
    except metadata.PackageNotFoundError:
        return None


def _empty(place: Path, name: str) -> Path:
    directory = place / f"{place.name}-{name}"
    directory.mkdir()
    return directory


def _alone(kind: Any, directory: Path) -> list[str]:
    def measure() -> list[float]:
        opened = kind(directory)
        opened.set("key", VALUE)
        operations: list[Callable[[], object]] = [lambda: opened.get("key"), lambda: opened.set("key", VALUE), lambda: opened.incr("count")]
        return [min(_duration_us(operation) for _ in range(ROUNDS)) for operation in operations]

    found = _in_process(measure, 60.0)
    return [f"{each:.1f} us" for each in found] if isinstance(found, list) else [str(found), "", ""]


def _duration_us(operation: Callable[[], object]) -> float:
    calls, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < SECONDS:
        for _ in range(10):
            operation()
        calls += 10
    return took_s / calls * 1e6


def _together(kind: Any, directory: Path) -> list[str]:
    """Return the rate of increments, and how many were lost."""
    barrier = _fork.Barrier(PROCESSES)

    def count() -> list[float]:
        own = kind(directory)
        barrier.wait(WITHIN_S)
        began_s = time.monotonic()
        for _ in range(INCREMENTS):
            own.incr("count")
        return [began_s, time.monotonic(), own.incr("count") * 1.0]

    found = _in_processes(count, PROCESSES, 60.0)
    counted, errors = [each for each in found if isinstance(each, list)], [each for each in found if isinstance(each, str)]
    if errors:
        return [min(errors, key=lambda error: "BrokenBarrier" in error).replace(str(directory), "..."), ""]
    began_s, ended_s, total = min(each[0] for each in counted), max(each[1] for each in counted), max(each[2] for each in counted)
    done = PROCESSES * (INCREMENTS + 1)
    return [f"{PROCESSES * INCREMENTS / (ended_s - began_s):,.0f}", f"{done - total:,.0f}"]


def _after_a_kill(kind: Any, directory: Path) -> str:
    """Kill a process in the middle of a change, and return what another one finds."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with suppress(Exception):
            opened = kind(directory)
            opened.set("key", VALUE)
            opened.incr("count")
            opened.begin_change()
            os.write(writing, b"x")
        time.sleep(60)
        os._exit(1)
    os.close(writing)
    has_begun = os.read(reading, 1) == b"x"
    os.close(reading)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if not has_begun:
        return "not measured"
    found = _in_process(lambda: [kind(directory).incr("count") * 1.0], WITHIN_S)
    if found == [2.0]:
        return "continues, and the change is discarded"
    return f"continues, and the counter is {found[0]:.0f} instead of 2" if isinstance(found, list) else str(found)


def _in_process(work: Callable[[], list[float]], within_s: float) -> list[float] | str:
    return _in_processes(work, 1, within_s)[0]


def _in_processes(work: Callable[[], list[float]], count: int, within_s: float) -> list[list[float] | str]:
    """Return what `work` returns in several processes, the text of its error, or that it took too long."""
    pipes, processes = [], []
    for _ in range(count):
        receiving, sending = _fork.Pipe(duplex=False)
        process = _fork.Process(target=lambda sending=sending: sending.send(_try(work)), daemon=True)
        process.start()
        pipes.append(receiving)
        processes.append(process)
    end_s = time.monotonic() + within_s
    try:
        return [pipe.recv() if pipe.poll(max(0.0, end_s - time.monotonic())) else f"blocked for {within_s:g} s" for pipe in pipes]
    except EOFError:
        return ["the process has ended"] * count
    finally:
        for process in processes:
            process.kill()
            process.join()


def _try(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"


if __name__ == "__main__":
    sys.exit(main())
