# SPDX-License-Identifier: Apache-2.0
"""What is said of the store of configurations, in each state that it can be in."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from apisix.cli.diagnosis import store
from apisix.cli.diagnosis.store import MEANWHILE, look_at_store
from apisix.runner.conf_store.store import ConfStore, choose_path
from apisix.runner.settings.table import Settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with two configurations, beside a socket."""
    path = choose_path(tmp_path / "r.sock")
    with closing(ConfStore(path, expire_s=3600, max_entries=10)) as opened:
        opened.put("route#1#ext-plugin-pre-req#1", [("key-auth", "s3cret")])
        opened.put("route#2#ext-plugin-pre-req#1", [("key-auth", "s3cret")])
    return path


def deny_as_to_others(monkeypatch: pytest.MonkeyPatch, denied: Path) -> None:
    """Let `os.access` say of writing to `denied` what it says to whoever is not root, as these tests may be run by root."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: not (Path(place) == denied and mode & os.W_OK) and real(place, mode))


def said(path: Path, **settings: object) -> list[str]:
    """Return the findings as they are printed."""
    socket_file = str(path.parent).removesuffix(".conf")
    return [str(finding) for finding in look_at_store(Settings(socket_file=socket_file, **settings))]  # type: ignore[arg-type]


def test_a_store_in_order(path: Path) -> None:
    """Place, modes and the number of entries are told, and nothing of what they hold."""
    place, count = said(path)

    assert f"ok       store    {path}: 16 KiB, user " in place
    assert count == "ok       store    2 configurations are stored"


def test_no_store_yet(tmp_path: Path) -> None:
    """Before the first start there is none, which is as it should be."""
    assert said(tmp_path / "r.sock.conf" / "tokens.sqlite") == [
        f"ok       store    {tmp_path}/r.sock.conf/tokens.sqlite does not exist yet: the runner creates it when it starts"
    ]


def test_a_full_store(path: Path) -> None:
    """As many entries as the settings allow is a reason for a warning."""
    assert (
        said(path, conf_store_max_entries=2)[-1]
        == "warning  store    2 configurations are stored, which is the limit. Raise conf_store.max_entries"
    )


def test_modes_that_let_others_in(path: Path) -> None:
    """The file and its directory have to be the runner's alone."""
    path.chmod(0o644)
    path.parent.chmod(0o755)

    assert [line.split()[0] for line in said(path)] == ["warning", "warning"]


def test_a_regular_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    """No store can be made below a file: the runner does not make it when it starts."""
    directory = tmp_path / "r.sock.conf"
    directory.touch()
    (line,) = said(directory / "tokens.sqlite")

    assert line == f"warning  store    {directory} is not a directory. {MEANWHILE}. Remove it and restart the runner"


def test_a_path_through_a_regular_file(tmp_path: Path) -> None:
    """So it is where the file is further up, or the directories of an operator's path are not there."""
    (tmp_path / "file").touch()
    through, missing = tmp_path / "file" / "deeper" / "tokens.sqlite", tmp_path / "none" / "deeper" / "tokens.sqlite"
    lines = [line for path in (through, missing) for line in said(tmp_path, conf_store_file=str(path))]

    assert [line.partition(". ")[0] for line in lines] == [
        f"warning  store    {through.parent} can't be used: Not a directory",
        f"warning  store    {missing.parent} can't be created: there is no {missing.parent.parent}",
    ]


@pytest.mark.parametrize("has_file", [True, False])
def test_a_directory_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch, has_file: bool) -> None:
    """SQLite writes beside its file, so a directory of mode 0500 is refused, with a store in it and without."""
    if not has_file:
        path.unlink()
    path.parent.chmod(0o500)
    deny_as_to_others(monkeypatch, path.parent)
    (line,) = said(path)

    assert (line.startswith(f"warning  store    {path.parent} can't be written (mode 0500, user "), MEANWHILE in line) == (True, True)


