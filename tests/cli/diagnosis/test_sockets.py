# SPDX-License-Identifier: Apache-2.0
"""What `doctor` reports about the socket, from its path to the process that listens."""

import os
import pwd
import socket
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from apisix.cli.diagnosis import sockets
from apisix.cli.diagnosis.sockets import examine_socket
from apisix.runner.settings.table import Settings

NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a short time limit, because no listener in these tests replies."""
    monkeypatch.setattr(sockets, "TIMEOUT_S", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A listener that does not reply, in its own directory."""
    tmp_path.chmod(0o755)
    path = tmp_path / "r.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        yield path


def shown(path: Path, users: Collection[int] = (), named_users: Collection[str] = (), **settings: object) -> list[str]:
    """Return the results as they are printed."""
    return [str(result) for result in examine_socket(Settings(socket_file=str(path), **settings), users, named_users)]  # type: ignore[arg-type]


def levels(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def test_a_listener(path: Path) -> None:
    """The directory, the modes and the listener are reported, and that the listener does not reply."""
    directory, modes, listener, health = shown(path)

    assert f"ok       socket   the directory {path.parent} has mode 0755" in directory
    assert f"ok       socket   {path} has mode 0600, user " in modes
    assert f" listens: pid {os.getpid()}, " in listener
    assert f"problem  health   {path} accepts connections, but did not reply within 0.01 s" in health


def test_another_listener(path: Path) -> None:
    """A process that still listens although its socket was replaced is reported too."""
    path.unlink()
    began, begin = os.pipe()
    ending, end = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # other tests may have left threads
        pid = os.fork()
    if pid == 0:
        os.close(end)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            os.write(begin, b"x")
            os.read(ending, 1)
        os._exit(0)
    os.read(began, 1)
    lines = shown(path)
    for descriptor in (began, begin, ending, end):
        os.close(descriptor)
    os.waitpid(pid, 0)

    assert f" listens: pid {pid}, " in lines[2]
    assert (
        f"warning  socket   another process listens on this path, but new connections no longer reach it: pid {os.getpid()}, " in lines[3]
    )


def test_no_socket(tmp_path: Path) -> None:
    """Without a socket, its directory is examined."""
    tmp_path.chmod(0o755)
    lines = shown(tmp_path / "r.sock")

    assert levels(lines) == ["ok", "problem"]
    assert "Start the runner" in lines[-1]


def test_file_that_is_not_a_socket(tmp_path: Path) -> None:
    """A file that is not a socket is a problem, and so is a path that is too long for a socket."""
    (tmp_path / "r.sock").touch()

    assert "exists but is not a socket" in shown(tmp_path / "r.sock")[-1]
    assert "the system allows" in shown(tmp_path / ("x" * 120))[0]
    assert levels(shown(tmp_path / "none" / "r.sock"))[0] == "problem"


@pytest.mark.parametrize(
    ("mode", "level", "part"), [(0o777, "warning", "replace the runner's socket"), (0o1777, "warning", "while the runner is not running")]
)
def test_directories_that_others_can_write(path: Path, mode: int, level: str, part: str) -> None:
    """If everybody can create files in a directory, another process can take the place of the runner."""
    path.parent.chmod(mode)

    assert (levels(shown(path))[0], part in shown(path)[0]) == (level, True)


@pytest.fixture
def _open_parents(path: Path) -> Iterator[None]:
    """Allow everybody to access the directory of the socket, which pytest creates for its own user."""
    modes = {directory: directory.stat().st_mode for directory in path.parent.parents}
    for directory, mode in modes.items():
        if not mode & 0o001:
            directory.chmod(mode | 0o001)
    yield
    for directory, mode in modes.items():
        if not mode & 0o001:
            directory.chmod(mode)


@pytest.mark.usefixtures("_open_parents")
def test_users_of_the_gateway(path: Path) -> None:
    """The settings, the directories and the mode must allow the users to connect. Otherwise the obstacle is reported."""
    assert (
        "problem  socket   the gateway's workers run as nobody, but the runner does not allow this user to connect"
        in shown(path, [NOBODY])[2]
    )
    assert (
        "problem  socket   socket.allow_users names nobody, but the mode of the socket does not allow this user to connect"
        in shown(path, allow_users=("nobody",))[2]
    )
    path.chmod(0o666)
    assert (
        "ok       socket   the gateway's workers run as nobody, and this user may connect"
        in shown(path, [NOBODY], allow_users=("nobody",))[2]
    )
    assert "ok       socket   socket.allow_users names 77777, and this user may connect" in shown(path, allow_users=("77777",))[2]
    path.parent.chmod(0o750)
    assert f"but this user can't access {path.parent}. chmod o+x {path.parent}" in shown(path, [NOBODY], allow_users=("nobody",))[2]


@pytest.mark.usefixtures("_open_parents")
def test_users_are_checked_without_a_socket(path: Path) -> None:
    """`--gateway-user` is compared with the settings if the runner does not listen yet."""
    path.unlink()

    refused = shown(path, named_users=["nobody"])
    assert refused[-1].startswith("problem  socket   --gateway-user names nobody, but the runner does not allow this user to connect")
    allowed = shown(path, named_users=["nobody"], allow_users=("nobody",))
    assert (
        allowed[-1] == "ok       socket   --gateway-user names nobody, and the settings allow this user to connect when the runner listens"
    )


def test_unknown_user_in_the_settings(path: Path) -> None:
    """A setting with an unknown user is a problem, as when the runner starts."""
    assert "problem  socket   socket.owner: there is no user 'no-such-user' on this system" in shown(path, socket_owner="no-such-user")[1]


@pytest.mark.parametrize("user", ["nobody", str(NOBODY)])
def test_named_user(path: Path, user: str) -> None:
    """The user of a gateway that is not visible is compared with the mode of the socket. Release 0.2 allowed everybody to connect."""
    line = "problem  socket   --gateway-user names nobody, but the runner does not allow this user to connect. Add nobody to "
    assert [found for found in shown(path, named_users=[user]) if found.startswith(line)]


def test_unknown_named_user(path: Path) -> None:
    """If this system does not have a user of that name, the advice is to use a number."""
    assert any("--gateway-user: there is no user 'nonesuch' on this system" in line for line in shown(path, named_users=["nonesuch"]))
