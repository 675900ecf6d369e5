# SPDX-License-Identifier: Apache-2.0
"""What `doctor` reports about the store of route configurations."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from apisix.cli.diagnosis import store
from apisix.cli.diagnosis.store import MEANWHILE, examine_store
from apisix.runner.conf_store.store import ConfStore, choose_path
from apisix.runner.settings.table import Settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with two route configurations, next to a socket."""
    path = choose_path(tmp_path / "r.sock")
    with closing(ConfStore(path, expire_s=3600, max_entries=10)) as opened:
        opened.put("route#1#ext-plugin-pre-req#1", [("key-auth", "s3cret")])
        opened.put("route#2#ext-plugin-pre-req#1", [("key-auth", "s3cret")])
    return path


def deny_as_to_others(monkeypatch: pytest.MonkeyPatch, denied: Path) -> None:
    """Replace `os.access` so that it denies writing to `denied`, even if root runs the tests."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: not (Path(place) == denied and mode & os.W_OK) and real(place, mode))


def shown(path: Path, **settings: object) -> list[str]:
    """Return the results as they are printed."""
    socket_file = str(path.parent).removesuffix(".conf")
    return [str(result) for result in examine_store(Settings(socket_file=socket_file, **settings))]  # type: ignore[arg-type]


def test_correct_store(path: Path) -> None:
    """The path, the modes and the number of entries are reported, but not the content."""
    place, count = shown(path)

    assert f"ok       store    {path}: 16 KiB, user " in place
    assert count == "ok       store    the store contains 2 route configurations"


def test_no_store_yet(tmp_path: Path) -> None:
    """If there is no store yet, this is correct."""
    assert shown(tmp_path / "r.sock.conf" / "tokens.sqlite") == [
        f"ok       store    {tmp_path}/r.sock.conf/tokens.sqlite does not exist yet; the runner creates it when it starts"
    ]


def test_a_full_store(path: Path) -> None:
    """If the store has as many entries as the settings allow, this is a warning."""
    assert (
        shown(path, conf_store_max_entries=2)[-1]
        == "warning  store    the store contains 2 route configurations, which is the limit. Raise conf_store.max_entries"
    )


def test_modes_that_give_access_to_others(path: Path) -> None:
    """Only the runner's user may have access to the file and its directory."""
    path.chmod(0o644)
    path.parent.chmod(0o755)

    assert [line.split()[0] for line in shown(path)] == ["warning", "warning"]


def test_a_regular_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    """If a regular file has the name of the directory, the runner can't create its store."""
    directory = tmp_path / "r.sock.conf"
    directory.touch()
    (line,) = shown(directory / "tokens.sqlite")

    assert line == f"warning  store    {directory} is not a directory. {MEANWHILE}. Remove it and restart the runner"


def test_a_path_through_a_regular_file(tmp_path: Path) -> None:
    """The same applies if a parent is a regular file, or if the directories of a configured path do not exist."""
    (tmp_path / "file").touch()
    through, missing = tmp_path / "file" / "deeper" / "tokens.sqlite", tmp_path / "none" / "deeper" / "tokens.sqlite"
    lines = [line for path in (through, missing) for line in shown(tmp_path, conf_store_file=str(path))]

    assert [line.partition(". ")[0] for line in lines] == [
        f"warning  store    {through.parent} can't be used: Not a directory",
        f"warning  store    {missing.parent} can't be created, because there is no directory {missing.parent.parent}",
    ]


@pytest.mark.parametrize("has_file", [True, False])
def test_a_directory_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, has_file: bool) -> None:
    """SQLite writes files next to its database, so a directory with the mode 0500 is not used, with or without a store in it."""
    if not has_file:
        path.unlink()
    path.parent.chmod(0o500)
    deny_as_to_others(monkeypatch, path.parent)
    (line,) = shown(path)

    assert (line.startswith(f"warning  store    {path.parent} can't be written (mode 0500, user "), MEANWHILE in line) == (True, True)


