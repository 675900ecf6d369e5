# SPDX-License-Identifier: Apache-2.0
"""What is said of the store of configurations, in each state that it can be in."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from apisix.cli.diagnosis import store
from apisix.cli.diagnosis.store import look_at_store
from apisix.runner.server.conf_store import ConfStore, choose_path
from apisix.runner.settings import Settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with two configurations, beside a socket."""
    path = choose_path(tmp_path / "r.sock")
    with closing(ConfStore(path, expire_s=3600, max_entries=10)) as opened:
        opened.put("route#1#ext-plugin-pre-req#1", [("key-auth", "s3cret")])
        opened.put("route#2#ext-plugin-pre-req#1", [("key-auth", "s3cret")])
    return path


def said(path: Path, **settings: object) -> list[str]:
    """Return the findings as they are printed."""
    socket_file = str(path.parent).removesuffix(".conf")
    return [str(finding) for finding in look_at_store(Settings(socket_file=socket_file, **settings))]  # type: ignore[arg-type]


def test_a_store_in_order(path: Path) -> None:
    """Place, modes and the number of entries are told, and nothing of what they hold."""
    place, count = said(path)

    assert f"ok       store    {path}: 16 KiB, user " in place
    assert "ok       store    2 configurations are known" == count


def test_no_store_yet(tmp_path: Path) -> None:
    """Before the first start there is none, which is as it should be."""
    assert [f"ok       store    there is no {tmp_path}/r.sock.conf/tokens.sqlite yet: the runner makes it when it starts"] == said(
        tmp_path / "r.sock.conf" / "tokens.sqlite"
    )


def test_a_full_store(path: Path) -> None:
    """As many entries as the settings allow is a reason for a warning."""
    assert (
        "warning  store    2 configurations are known, as many as may be. Raise conf_store.max_entries"
        == said(path, conf_store_max_entries=2)[-1]
    )


def test_modes_that_let_others_in(path: Path) -> None:
    """The file and its directory have to be the runner's alone."""
    path.chmod(0o644)
    path.parent.chmod(0o755)

    assert ["warning", "warning", "ok", "ok"] == [line.split()[0] for line in said(path)]


@pytest.mark.parametrize(("content", "level"), [(b"", "warning"), (b"garbage " * 1000, "warning")])
def test_a_damaged_store(path: Path, content: bytes, level: str) -> None:
    """Garbage is a warning: the runner begins a fresh one by itself."""
    path.write_bytes(content)
    *_, last = said(path)

    assert (True, True) == (last.startswith(f"{level}  store    {path} can't be read: "), "nothing has to be done" in last)


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

    assert f"problem  store    {path} is not a regular file" in said(path)[0]


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room is told before tokens are lost."""
    monkeypatch.setattr(store, "LEAST_FREE_BYTES", 1 << 62)

    assert ["problem"] == [line.split()[0] for line in said(path) if "left on its disk" in line]