def test_a_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner can make its directory only where it may write beside its socket."""
    deny_as_to_others(monkeypatch, tmp_path)
    (line,) = said(tmp_path / "r.sock.conf" / "tokens.sqlite")

    assert (line.startswith(f"warning  store    {tmp_path} can't be written (mode 0700, user "), MEANWHILE in line) == (True, True)


def test_a_file_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of mode 0400 is refused as well."""
    path.chmod(0o400)
    deny_as_to_others(monkeypatch, path)
    (line,) = said(path)

    assert (line.startswith(f"warning  store    {path} can't be written (mode 0400, user "), MEANWHILE in line) == (True, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_looks_on_behalf_of_the_owner(path: Path) -> None:
    """Root may write everything. What counts is whether the user may who owns the store, as the runner is that user."""
    for place in (path.parent, path):
        os.chown(place, 65534, 65534)
    path.chmod(0o400)

    assert [line.partition(f"{path} ")[2].partition(",")[0] for line in said(path)] == ["can't be written (mode 0400"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_garbage_in_a_directory_of_somebody_else(path: Path) -> None:
    """Whoever the runner is, one of the two is not its own. So it does not come to moving the garbage aside."""
    path.write_bytes(b"garbage " * 1000)
    os.chown(path.parent, 65534, 65534)
    (line,) = said(path)

    assert (line.startswith(f"warning  store    {path.parent} belongs to user "), "aside" in line) == (True, False)


def test_garbage_where_others_are_let_in(path: Path) -> None:
    """What the runner does not use is not said to be in order, nor to be moved aside by it."""
    path.write_bytes(b"garbage " * 1000)
    path.parent.chmod(0o755)
    (line,) = said(path)

    assert (
        line.startswith(f"warning  store    {path.parent} has mode 0755, which gives access to others. {MEANWHILE}"),
        "aside" in line,
    ) == (True, False)


def test_the_directory_of_an_operator(tmp_path: Path) -> None:
    """It may be read by others and lead through a link; it is not to be removed where others can write to it."""
    directory, link = tmp_path / "directory", tmp_path / "link"
    directory.mkdir()
    directory.chmod(0o755)
    link.symlink_to(directory)
    (in_order,) = said(tmp_path, conf_store_file=str(link / "tokens.sqlite"))
    directory.chmod(0o777)
    (refused,) = said(tmp_path, conf_store_file=str(link / "tokens.sqlite"))

    assert (
        in_order.startswith("ok "),
        refused.endswith(". Remove the write permission of others (chmod go-w) and restart the runner"),
    ) == (True, True)


@pytest.mark.parametrize(("content", "level"), [(b"", "warning"), (b"garbage " * 1000, "warning")])
def test_a_damaged_store(path: Path, content: bytes, level: str) -> None:
    """Garbage is a warning: the runner begins a fresh one by itself."""
    path.write_bytes(content)
    *_, last = said(path)

    assert (last.startswith(f"{level}  store    {path} can't be read: "), "nothing has to be done" in last) == (True, True)


def test_damage_within(path: Path) -> None:
    """So is damage that only a check of the whole file finds."""
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 3] = bytes(4096)
    path.write_bytes(data)

    assert "damaged" in said(path)[-1] or "can't be read" in said(path)[-1]


def test_the_database_of_another_program(path: Path) -> None:
    """A file that belongs to somebody else is not taken for ours."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 7")

    assert f"problem  store    {path} is the database of another program" in said(path)[-1]


def test_not_a_file(path: Path) -> None:
    """What is no regular file is a problem."""
    path.unlink()
    path.symlink_to("/etc/hostname")

    (line,) = said(path)

    assert f"problem  store    {path} is not a regular file with one link" in line


def test_a_directory_in_the_place_of_the_file(path: Path) -> None:
    """A directory neither, and nothing of it is in order."""
    path.unlink()
    path.mkdir(mode=0o700)
    (line,) = said(path)

    assert line == f"problem  store    {path} is not a regular file with one link. {MEANWHILE}. Remove it and restart the runner"


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room is told before tokens are lost."""
    monkeypatch.setattr(store, "LEAST_FREE_BYTES", 1 << 62)

    (line,) = [line for line in said(path) if "left on its disk" in line]

    assert (
        line.startswith("problem"),
        line.endswith("are lost when the runner ends"),
    ) == (True, True)