def test_a_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner can create its directory only if it may write next to its socket."""
    deny_as_to_others(monkeypatch, tmp_path)
    (line,) = shown(tmp_path / "r.sock.conf" / "tokens.sqlite")

    assert (line.startswith(f"warning  store    {tmp_path} can't be written (mode 0700, user "), MEANWHILE in line) == (True, True)


def test_a_file_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with the mode 0400 is not used either."""
    path.chmod(0o400)
    deny_as_to_others(monkeypatch, path)
    (line,) = shown(path)

    assert (line.startswith(f"warning  store    {path} can't be written (mode 0400, user "), MEANWHILE in line) == (True, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_permissions_of_the_owner(path: Path) -> None:
    """Root may write everywhere, so the permissions of the owner are examined, because the runner runs as that user."""
    for place in (path.parent, path):
        os.chown(place, 65534, 65534)
    path.chmod(0o400)

    assert [line.partition(f"{path} ")[2].partition(",")[0] for line in shown(path)] == ["can't be written (mode 0400"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_directory_of_another_owner(path: Path) -> None:
    """One of the two owners is not the runner's user. So nothing is reported about the content, which the runner does not use."""
    path.write_bytes(b"garbage " * 1000)
    os.chown(path.parent, 65534, 65534)
    (line,) = shown(path)

    assert (line.startswith(f"warning  store    {path.parent} belongs to user "), "aside" in line) == (True, False)


def test_damaged_file_with_wrong_modes(path: Path) -> None:
    """If the runner does not use a file, nothing is reported about its content."""
    path.write_bytes(b"garbage " * 1000)
    path.parent.chmod(0o755)
    (line,) = shown(path)

    assert (
        line.startswith(f"warning  store    {path.parent} has mode 0755, which gives access to others. {MEANWHILE}"),
        "aside" in line,
    ) == (True, False)


def test_configured_directory(tmp_path: Path) -> None:
    """A configured directory may be readable by others, and may be a link. If others can write to it, it should not be removed."""
    directory, link = tmp_path / "directory", tmp_path / "link"
    directory.mkdir()
    directory.chmod(0o755)
    link.symlink_to(directory)
    (in_order,) = shown(tmp_path, conf_store_file=str(link / "tokens.sqlite"))
    directory.chmod(0o777)
    (refused,) = shown(tmp_path, conf_store_file=str(link / "tokens.sqlite"))

    assert (
        in_order.startswith("ok "),
        refused.endswith(". Remove the write permission of others (chmod go-w) and restart the runner"),
    ) == (True, True)


@pytest.mark.parametrize(("content", "level"), [(b"", "warning"), (b"garbage " * 1000, "warning")])
def test_a_damaged_store(path: Path, content: bytes, level: str) -> None:
    """A damaged file is a warning, because the runner creates a new one."""
    path.write_bytes(content)
    *_, last = shown(path)

    assert (last.startswith(f"{level}  store    {path} can't be read: "), "You do not have to do anything" in last) == (True, True)


def test_damage_inside_the_file(path: Path) -> None:
    """Damage that only a check of the whole file finds is a warning too."""
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 3] = bytes(4096)
    path.write_bytes(data)

    assert "damaged" in shown(path)[-1] or "can't be read" in shown(path)[-1]


def test_the_database_of_another_program(path: Path) -> None:
    """The database of another program is a problem."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 7")

    assert f"problem  store    {path} is the database of another program" in shown(path)[-1]


def test_link(path: Path) -> None:
    """A path that is not a regular file is a problem."""
    path.unlink()
    path.symlink_to("/etc/hostname")

    (line,) = shown(path)

    assert f"problem  store    {path} is not a regular file with one link" in line


def test_a_directory_in_the_place_of_the_file(path: Path) -> None:
    """A directory with the name of the file is a problem, and nothing else is reported."""
    path.unlink()
    path.mkdir(mode=0o700)
    (line,) = shown(path)

    assert line == f"problem  store    {path} is not a regular file with one link. {MEANWHILE}. Remove it and restart the runner"


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is reported before tokens are lost."""
    monkeypatch.setattr(store, "LEAST_FREE_BYTES", 1 << 62)

    (line,) = [line for line in shown(path) if "KiB left" in line]

    assert (
        line.startswith("problem"),
        line.endswith("are lost when the runner exits"),
    ) == (True, True)
