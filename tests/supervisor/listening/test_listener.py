# SPDX-License-Identifier: Apache-2.0
"""The socket file: which runner gets the path, its mode, and how it is removed."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.supervisor.listening.credentials import Access
from apisix.runner.supervisor.listening.listener import MAX_PATH_BYTES, Hold, Listener, is_from_successor, is_open_to_all

OURS = Access(0o600, -1, -1, frozenset({os.geteuid()}))
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A path for a socket, short enough for one."""
    return str(tmp_path / "runner.sock")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can write to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="runner-") as directory:
        os.chmod(directory, 0o777)  # noqa: S103  # what this is for
        yield Path(directory)


def connects(path: str) -> bool:
    """Return whether a process listens at `path`."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def test_it_listens_immediately_and_leaves_no_other_file(path: str) -> None:
    """After `bind`, connections are accepted, and the temporary name is gone."""
    listener = Listener.bind(path, OURS)

    assert connects(path)
    assert os.listdir(os.path.dirname(path)) == ["runner.sock"]
    assert listener.displaced_pid is None
    assert listener.hold() is Hold.OURS
    listener.close()


def test_accepted_connections_do_not_block(path: str) -> None:
    """`accept` never waits, neither for a connection nor on one."""
    listener = Listener.bind(path, OURS)
    assert listener.accept() is None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        connection = listener.accept()
        assert connection is not None
        assert not connection.getblocking()
        connection.close()
    listener.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_mode_is_the_one_requested(path: str, umask: int, mode: int) -> None:
    """Whatever the umask, the file has its mode, and the umask is not changed."""
    before = os.umask(umask)
    try:
        listener = Listener.bind(path, Access(mode, -1, -1, None))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)

    assert stat.S_IMODE(os.lstat(path).st_mode) == mode
    listener.close()


def test_no_process_can_connect_before_mode_and_owner_are_set(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When mode and owner are set, the file is closed to others, no process listens yet, and the final name does not exist."""
    seen: list[tuple[int, bool, bool]] = []
    chmod = os.chmod

    def watch(temporary: str, mode: int) -> None:
        seen.append((stat.S_IMODE(os.lstat(temporary).st_mode), connects(temporary), os.path.lexists(path)))
        chmod(temporary, mode)

    monkeypatch.setattr(os, "chmod", watch)
    Listener.bind(path, Access(0o666, -1, -1, None)).close()

    assert seen == [(0o600, False, False)]


@pytest.mark.parametrize("name", ["s", "rs", "runner.sock", "apisix-12345.sock"])
def test_the_temporary_name_is_no_longer(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of maximum length can be bound, because the temporary name is not longer."""
    renamed: list[str] = []
    rename = os.rename

    def watch(old: str, new: str) -> None:
        renamed.append(old)
        rename(old, new)

    monkeypatch.setattr(os, "rename", watch)
    path = str(tmp_path / name)
    Listener.bind(path, OURS).close()

    assert len(path) >= len(renamed[0])
    assert os.path.dirname(renamed[0]) == os.path.dirname(path)


def test_a_path_of_just_the_allowed_length(tmp_path: Path) -> None:
    """The longest path that the system allows can be used. A longer one is refused, with both lengths."""
    fitting = str(tmp_path) + "/" + "x" * (MAX_PATH_BYTES - len(str(tmp_path)) - 1)
    Listener.bind(fitting, OURS).close()

    with pytest.raises(SettingsError, match=f"{MAX_PATH_BYTES + 1} bytes long, and the system allows {MAX_PATH_BYTES}"):
        Listener.bind(fitting + "x", OURS)


def test_a_stale_file_is_replaced(path: str) -> None:
    """The file of a killed runner does not prevent the next start."""
    Listener.bind(path, OURS).close()
    assert not connects(path)

    listener = Listener.bind(path, OURS)

    assert connects(path)
    assert listener.displaced_pid is None
    listener.close()


def test_a_running_runner_is_displaced(path: str) -> None:
    """The later runner gets the path, the earlier one notices it, and connections to both are accepted all the time."""
    first = Listener.bind(path, OURS)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(path)

    second = Listener.bind(path, OURS)

    assert second.displaced_pid == os.getpid()
    assert (first.hold(), second.hold()) == (Hold.DISPLACED, Hold.OURS)
    accepted = first.accept()
    assert accepted is not None
    assert not first.unlink()
    assert connects(path)
    for sock in (accepted, waiting):
        sock.close()
    first.close()
    second.close()


def test_a_full_backlog_means_that_the_runner_is_running(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that is too busy to accept a connection is running, and is displaced like any other."""
    monkeypatch.setattr("apisix.runner.supervisor.listening.listener.BACKLOG", 0)
    first = Listener.bind(path, OURS)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)

    second = Listener.bind(path, OURS)

    assert second.displaced_pid == 0
    for end in (client, first, second):
        end.close()


