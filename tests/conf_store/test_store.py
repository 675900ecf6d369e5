# SPDX-License-Identifier: Apache-2.0
"""The conf store: tokens, expiry and bounds, and everything that can happen to its file."""

import errno
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apisix.runner.conf_store import sqlite_file as conf_store_file
from apisix.runner.conf_store.store import MAX_TOKEN, SWEEP_ROWS, ConfStore
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration

KEY = "route#1#ext-plugin-pre-req#42"
CONF = (("stop", '{"body":"hello"}'), ("rewrite", "{}"))
EXPIRE_S = 3600.0


class Clock:
    """Seconds since 1970, moved by hand."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


Opener = Callable[..., ConfStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.sqlite"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(path: Path, clock: Clock) -> Iterator[Opener]:
    """Open any number of stores on one file, as that many workers would."""
    stores = []

    def open_(max_entries: int = 1000, token_hash: Callable[[bytes], int] | None = None, at: Path = path) -> ConfStore:
        stores.append(ConfStore(at, expire_s=EXPIRE_S, max_entries=max_entries, clock=clock, token_hash=token_hash))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def in_another_process(code: str, path: Path) -> subprocess.Popen[str]:
    """Run `code` with a `store` on `path`; it prints the results for the test."""
    head = (
        "import os, signal, sys; from pathlib import Path; from apisix.runner.conf_store.store import ConfStore\n"
        f"store = ConfStore(Path({str(path)!r}), expire_s=3600, max_entries=100000, clock=lambda: 1_700_000_000.0)\n"
    )
    return subprocess.Popen([sys.executable, "-c", head + code], stdout=subprocess.PIPE, text=True)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# -- tokens


def test_a_token_leads_back_to_its_configuration(open_store: Opener) -> None:
    """A configuration is found by its token, complete and in order."""
    store = open_store()
    token = store.put(KEY, CONF)
    assert store.get(token) == RouteConfiguration(KEY, CONF)


def test_a_token_is_derived_from_the_content(open_store: Opener, path: Path) -> None:
    """The same content has the same token even in another store."""
    assert open_store().put(KEY, CONF) == open_store(at=path.with_name("other")).put(KEY, CONF)


@pytest.mark.parametrize(
    ("key", "conf"),
    [
        (None, CONF),
        ("", CONF),
        ("route#1#ext-plugin-pre-req#43", CONF),
        (KEY, CONF[::-1]),
        (KEY, ()),
        (KEY, (("stop", '{"body":"hello"}rewrite'), ("", "{}"))),
        (KEY, (("\udcff\udc80", "\udcfe"),)),
        (KEY, (("stop", "\0"), ("stop", "\0"), ("stop", "ü€😀"))),
    ],
)
def test_key_and_conf_both_count(open_store: Opener, key: str | None, conf: tuple[tuple[str, str], ...]) -> None:
    """Neither a key nor a conf alone identifies a configuration, and all bytes are preserved."""
    store = open_store()
    first, second = store.put(KEY, CONF), store.put(key, conf)
    assert second != first
    assert store.get(second) == RouteConfiguration(key, conf)


def test_plugins_without_key_get_a_new_token_each(open_store: Opener) -> None:
    """Without a key, equal plugins may belong to two routes, which must not share instances. An empty conf has no instances."""
    store = open_store()
    tokens = [*store.put_many([(None, CONF), (None, CONF)]), store.put(None, CONF)]
    assert [store.get(token) for token in tokens] == [RouteConfiguration(None, CONF) for token in tokens]
    assert len(set(tokens)) == 3
    assert store.put(None, ()) == store.put(None, ())


def test_tokens_have_31_bits_and_are_never_0(open_store: Opener) -> None:
    """0 means no token in the schema, and a number that Lua could read as a negative one is never used."""
    store = open_store()
    assert all(0 < store.put(str(n), ()) <= MAX_TOKEN for n in range(100))


@pytest.mark.parametrize("token", [0, 1, MAX_TOKEN, MAX_TOKEN + 1, 2**32 - 1, 2**63, -1])
def test_an_unknown_token_is_none(open_store: Opener, token: int) -> None:
    """Any number that a frame can contain is looked up without an error."""
    assert open_store().get(token) is None


def test_a_collision_takes_the_next_free_token(open_store: Opener) -> None:
    """Contents with the same hash get different tokens, and each token leads to its own content. After the last token comes 1."""
    store = open_store(token_hash=lambda content: MAX_TOKEN)
    tokens = [store.put(key, CONF) for key in ("a", "b", "c", "a", "b", "c")]
    assert tokens == [MAX_TOKEN, 1, 2] * 2
    assert [found.key for token in tokens[:3] if (found := store.get(token))] == ["a", "b", "c"]


def test_a_batch_gets_the_same_tokens(open_store: Opener, path: Path) -> None:
    """A batch of configurations, of which some are stored, some are new and one occurs twice, gets its tokens in order."""
    store = open_store()
    known = store.put("known", CONF)
    tokens = store.put_many([("a", CONF), ("known", CONF), ("b", ()), ("a", CONF)])
    assert tokens == [store.put("a", CONF), known, store.put("b", ()), store.put("a", CONF)]
    assert store.put_many([]) == []


def test_the_repr_contains_no_secrets(open_store: Opener) -> None:
    """The repr of a configuration, which may be logged, contains its key, but not its values."""
    store = open_store()
    assert "hello" not in repr(store.get(store.put(KEY, CONF)))


# -- time and bounds


@pytest.mark.parametrize(("age", "lives"), [(2.0, True), (2.13, False)])
def test_an_entry_is_kept_for_at_least_twice_the_expiry(open_store: Opener, clock: Clock, age: float, lives: bool) -> None:
    """A token that is never used is valid for as long as the gateway may keep it, and not longer."""
    store = open_store()
    token = store.put(KEY, CONF)
    clock.now += age * EXPIRE_S
    assert (store.get(token) is not None) == lives


def test_a_use_by_any_worker_renews(open_store: Opener, clock: Clock) -> None:
    """An entry is kept for 1.2 times the expiry after its last use, by any worker."""
    one, other = open_store(), open_store()
    token = one.put(KEY, CONF)
    for _ in range(5):
        clock.now += 1.15 * EXPIRE_S
        assert other.get(token) is not None
    clock.now += 1.15 * EXPIRE_S
    assert one.get(token) is not None
    clock.now += 1.33 * EXPIRE_S
    assert one.get(token) is None


def test_a_use_is_written_every_tenth_of_the_lifetime_at_most(open_store: Opener, clock: Clock, path: Path) -> None:
    """A configuration that is read often is not written each time."""
    store = open_store()
    token = store.put(KEY, CONF)
    used_at = set()
    with sqlite3.connect(path) as looking:
        for _ in range(120):
            clock.now += 0.01 * EXPIRE_S
            store.get(token)
            used_at.update(looking.execute("SELECT used_at FROM configuration").fetchone())
    looking.close()
    assert 10 >= len(used_at) > 5


def test_storing_again_renews_without_a_write_each_time(open_store: Opener, clock: Clock, path: Path) -> None:
    """After a PrepareConf, the gateway can use the token for 1.9 times the expiry again, so the entry is renewed."""
    store = open_store()
    token = store.put(KEY, CONF)
    changes = path.read_bytes()
    assert store.put(KEY, CONF) == token
    assert path.read_bytes() == changes
    clock.now += 1.9 * EXPIRE_S
    assert store.put(KEY, CONF) == token
    clock.now += 1.9 * EXPIRE_S
    assert store.get(token) is not None


def test_expired_entries_are_removed(open_store: Opener, clock: Clock, path: Path) -> None:
    """Entries that the gateway can no longer use are removed from the file."""
    store = open_store(max_entries=100)
    for n in range(20):
        store.put(str(n), CONF)
    clock.now += 3 * EXPIRE_S
    store.put(KEY, CONF)
    assert rows(path, "SELECT count(*) FROM configuration") == [(1,)]


def test_many_expired_entries_are_removed_in_batches(open_store: Opener, clock: Clock, path: Path) -> None:
    """One PrepareConf does not remove all of them. The next ones remove the rest, without waiting for the usual sweep."""
    store = open_store(max_entries=1000)  # sweeps at every tenth put
    store.put_many([(str(n), ()) for n in range(2 * SWEEP_ROWS + 1)])
    clock.now += 3 * EXPIRE_S
    expired = []
    for n in range(13):
        store.put(f"later {n}", ())
        expired += rows(path, f"SELECT count(*) FROM configuration WHERE used_at < {clock.now}")  # noqa: S608 -- a number of the test
    full, half, rest = (2 * SWEEP_ROWS + 1,), (SWEEP_ROWS + 1,), (1,)
    assert expired == [full] * 9 + [half, rest, (0,), (0,)]


def test_the_least_recently_used_entry_is_removed(open_store: Opener, clock: Clock) -> None:
    """Over the limit, the least recently used entries are removed, not the oldest ones."""
    store = open_store(max_entries=10)
    tokens = []
    for n in range(10):
        tokens.append(store.put(str(n), CONF))
        clock.now += 1
    clock.now += 0.2 * EXPIRE_S
    store.get(tokens[0])
    store.put("one more", CONF)
    assert [token for token in tokens if store.get(token) is None] == [tokens[1]]


def test_a_removed_token_is_not_used_for_other_content(open_store: Opener, clock: Clock) -> None:
    """The gateway may still use the token of an entry that was removed, and must not run the plugins of another route."""
    store = open_store(max_entries=1, token_hash=lambda content: 7)
    assert store.put("a", CONF) == 7
    clock.now += 1
    assert store.put("b", CONF) == 8
    assert store.get(7) is None
    clock.now += 1
    assert store.put("c", CONF) == 9
    clock.now += 1
    assert store.put("a", CONF) == 7
    assert store.get(7) == RouteConfiguration("a", CONF)


# -- many processes


def test_a_token_of_one_process_is_valid_in_another(open_store: Opener, path: Path) -> None:
    """Two real processes find each other's tokens."""
    store = open_store()
    ours = store.put("ours", CONF)
    code = f"print(store.put('theirs', [('stop', '1')]), store.get({ours}).key, flush=True); sys.stdin.read()"
    with in_another_process(code, path) as process:
        assert process.stdout is not None
        theirs, key = process.stdout.readline().split()
        assert key == "ours"
        assert store.get(int(theirs)) == RouteConfiguration("theirs", (("stop", "1"),))


