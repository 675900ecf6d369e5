# SPDX-License-Identifier: Apache-2.0
"""The path of the conf store, which users can access it, and how it is removed."""

import logging
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from apisix.runner.conf_store.store import ConfStore, choose_path, clear_stale


@pytest.fixture
def socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a socket, and a private directory for temporary files."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "runner.sock"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_store_is_beside_the_socket(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Directory and file are private, whatever the umask is, and a second start finds them."""
    before = os.umask(0)
    try:
        path = choose_path(socket_path)
    finally:
        os.umask(before)
    assert path == socket_path.parent / "runner.sock.conf" / "tokens.sqlite"
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    assert choose_path(socket_path) == path
    assert warnings(caplog) == []


def test_a_private_directory_in_a_shared_one(socket_path: Path) -> None:
    """In /tmp or a shared volume, no other user can create a journal beside the store, which SQLite would replay."""
    socket_path.parent.chmod(0o1777)
    assert mode(choose_path(socket_path).parent) == 0o700


def link_the_directory(directory: Path) -> None:
    target = directory.with_name("target")
    target.mkdir(mode=0o700)
    directory.symlink_to(target)


def open_the_directory(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o770)


def put_a_file_there(directory: Path) -> None:
    directory.write_bytes(b"")


def put_a_pipe_into_it(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    os.mkfifo(directory / "tokens.sqlite", 0o600)


def put_a_link_into_it(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "tokens.sqlite").symlink_to(directory / "target")


def put_a_second_name_into_it(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    target = directory.with_name("target")
    target.touch(0o600)
    (directory / "tokens.sqlite").hardlink_to(target)


def put_a_readable_file_into_it(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "tokens.sqlite").touch(0o644)


def give_the_directory_away(directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, 12345)


def give_the_file_away(directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    directory.mkdir(mode=0o700)
    (directory / "tokens.sqlite").touch(0o600)
    os.chown(directory / "tokens.sqlite", 12345, 12345)


TRAPS = [
    link_the_directory,
    open_the_directory,
    put_a_file_there,
    put_a_pipe_into_it,
    put_a_link_into_it,
    put_a_second_name_into_it,
    put_a_readable_file_into_it,
    give_the_directory_away,
    give_the_file_away,
]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_path_that_is_not_private_is_replaced(socket_path: Path, caplog: pytest.LogCaptureFixture, trap: Callable[[Path], None]) -> None:
    """If owner, mode or kind is wrong, there is one warning. All workers, and the next start, use the same private path elsewhere."""
    trap(socket_path.with_name("runner.sock.conf"))
    path = choose_path(socket_path)
    assert path.parent.parent == Path(tempfile.gettempdir())
    assert (mode(path.parent), mode(path)) == (0o700, 0o600)
    assert len(warnings(caplog)) == 1
    assert str(path) in warnings(caplog)[0]
    assert choose_path(socket_path) == path
    assert not socket_path.with_name("target").is_file() or socket_path.with_name("target").read_bytes() == b""
    with_token(path)


def with_token(path: Path) -> None:
    """Check that two workers share the store on `path`."""
    one, other = (ConfStore(path, expire_s=3600, max_entries=10) for _ in range(2))
    try:
        assert other.get(one.put("key", [("stop", "1")])) is not None
    finally:
        one.close()
        other.close()


def test_both_paths_are_checked(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If another user has also created the predictable name elsewhere, a random one is used."""
    put_a_file_there(socket_path.with_name("runner.sock.conf"))
    predictable = choose_path(socket_path).parent
    predictable.chmod(0o777)
    path = choose_path(socket_path)
    assert predictable != path.parent
    assert mode(path.parent) == 0o700


def test_a_missing_directory_is_no_error(socket_path: Path) -> None:
    """If the directory of the socket is missing or can't be written, the store is elsewhere."""
    path = choose_path(socket_path.parent / "missing" / "deeper" / "runner.sock")
    assert path.parent.parent == Path(tempfile.gettempdir())


def test_no_directory_can_be_written(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without any path, the runner starts with a warning, and each worker can use its own tokens."""
    put_a_file_there(socket_path.with_name("runner.sock.conf"))
    tempfile.tempdir = str(socket_path)  # does not exist; monkeypatch restores the real one
    path = choose_path(socket_path)
    assert len(warnings(caplog)) == 1
    store = ConfStore(path, expire_s=3600, max_entries=10)
    assert store.get(store.put("key", [("stop", "1")])) is not None


def test_the_path_of_an_operator_is_used(socket_path: Path, tmp_path: Path) -> None:
    """`conf_store_file` is the path of the file. Other users may read its directory, but not write to it."""
    tmp_path.chmod(0o755)
    assert choose_path(socket_path, tmp_path / "my.sqlite") == tmp_path / "my.sqlite"
    tmp_path.chmod(0o777)
    assert choose_path(socket_path, tmp_path / "my.sqlite").parent.parent == Path(tempfile.gettempdir())


def test_files_of_gateways_that_have_ended_are_removed(socket_path: Path) -> None:
    """Files with the pid of a process that has ended are removed from both directories. All others are kept."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(timeout=30)
    directory = socket_path.parent
    stale = choose_path(directory / f"apisix-{ended.pid}.sock")
    ConfStore(stale, expire_s=3600, max_entries=10).close()
    put_a_file_there(directory / f"apisix-{ended.pid}.sock.lock")
    (directory / f"apisix-{ended.pid}.sock.link").symlink_to(directory)
    elsewhere = Path(tempfile.gettempdir()) / f"apisix-{ended.pid}.sock.conf-0-abc"
    elsewhere.mkdir(mode=0o700)
    stays = [
        choose_path(directory / f"apisix-{os.getpid()}.sock"),
        choose_path(directory / "runner.sock"),
        directory / f"apisix-{ended.pid}.sock",
        directory / "config.yaml",
    ]
    for path in stays:
        path.touch()
    removed = {elsewhere, stale.parent, directory / f"apisix-{ended.pid}.sock.lock", directory / f"apisix-{ended.pid}.sock.link"}
    assert removed == set(clear_stale(directory))
    assert [path for path in removed if path.exists()] == []
    assert [path for path in stays if not path.exists()] == []


def test_files_of_other_users_are_kept(socket_path: Path) -> None:
    """The gateway of another user removes its own files."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    foreign = socket_path.with_name("apisix-999999999.sock.conf")
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    assert clear_stale(socket_path.parent) == []


def test_a_missing_directory_has_no_stale_files(socket_path: Path) -> None:
    """A directory that can't be read does not prevent the start."""
    assert clear_stale(socket_path.parent / "missing") == []


def test_no_directory_for_temporary_files(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a read-only file system may have none. Only the directory of the sockets is searched then."""

    def none_usable() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none_usable)

    assert clear_stale(socket_path.parent) == []