def test_only_the_own_file_is_removed(path: str) -> None:
    """At exit the file is removed, unless it belongs to a successor or was removed already."""
    listener = Listener.bind(path, OURS)
    assert listener.unlink()
    assert not os.path.lexists(path)
    assert listener.hold() is Hold.GONE
    assert not listener.unlink()
    listener.close()


def make_directory(path: Path) -> None:
    """Create a directory at the path."""
    path.mkdir()


def make_file(path: Path) -> None:
    """Create a regular file at the path."""
    path.write_text("precious")


def make_link(path: Path) -> None:
    """Create a dangling link at the path."""
    path.symlink_to("elsewhere")


def make_pipe(path: Path) -> None:
    """Create a named pipe at the path."""
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "kind"), [(make_directory, "directory"), (make_file, "regular file"), (make_link, "symbolic link"), (make_pipe, "named pipe")]
)
def test_a_file_that_is_not_a_socket_is_not_replaced(path: str, make: Callable[[Path], None], kind: str) -> None:
    """Another kind of file is refused, and not changed. The message contains its kind."""
    make(Path(path))
    before = os.lstat(path)

    with pytest.raises(SettingsError, match=f"there is a {kind} at this path"):
        Listener.bind(path, OURS)

    assert os.lstat(path).st_ino == before.st_ino
    assert os.listdir(os.path.dirname(path)) == ["runner.sock"]


def test_no_directory(tmp_path: Path) -> None:
    """The message contains the directory that does not exist."""
    with pytest.raises(SettingsError, match=f"there is no directory {tmp_path}/none"):
        Listener.bind(str(tmp_path / "none" / "runner.sock"), OURS)


def test_a_directory_that_is_open_to_all(tmp_path: Path, open_directory: Path) -> None:
    """Only a directory that every user can write to is open to all."""
    assert [is_open_to_all(str(directory)) for directory in (open_directory, tmp_path, tmp_path / "none")] == [True, False, False]


@needs_root
def test_the_runner_of_another_user_is_not_displaced(open_directory: Path) -> None:
    """The message contains the user and the pid of the running process, whose socket continues to work."""
    path = str(open_directory / "runner.sock")
    program = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('listening', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"

        with pytest.raises(SettingsError, match=rf"running process of user nobody \(pid {process.pid}\)"):
            Listener.bind(path, OURS)

        assert connects(path)
        process.kill()


@needs_root
def test_the_owner_is_set(path: str) -> None:
    """If the runner is root, the file gets the owner from the settings."""
    listener = Listener.bind(path, Access(0o600, NOBODY, NOBODY, None))

    status = os.lstat(path)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o600)
    listener.close()


@needs_root
def test_access_granted_later(path: str) -> None:
    """The owner of an existing socket file can be changed, but not if it belongs to a successor."""
    first = Listener.bind(path, OURS)
    first.grant(Access(0o600, NOBODY, -1, None))
    assert os.lstat(path).st_uid == NOBODY

    second = Listener.bind(path, OURS)
    first.grant(Access(0o666, NOBODY, -1, None))

    assert (os.lstat(path).st_uid, stat.S_IMODE(os.lstat(path).st_mode)) == (0, 0o600)
    first.close()
    second.close()


def test_a_directory_without_write_permission(tmp_path: Path) -> None:
    """The message contains the path and the error of the system."""
    tmp_path.chmod(0o555)
    try:
        path = "/proc/self/runner.sock" if os.geteuid() == 0 else str(tmp_path / "runner.sock")  # root may write anywhere else
        with pytest.raises(SettingsError, match=f"the socket {path} can't be created: "):
            Listener.bind(path, OURS)
    finally:
        tmp_path.chmod(0o755)


def test_a_connection_that_is_closed_is_not_from_a_successor() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()

    assert is_from_successor(ours) is False


def test_a_temporary_name_that_is_taken_is_not_used(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name is chosen, and the file with that name is not changed."""
    chances = iter([b"\x01" * 4, b"\x02" * 4])
    monkeypatch.setattr(os, "urandom", lambda size: next(chances)[:size])
    taken = Path(path).with_name(".01010101")
    taken.write_text("not ours")

    listener = Listener.bind(path, OURS)

    assert connects(path)
    assert taken.read_text() == "not ours"
    listener.close()


def test_if_all_temporary_names_are_taken_the_runner_does_not_start(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda size: b"\x01" * size)
    Path(path).with_name(".01010101").write_text("not ours")

    with pytest.raises((OSError, SettingsError), match="no free temporary name"):
        Listener.bind(path, OURS)


def test_a_free_lock_is_taken_at_the_first_try(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each start would wait as long as for a lock that another runner has."""
    tries: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        tries.append(descriptor)
        if len(tries) > 1:
            raise AssertionError("the lock was taken already")

    monkeypatch.setattr(fcntl, "flock", flock)
    listener = Listener.bind(path, OURS)
    listener.close()

    assert len(tries) == 1
