# SPDX-License-Identifier: Apache-2.0
"""What is said of the socket, from its path to what listens there."""

import os
import pwd
import socket
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from apisix.cli.diagnosis import sockets
from apisix.cli.diagnosis.sockets import look_at_socket
from apisix.runner.settings.table import Settings

NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no answer: nobody gives one here."""
    monkeypatch.setattr(sockets, "PATIENCE_S", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A listener that answers nothing, in a directory of its own."""
    tmp_path.chmod(0o755)
    path = tmp_path / "r.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        yield path


def said(path: Path, users: Collection[int] = (), asked: Collection[str] = (), **settings: object) -> list[str]:
    """Return the findings as they are printed."""
    return [str(finding) for finding in look_at_socket(Settings(socket_file=str(path), **settings), users, asked)]  # type: ignore[arg-type]


def levels(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines]


def test_a_listener(path: Path) -> None:
    """Directory, modes and listener are told, and that this one does not answer."""
    directory, modes, listener, health = said(path)

    assert f"ok       socket   the directory {path.parent} has mode 0755" in directory
    assert f"ok       socket   {path} has mode 0600, user " in modes
    assert f" listens: pid {os.getpid()}, " in listener
    assert f"problem  health   {path} accepts connections, but did not reply within 0.01 s" in health


def test_another_listener(path: Path) -> None:
    """One that was displaced, and listens where nobody comes any more, is told too."""
    path.unlink()
    began, begin = os.pipe()
    ending, end = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # that other tests have left threads
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
    lines = said(path)
    for descriptor in (began, begin, ending, end):
        os.close(descriptor)
    os.waitpid(pid, 0)

    assert f" listens: pid {pid}, " in lines[2]
    assert (
        f"warning  socket   another process listens on this path, but new connections no longer reach it: pid {os.getpid()}, " in lines[3]
    )


def test_nothing_there(tmp_path: Path) -> None:
    """Without a socket, the way to it is looked at all the same."""
    tmp_path.chmod(0o755)
    lines = said(tmp_path / "r.sock")

    assert levels(lines) == ["ok", "problem"]
    assert "Start the runner" in lines[-1]


def test_something_else_there(tmp_path: Path) -> None:
    """A file in the place of the socket is a problem, and so is a path that no socket can have."""
    (tmp_path / "r.sock").touch()

    assert "exists but is not a socket" in said(tmp_path / "r.sock")[-1]
    assert "the system allows" in said(tmp_path / ("x" * 120))[0]
    assert levels(said(tmp_path / "none" / "r.sock"))[0] == "problem"


@pytest.mark.parametrize(
    ("mode", "level", "part"), [(0o777, "warning", "replace the runner's socket"), (0o1777, "warning", "while the runner is not running")]
)
def test_directories_that_others_can_write(path: Path, mode: int, level: str, part: str) -> None:
    """Where everybody can make files, somebody else can be the runner."""
    path.parent.chmod(mode)

    assert (levels(said(path))[0], part in said(path)[0]) == (level, True)


@pytest.fixture
def _open_parents(path: Path) -> Iterator[None]:
    """Let everybody come as far as the socket's directory, which pytest makes for its own user."""
    modes = {directory: directory.stat().st_mode for directory in path.parent.parents}
    for directory, mode in modes.items():
        if not mode & 0o001:
            directory.chmod(mode | 0o001)
    yield
    for directory, mode in modes.items():
        if not mode & 0o001:
            directory.chmod(mode)


@pytest.mark.usefixtures("_open_parents")
def test_users_who_have_to_get_in(path: Path) -> None:
    """The settings, the directories and the mode have to let them; what does not is told."""
    assert "problem  socket   the gateway's workers run as nobody, which the runner does not allow to connect" in said(path, [NOBODY])[2]
    assert (
        "problem  socket   socket.allow_users names nobody, but the mode of the socket does not allow that user to connect"
        in said(path, allow_users=("nobody",))[2]
    )
    path.chmod(0o666)
    assert "ok       socket   the gateway's workers run as nobody, which may connect" in said(path, [NOBODY], allow_users=("nobody",))[2]
    assert "ok       socket   socket.allow_users names 77777, which may connect" in said(path, allow_users=("77777",))[2]
    path.parent.chmod(0o750)
    assert f"which can't access {path.parent}. chmod o+x {path.parent}" in said(path, [NOBODY], allow_users=("nobody",))[2]


@pytest.mark.usefixtures("_open_parents")
def test_users_are_checked_without_a_socket(path: Path) -> None:
    """`--gateway-user` is checked against the settings if the runner does not listen yet."""
    path.unlink()

    refused = said(path, asked=["nobody"])
    assert refused[-1].startswith("problem  socket   --gateway-user names nobody, which the runner does not allow to connect")
    allowed = said(path, asked=["nobody"], allow_users=("nobody",))
    assert (
        allowed[-1] == "ok       socket   --gateway-user names nobody, which may connect according to the settings once the runner listens"
    )


def test_a_user_who_does_not_exist(path: Path) -> None:
    """A setting that names nobody is a problem, as it is at the start."""
    assert "problem  socket   socket.owner: there is no user 'no-such-user' on this system" in said(path, socket_owner="no-such-user")[1]


@pytest.mark.parametrize("user", ["nobody", str(NOBODY)])
def test_a_user_that_is_asked_about(path: Path, user: str) -> None:
    """The user of a gateway that is not visible from here is compared with the mode of the socket; release 0.2 let everybody in."""
    line = "problem  socket   --gateway-user names nobody, which the runner does not allow to connect. Add nobody to socket.allow_users, "
    assert [found for found in said(path, asked=[user]) if found.startswith(line)]


def test_a_user_that_does_not_exist(path: Path) -> None:
    """A name that this system does not have is a problem of the question."""
    assert any("--gateway-user: there is no user 'nonesuch' on this system" in line for line in said(path, asked=["nonesuch"]))
