# SPDX-License-Identifier: Apache-2.0
"""The file that all workers have open: eviction, processes that are killed or stopped, and files that are damaged or removed."""

import logging
import os
import random
import shutil
import signal
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb
import pytest

from apisix import Store
from apisix.runner.errors import StoreError
from apisix.runner.state import embedded
from apisix.runner.state.counters import Counters
from apisix.runner.state.embedded import EmbeddedBackend
from tests.soak.increments import count_up

MIB = 1 << 20
SECONDS = 30
"""How long a process of a test may live."""


class Opened:
    """A backend that looks at its files before each operation, and a store that uses it."""

    def __init__(self, path: Path, size_bytes: int = MIB, **options: Any) -> None:
        self.path = path
        self.counters = Counters()
        self.backend = EmbeddedBackend(path, size_bytes, counters=self.counters, **options)
        self.store = Store("limits", _backend=lambda: self.backend)

    def fill(self, count: int, size_bytes: int = 4000) -> None:
        for number in range(count):
            self.store.set(f"filler-{number}", bytes(size_bytes))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the file. Backends look at it before each operation, and do not wait for long."""
    monkeypatch.setattr(embedded, "LOOK_S", 0.0)
    monkeypatch.setattr(embedded, "PATIENCE_S", 0.2)
    return tmp_path / "state.mdb"


@pytest.fixture
def opened(path: Path) -> Iterator[Opened]:
    """An open file of 1 MiB."""
    found = Opened(path)
    yield found
    found.backend.close()


def assert_consistent(opened: Opened) -> None:
    """Assert that each entry is in the order of its group once, in that of expiries if it has a limit, and in the size of its group."""
    entries: dict[bytes, tuple[bytes, int, int]] = {}
    sizes: Counter[bytes] = Counter()
    backend = opened.backend
    with backend._environment.begin() as txn:
        for key, payload in txn.cursor():
            if key not in (b"order", b"expiry", b"sizes"):  # LMDB has the other databases there
                expiry_ms, number = struct.unpack(">QQ", payload[:16])
                group = key[: key.index(b"\0") + 1]
                entries[key] = group, expiry_ms, number % 2**63
                sizes[group] += embedded._size_of(key, payload)
        order = dict(txn.cursor(backend._order))
        expiry = dict(txn.cursor(backend._expiry))
        kept_sizes = {group: int.from_bytes(size, "big") for group, size in txn.cursor(backend._sizes)}
    assert order == {group + struct.pack(">Q", number): key for key, (group, _, number) in entries.items()}
    limited = ((key, *found) for key, found in entries.items() if found[1])
    assert expiry == {struct.pack(">QQ", expiry_ms, number) + group: key for key, group, expiry_ms, number in limited}
    assert kept_sizes == sizes


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """Run `work` in another process, which then waits. Yield its pid when `work` has returned."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(SECONDS)
        try:
            work()
            os.write(writing, b"x")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"x"
        yield pid
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_oldest_entries_are_evicted(opened: Opened) -> None:
    """If entries need more than half of the file, the oldest ones are removed, and counted. The file keeps its size."""
    opened.fill(300)
    found = opened.store.get_many(f"filler-{number}" for number in range(300))

    assert sorted(found) == sorted(f"filler-{number}" for number in range(300 - len(found), 300))
    assert opened.counters.evictions == 300 - len(found) > 100
    assert (opened.path.stat().st_size, opened.path.stat().st_blocks * 512 >= MIB) == (MIB, True)
    usage = opened.backend.usage()
    assert usage is not None
    assert (usage.entries, usage.used_bytes <= MIB // 2) == (len(found), True)


def test_store_that_fills_up_evicts_its_own_entries(opened: Opened) -> None:
    """A plugin that caches much does not remove the counters, values and locks of others, and not its own locks."""
    others = Store("others", _backend=lambda: opened.backend)
    others.incr("count", ttl_s=1000)
    others.set("key", "value")
    locks = [store.lock("job", 1000) for store in (others, opened.store)]
    assert None not in locks
    opened.fill(1000)
    for number in range(20_000):
        opened.store.set(f"small-{number}", number)

    assert (others.get("count"), others.get("key")) == (1, "value")
    assert [store.lock("job", 1000) for store in (others, opened.store)] == [None, None]
    assert opened.counters.evictions > 1000
    assert_consistent(opened)


def test_new_store_makes_room_in_the_largest_one(opened: Opened) -> None:
    """Until both have the same size, entries of the larger one are evicted. Then each evicts its own."""
    opened.fill(300)
    others = Store("others", _backend=lambda: opened.backend)
    for number in range(300):
        others.set(f"filler-{number}", bytes(4000))
    left = [len(store.get_many(f"filler-{number}" for number in range(300))) for store in (opened.store, others)]

    assert abs(left[0] - left[1]) <= 2
    assert left[0] > 50
    assert_consistent(opened)


def test_value_of_a_store_that_has_no_other(opened: Opened) -> None:
    """It stays, and others are evicted, although it is larger than each of them."""
    opened.store.set("large", bytes(300_000))
    for name in ("b", "c"):
        store = Store(name, _backend=lambda: opened.backend)
        for number in range(500):
            store.set(f"{number}", bytes(1000))
    last = Store("c", _backend=lambda: opened.backend).get("499")

    assert last == bytes(1000)
    assert_consistent(opened)


def test_large_value_beside_many_small_stores(opened: Opened) -> None:
    """It stays, although its store is the largest one, and several transactions evict entries of others for it."""
    for number in range(8000):
        Store(f"small-{number % 300}", _backend=lambda: opened.backend).set(str(number), number)
    opened.store.set("large", bytes(200_000))

    assert opened.store.get("large") == bytes(200_000)
    assert_consistent(opened)


def test_large_value_in_a_store_of_small_entries(opened: Opened) -> None:
    """It takes the place of as many entries as it needs, which are more than one transaction evicts."""
    opened.fill(10_000, 10)
    for number in range(100):
        opened.store.set(f"large-{number}", bytes(100_000))
        usage = opened.backend.usage()
        assert usage is not None
        assert usage.used_bytes <= MIB // 2

    assert len(opened.store.get(f"large-{99}") or b"") == 100_000
    assert_consistent(opened)


def test_values_of_different_sizes(opened: Opened) -> None:
    """Free pages must be adjacent for a large value. If they are not, more entries are evicted, and nothing fails or waits."""
    sizes = random.Random(1)  # noqa: S311  # reproducible, and no secret
    for number in range(5000):
        opened.store.set(f"value-{number}", bytes(sizes.randint(1, sizes.choice((200, 60_000)))))

    assert_consistent(opened)


@pytest.mark.parametrize("ttl_s", [None, 1000])
def test_counter_in_use_is_not_evicted(opened: Opened, ttl_s: float | None) -> None:
    """A counter that is incremented stays, with its lifetime, although it is the oldest entry. One that is not used is evicted."""
    opened.store.incr("used", ttl_s=ttl_s)
    opened.store.incr("unused", ttl_s=ttl_s)
    opened.store.incr("unused")
    opened.store.set("entry", "x")
    for number in range(1000):
        opened.store.set(f"filler-{number}", bytes(4000))
        opened.store.incr("used")
    left_s = opened.store.ttl("used")
    found = opened.store.get_many(["used", "unused", "entry"])

    assert (found, left_s == float("inf") if ttl_s is None else 0 < left_s <= ttl_s) == ({"used": 1001}, True)
    opened.store.delete("used")
    assert_consistent(opened)


def test_counter_that_is_no_longer_in_use_is_evicted(opened: Opened) -> None:
    """A counter that was used stays for one more turn of the whole store."""
    opened.store.incr("count")
    opened.store.incr("count")
    opened.fill(125)
    first = opened.store.get("count")
    opened.fill(500)

    assert (first, opened.store.get("count")) == (2, None)
    assert_consistent(opened)


def test_store_full_of_counters_in_use(path: Path) -> None:
    """If all entries are counters in use, the oldest ones are evicted. No write has to look at all of them."""
    opened = Opened(path)
    for number in range(5000):
        key = f"{number:0500}"
        opened.store.incr(key)
        opened.store.incr(key)
    usage = opened.backend.usage()

    assert usage is not None
    assert (usage.used_bytes <= MIB // 2, 100 < usage.entries < 2000) == (True, True)
    assert opened.counters.evictions == 5000 - usage.entries
    assert opened.store.get(f"{4999:0500}") == 2
    assert_consistent(opened)
    opened.backend.close()


def test_counter_that_has_expired_is_not_kept(path: Path) -> None:
    """An expired counter does not count as evicted."""
    now_s = [1_000_000.0]
    opened = Opened(path, clock=lambda: now_s[0])
    opened.fill(50)
    for number in range(20):
        opened.store.incr(f"count-{number}", ttl_s=5)
        opened.store.incr(f"count-{number}")
    now_s[0] += 10
    opened.fill(300)
    left = opened.store.get_many(f"filler-{number}" for number in range(300))

    assert opened.counters.evictions == 300 - len(left) > 100
    assert_consistent(opened)
    opened.backend.close()


def test_expired_entries_are_removed_first(path: Path) -> None:
    """Entries without a limit stay if there are enough expired ones, which do not count as evicted."""
    now_s = [1_000_000.0]
    opened = Opened(path, clock=lambda: now_s[0])
    opened.store.set("kept", 1)
    for number in range(300):
        opened.store.set(f"brief-{number}", bytes(4000), ttl_s=5)
        now_s[0] += 1
    kept = opened.store.get("kept")
    opened.backend.close()

    assert (kept, opened.counters.evictions) == (1, 0)


def test_value_that_does_not_fit(opened: Opened) -> None:
    """A value that is larger than the free pages raises, and the other entries stay usable."""
    opened.store.set("x", 1)
    with pytest.raises(StoreError, match=r"is full: .* state\.size is too small"):
        opened.store.set("y", bytes(MIB - 10))

    assert (opened.store.incr("x"), opened.store.get("y"), opened.counters.replacements) == (2, None, 0)


@pytest.mark.process
def test_process_that_is_killed_while_it_writes(opened: Opened, path: Path) -> None:
    """If a process is killed while it has the lock, the next one continues at once, and the change is discarded."""
    opened.store.set("x", 1)
    opened.backend.close()

    def write() -> None:
        backend = EmbeddedBackend(path, MIB)
        transaction = backend._environment.begin(write=True)
        backend._put(transaction, b"limits\0x", b"7", None, False)

    with forked(write) as pid:
        os.kill(pid, signal.SIGKILL)
        again = Opened(path)
        found = again.store.incr("x")
        again.backend.close()

    assert (found, again.counters.replacements) == (2, 0)


@pytest.mark.process
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_process_that_never_ends_reading(path: Path, is_killed: bool) -> None:
    """Pages that a killed process was reading are used again. Those of a stopped one are not, so writing raises until it is killed."""

    held: list[object] = []

    def read() -> None:
        backend = EmbeddedBackend(path, MIB)
        Store("limits", _backend=lambda: backend).set("x", 1)
        held.append(backend._environment.begin())

    with forked(read) as pid:
        opened = Opened(path)
        if is_killed:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            opened.fill(500)
        else:
            with pytest.raises(StoreError, match="is full: a process holds on to its old pages"):
                opened.fill(500)
            assert opened.store.get("filler-0") == bytes(4000)
    opened.fill(500)
    assert opened.store.get("filler-499") == bytes(4000)
    opened.backend.close()


@pytest.mark.process
def test_no_increment_is_lost() -> None:
    """Four processes count, and one of them is killed every 50 ms. `python -m tests.soak increments` is the long version."""
    counted = count_up(20_000, kill_every_s=0.05)

    assert counted.is_correct, counted
    assert (counted.acknowledged, counted.kills > 0) == (20_000, True)


def truncate(path: Path) -> None:
    os.truncate(path, 100_000)


def truncate_to_a_megabyte(path: Path) -> None:
    os.truncate(path, MIB)


def truncate_the_header(path: Path) -> None:
    os.truncate(path, 100)


def truncate_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(b"garbage " * (2 * MIB // 8))


def overwrite_the_header(path: Path) -> None:
    _patch(path, b"garbage " * 1024, 0)


def write_another_version(path: Path) -> None:
    for page in (0, 4096):
        _patch(path, b"\x0f\x27\0\0", page + 20)  # after the header of the page, and the magic number


def write_a_size_that_is_too_large(path: Path) -> None:
    for page in (0, 4096):
        _patch(path, b"\xff" * 7, page + 136)  # the number of the last page


def remove_the_sizes_of_groups(path: Path) -> None:
    with lmdb.open(str(path), subdir=False, max_dbs=3, map_size=2 * MIB) as environment, environment.begin(write=True) as txn:
        txn.drop(environment.open_db(b"sizes", txn), delete=True)


def remove_the_lock_file(path: Path) -> None:
    Path(f"{path}-lock").unlink()


def _patch(path: Path, data: bytes, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


DAMAGES = [
    truncate,
    truncate_to_a_megabyte,
    truncate_the_header,
    truncate_to_nothing,
    overwrite,
    overwrite_the_header,
    write_another_version,
    write_a_size_that_is_too_large,
    remove_the_sizes_of_groups,
    remove_the_lock_file,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_file_that_was_damaged(path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture) -> None:
    """A worker that starts with a damaged file replaces it by an empty one, logs that, and counts it."""
    before = Opened(path, 2 * MIB)
    before.fill(1000, 1000)
    before.backend.close()
    damage(path)
    opened = Opened(path, 2 * MIB)
    found = opened.store.get("filler-999")
    opened.fill(300)
    opened.backend.close()

    assert (found, opened.counters.replacements, path.stat().st_size) == (None, 1, 2 * MIB)
    assert [(record.levelno, "is replaced by an empty one" in record.message) for record in caplog.records] == [(logging.ERROR, True)]


def test_file_that_is_overwritten_while_it_is_open(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    """The first operation that finds the damage replaces the file, and succeeds."""
    opened.fill(100)
    with opened.path.open("r+b") as file:
        file.write(b"garbage " * (MIB // 8))
    opened.store.set("x", 1)

    assert (opened.store.get("x"), opened.store.get("filler-50"), opened.counters.replacements) == (1, None, 1)
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("names", [("state.mdb",), ("state.mdb-lock",), ("state.mdb", "state.mdb-lock")], ids="+".join)
def test_file_that_is_removed_while_it_is_open(opened: Opened, names: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    """The workers continue with an empty file. They never use a new file with an old lock, or the reverse."""
    opened.store.set("x", 1)
    for name in names:
        opened.path.with_name(name).unlink()
    found = opened.store.get("x"), opened.store.incr("x")
    opened.backend.close()
    again = Opened(opened.path)
    kept = again.store.get("x")
    again.backend.close()

    assert (found, kept) == ((None, 1), 1)
    assert "was replaced or removed" in caplog.text


def test_directory_that_is_removed_while_the_file_is_open(opened: Opened) -> None:
    """Without a directory, each operation raises. Nothing is written to a file that others can't see."""
    shutil.rmtree(opened.path.parent)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"can't be used: .*No such file or directory"):
            opened.store.incr("x")
    opened.path.parent.mkdir()

    assert opened.store.incr("x") == 1


needs_mount = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount a small file system")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with 3 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "state", str(directory)], check=True)  # noqa: S607
    yield directory
    subprocess.run(["umount", str(directory)], check=True)  # noqa: S607


def fill_up(directory: Path) -> Path:
    """Use all pages of a file system, and return the file that does."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(directory).f_bavail == 0
    return ballast


@needs_mount
def test_memory_that_is_full_when_the_file_is_opened(small: Path) -> None:
    """Opening raises, and succeeds as soon as there is memory."""
    ballast = fill_up(small)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"No space left on device\. All of some\.size .* 2 MiB, and 0\.0 MiB are free"):
            Opened(small / "state.mdb", 2 * MIB, setting="some.size")
    ballast.unlink()
    opened = Opened(small / "state.mdb", 2 * MIB)
    opened.fill(1000)
    opened.backend.close()

    assert opened.counters.replacements == 0


@needs_mount
def test_memory_that_is_full_later(small: Path) -> None:
    """The file has all its pages, so it works until it evicts, and longer. No process is killed."""
    opened = Opened(small / "state.mdb", 2 * MIB)
    fill_up(small)
    opened.fill(1000)
    found = opened.store.get("filler-999")
    opened.backend.close()

    assert (found, opened.counters.evictions > 0) == (bytes(4000), True)
