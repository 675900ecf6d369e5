# SPDX-License-Identifier: Apache-2.0
"""Which files of the shared store are refused, and its metrics. tests/state/test_embedded.py damages the file."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from apisix import Store
from apisix.runner.errors import StoreError
from apisix.runner.settings.table import Settings
from apisix.runner.state import backend
from apisix.runner.state.counters import counters
from apisix.runner.worker import shared_store
from apisix.runner.worker.shared_store import opener_for, store_path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a runner with a directory of its own."""
    return Settings(socket_file=str(tmp_path / "runner.sock"), state_directory=str(tmp_path), state_size=1 << 20)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A store of this process, as plugins use it."""
    backend.choose(opener_for(settings))
    yield Store("limits")
    await backend.close_opened()
    backend.choose(None)


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def link_the_lock_file(path: Path) -> None:
    path.with_name("state.mdb-lock").symlink_to(path.with_name("elsewhere"))


def another_link(path: Path) -> None:
    path.touch(mode=0o600)
    path.with_name("other").hardlink_to(path)


def readable_by_others(path: Path) -> None:
    path.touch(mode=0o644)


def writable_directory(path: Path) -> None:
    path.parent.chmod(0o777)


def directory_in_place_of_the_file(path: Path) -> None:
    path.mkdir()


def of_another_user(path: Path) -> None:
    path.touch(mode=0o600)
    os.chown(path, 65534, 65534)


def directory_of_another_user(path: Path) -> None:
    os.chown(path.parent, 65534, 65534)


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (link, "not a regular file"),
        (link_the_lock_file, "symbolic links"),
        (another_link, "not a regular file with one link"),
        (readable_by_others, "mode 0644, which allows other users access"),
        (writable_directory, "mode 0777, which allows other users access"),
        (directory_in_place_of_the_file, "not a regular file"),
        pytest.param(of_another_user, "belongs to user 65534", marks=only_root),
        pytest.param(directory_of_another_user, "belongs to user 65534", marks=only_root),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_file_that_is_not_safe(store: Store, settings: Settings, prepare: Callable[[Path], None], message: str) -> None:
    """A file that another user could read or replace is not used, and not removed. Each operation raises, or returns its fallback."""
    path = store_path(settings)
    path.parent.mkdir(mode=0o700)
    prepare(path)
    before = counters.errors, counters.fallbacks
    for _ in range(2):
        with pytest.raises(StoreError, match=message):
            store.incr("x")
    found = store.incr("x", fallback=0)

    assert (found, (counters.errors, counters.fallbacks)) == (0, (before[0] + 2, before[1] + 1))


@pytest.mark.parametrize("name", ["missing", "file"])
def test_directory_that_can_not_be_used(store: Store, settings: Settings, tmp_path: Path, name: str) -> None:
    """The message names the directory, and the setting. The store is used as soon as the directory can be used."""
    (tmp_path / "file").touch()
    backend.choose(opener_for(msgspec.structs.replace(settings, state_directory=str(tmp_path / name))))
    with pytest.raises(StoreError, match=rf"can't be used: .*{name}.*Set state\.directory to a directory in memory"):
        store.get("x")
    (tmp_path / "file").unlink()
    (tmp_path / name).mkdir()

    assert store.incr("x") == 1


def test_directory_that_is_removed(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory and the file are created again."""
    monkeypatch.setattr("apisix.runner.state.embedded.LOOK_S", 0.0)
    store.incr("x")
    shutil.rmtree(store_path(settings).parent)
    found = store.incr("x")

    assert (found, store_path(settings).stat().st_size) == (1, 1 << 20)


def values() -> dict[str, float]:
    """Return the metrics without the prefix. Labels are part of the name."""
    return {
        "".join([family.name.removeprefix("apisix_runner_store_"), *(f" {value}" for _, value in labels)]): value
        for family in shared_store.families()
        for _, labels, value in family.samples
    }


def test_metrics(store: Store, settings: Settings) -> None:
    """What is stored is reported as soon as the store is used, and what happened is counted."""
    before = values()
    store.set("x", 1)
    store.set("y", 1)
    opened = backend.opened()
    assert opened is not None
    opened.close()
    store_path(settings).write_bytes(b"garbage " * (1 << 17))
    backend._chosen.backend = None
    store.set("z", 1)
    after = values()

    assert (before["entries"], before["bytes"]) == (0, 0)
    assert {name: after[name] - before[name] for name in after if name != "bytes"} == {
        "entries": 1,
        "errors error": 0,
        "errors fallback": 0,
        "evictions": 0,
        "replacements": 1,
    }
    assert 0 < after["bytes"] <= 1 << 19