def test_concurrent_processes_return_the_same_tokens(open_store: Opener, path: Path) -> None:
    """Workers that store the same contents at the same time return the same tokens, even if all hashes collide."""
    code = "store._token_hash = lambda content: 5\nprint([store.put(str(n % 20), []) for n in range(60)])"
    processes = [in_another_process(code, path) for _ in range(3)]
    outputs = {process.communicate(timeout=30)[0] for process in processes}
    assert len({tuple(sorted(set(eval(output)))) for output in outputs}) == 1  # noqa: S307 -- a list of numbers from our own process
    assert [token for (token,) in rows(path, "SELECT token FROM configuration ORDER BY token")] == list(range(5, 25))


def test_kill_9_of_a_writer_loses_no_token(open_store: Opener, path: Path) -> None:
    """If a process is killed while it writes, all tokens that it has returned are valid, and the store can still be written."""
    code = "\nfor n in range(10**6): print(store.put(str(n), [('a', 'b')]), flush=True)"
    with in_another_process(code, path) as process:
        assert process.stdout is not None
        tokens = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
        tokens += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    store = open_store()
    assert [found.key for token in tokens if (found := store.get(token))] == [str(n) for n in range(len(tokens))]
    assert store.get(store.put(KEY, CONF)) is not None


def test_kill_9_inside_a_transaction_rolls_it_back(open_store: Opener, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If a writer is killed in the middle of a transaction, the next reader rolls it back."""
    store = open_store()
    token = store.put(KEY, CONF)
    code = """
db = store._file._db
db.execute("PRAGMA cache_size = 5")  # so that pages are written to the file before the commit
db.execute("BEGIN IMMEDIATE")
for n in range(1, 2000): db.execute("INSERT OR REPLACE INTO configuration VALUES (?, x'00', ?, 1.0, 1.0)", (n, bytes(500)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    with in_another_process(code, path) as process:
        process.wait(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-journal").stat().st_size > 0
    assert store.get(token) == RouteConfiguration(KEY, CONF)
    assert rows(path, "SELECT count(*) FROM configuration") == [(1,)]
    assert warnings(caplog) == []


# -- files


def test_every_file_is_private_from_the_start(open_store: Opener, path: Path) -> None:
    """The database and its journal are private, whatever the umask is."""
    before = os.umask(0)
    try:
        store = open_store()
        modes = {stat.S_IMODE(path.stat().st_mode)}
        for n in range(10):
            store.put(str(n), CONF)
            modes |= {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert {path, path.with_name(path.name + "-journal")} >= set(path.parent.iterdir())


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_to_one_page(path: Path) -> None:
    os.truncate(path, 4096)


def overwrite(path: Path) -> None:
    path.write_bytes(b"garbage " * 5000)


def damage_pages(path: Path) -> None:
    """Keep the first page, and fill the others with random bytes."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def change_the_version(path: Path) -> None:
    run_sql(path, "PRAGMA user_version = 99")


def drop_the_table(path: Path) -> None:
    run_sql(path, "DROP TABLE configuration")


def put_wrong_types(path: Path) -> None:
    run_sql(path, "UPDATE configuration SET given_at = 'yesterday', content = 5")


def mix_contents_up(path: Path) -> None:
    """Give each token the same content, as a damaged page could."""
    run_sql(path, "UPDATE configuration SET content = (SELECT max(content) FROM configuration)")


DAMAGES = [truncate, cut_to_one_page, overwrite, drop_the_table, put_wrong_types, mix_contents_up]
# A store that is open does not detect these, because its pages are cached and it checks the version when it opens the file.
UNSEEN_WHILE_OPEN = [damage_pages, change_the_version]


@pytest.mark.parametrize(
    ("damage", "while_open"),
    [(damage, True) for damage in DAMAGES] + [(damage, False) for damage in DAMAGES + UNSEEN_WHILE_OPEN],
)
def test_a_damaged_file_is_replaced_with_a_warning(
    open_store: Opener, path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], while_open: bool
) -> None:
    """Whatever happened to the file, each token leads to its own configuration or to none, and the store can still be used."""
    store = open_store()
    tokens = {store.put(str(n), CONF): str(n) for n in range(200)}
    if not while_open:
        store.close()
    damage(path)
    if not while_open:
        store = open_store()
    for token, key in tokens.items():
        assert store.get(token) in (None, RouteConfiguration(key, CONF))
    token = store.put(KEY, CONF)
    assert store.get(token) == RouteConfiguration(KEY, CONF)
    assert open_store().get(token) == RouteConfiguration(KEY, CONF)
    assert len(warnings(caplog)) == 1
    assert "a new store is used" in warnings(caplog)[0]
    assert "hello" not in caplog.text
    assert path.with_name(path.name + ".bad").exists()


def test_workers_share_the_new_store(open_store: Opener, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When one worker replaces a damaged file, the others use the new file, and do not replace it again."""
    one, other = open_store(), open_store()
    token = one.put(KEY, CONF)
    overwrite(path)
    assert one.get(token) is None
    new = one.put("new", CONF)
    assert other.get(new) == RouteConfiguration("new", CONF)
    newer = other.put("newer", CONF)
    assert one.get(newer) == RouteConfiguration("newer", CONF)
    assert len(warnings(caplog)) == 1


def test_a_file_that_was_removed_is_created_again(open_store: Opener, path: Path) -> None:
    """If the file was removed, its tokens are lost, but calls work, and the workers still share one file."""
    one, other = open_store(), open_store()
    one.put(KEY, CONF)
    path.unlink()
    token = one.put(KEY, CONF)
    assert other.get(token) == RouteConfiguration(KEY, CONF)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_not_followed(open_store: Opener, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The store does not write to the target of a link. Tokens are kept in memory instead."""
    target = path.with_name("target")
    target.write_bytes(b"")
    path.symlink_to(target)
    store = open_store()
    assert store.get(store.put(KEY, CONF)) is not None
    assert target.read_bytes() == b""
    assert len(warnings(caplog)) == 1


def test_a_full_disk_keeps_calls_working(
    open_store: Opener, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configurations that can't be written are kept in memory, with one warning, and are written as soon as there is space."""
    store, other = open_store(), open_store()
    known = store.put("known", CONF)
    assert store._file._db is not None
    store._file._db.execute("PRAGMA max_page_count = 1")  # SQLite then reports "database or disk is full", as with ENOSPC
    tokens = [store.put(str(n), [("stop", "x" * 3000)]) for n in range(5)]
    assert [found.key for token in tokens if (found := store.get(token))] == ["0", "1", "2", "3", "4"]
    assert getattr(store.get(known), "key", None) == "known"
    assert other.get(tokens[-1]) is None
    assert ["database or disk is full" in text for text in warnings(caplog)] == [True]
    store._file._db.execute("PRAGMA max_page_count = 100000")
    store.put("space", CONF)
    assert [found.key for token in tokens if (found := other.get(token))] == ["0", "1", "2", "3", "4"]
    assert store._unwritten == {}


def test_a_token_in_memory_keeps_its_content(open_store: Opener) -> None:
    """If another worker has written other content under that token meanwhile, this worker still returns its own content."""
    store, other = open_store(token_hash=lambda content: 7), open_store(token_hash=lambda content: 7)
    assert store._file._db is not None
    store._file._db.execute("PRAGMA max_page_count = 1")
    assert store.put("a", [("stop", "x" * 9000)]) == 7
    assert other.put("b", CONF) == 7
    store._file._db.execute("PRAGMA max_page_count = 100000")
    assert store.put("c", CONF) == 8
    assert getattr(store.get(7), "key", None) == "a"
    assert [getattr(other.get(token), "key", None) for token in (7, 8, 9)] == ["b", "c", "a"]


def test_a_token_in_memory_is_not_in_the_file(open_store: Opener) -> None:
    """Content that can't be written gets a token that is not in the file, so a collision does not lead to a wrong chain."""
    store = open_store(token_hash=lambda content: 7)
    assert store.put("a", CONF) == 7
    assert store._file._db is not None
    store._file._db.execute("PRAGMA max_page_count = 1")
    assert store.put("b", [("stop", "x" * 9000)]) == 8
    assert [getattr(store.get(token), "key", None) for token in (7, 8)] == ["a", "b"]


def test_an_unwritable_directory_keeps_calls_working(
    open_store: Opener, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file can't be opened, tokens are kept in memory, with one warning."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(conf_store_file, "create_private", refuse)
    store = open_store()
    tokens = [store.put(str(n), CONF) for n in range(3)]
    assert [found.key for token in tokens if (found := store.get(token))] == ["0", "1", "2"]
    assert store.get(12345) is None
    assert len(warnings(caplog)) == 1


def test_memory_is_limited(open_store: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk remains full, the memory is not filled."""
    store = open_store(max_entries=3)
    assert store._file._db is not None
    store._file._db.execute("PRAGMA max_page_count = 1")
    tokens = [store.put(str(n), [("stop", "x" * 9000)]) for n in range(5)]
    assert [getattr(store.get(token), "key", None) for token in tokens] == [None, None, "2", "3", "4"]


def test_a_locked_file_keeps_calls_working(open_store: Opener, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If a process does not release the lock, one call is delayed, and no call fails."""
    store = open_store()
    known = store.put("known", CONF)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began_s = time.monotonic()
    tokens = [store.put(str(n), CONF) for n in range(20)]
    assert time.monotonic() - began_s < 4 * conf_store_file.LOCK_PATIENCE_S
    assert [found.key for token in tokens if (found := store.get(token))] == [str(n) for n in range(20)]
    assert store.get(known) is not None
    assert ["locked" in text for text in warnings(caplog)] == [True]
    holder.execute("ROLLBACK")
    holder.close()
    store.put(KEY, CONF)
    assert len(rows(path, "SELECT token FROM configuration")) == 22


def test_another_database_is_not_destroyed(open_store: Opener, path: Path) -> None:
    """If the setting is the path of another database, the file is renamed, and its content is kept."""
    run_sql(path, "CREATE TABLE accounts (name TEXT)", "INSERT INTO accounts VALUES ('precious')")
    path.chmod(0o600)
    store = open_store()
    assert store.get(store.put(KEY, CONF)) is not None
    assert rows(path.with_name(path.name + ".bad"), "SELECT name FROM accounts") == [("precious",)]


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(path)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def run_sql(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()
