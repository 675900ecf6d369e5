# SPDX-License-Identifier: Apache-2.0
"""Read a sample of `/proc`, and the real one."""

import os
import socket
from pathlib import Path

import pytest

from apisix.cli.diagnosis import processes

TABLE = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/r.sock
0000000000000000: 00000002 00000000 00010000 0001 01 101 /run/.0a1b2c3d
0000000000000000: 00000002 00000000 00010000 0001 01 102 /run/other.sock
0000000000000000: 00000002 00000000 00010000 0001 01 103 /elsewhere/r.sock
0000000000000000: 00000003 00000000 00000000 0001 03 104 /run/r.sock
0000000000000000: 00000003 00000000 00000000 0001 03 105
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A system in which the process with pid n has the socket with the inode 99 + n."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "unix").write_text(TABLE)
    for pid in range(1, 7):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "7").symlink_to(f"socket:[{99 + pid}]")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"python\0-m\0apisix\0start\0--socket\0/run/r.sock\0")
    (tmp_path / "uptime").write_text("1 1")
    return tmp_path


def test_listeners(proc: Path) -> None:
    """Listeners on the path and on a temporary name are found. Other paths and connections are not."""
    assert processes.listeners_at("/run/r.sock", proc) == {1: True, 2: False}
    assert processes.listeners_at("/elsewhere/r.sock", proc) == {4: True}
    assert processes.listeners_at("/nowhere/r.sock", proc) == {}


def test_listener_in_this_process(tmp_path: Path) -> None:
    """This process is found on the real system."""
    path = str(tmp_path / "r.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert processes.listeners_at(path) == {os.getpid(): True}
    assert processes.listeners_at(path) == {}


def test_command_lines(proc: Path) -> None:
    """The first words are returned, without those that may be secrets."""
    (proc / "2" / "cmdline").write_bytes(b"runner\0TOKEN=abc\0start\0")

    assert processes.command_line(1, proc) == "python -m apisix start"
    assert processes.command_line(2, proc) == "runner start"
    assert processes.command_line(77, proc) == ""


def test_users_of_the_gateway(proc: Path) -> None:
    """Only the users of nginx workers are returned."""
    (proc / "3" / "cmdline").write_bytes(b"nginx: worker process\0")
    os.chown(proc / "3", 65534, -1) if os.geteuid() == 0 else None

    assert processes.gateway_users(proc) == ({65534} if os.geteuid() == 0 else {os.geteuid()})


def test_a_system_without_proc(tmp_path: Path) -> None:
    """Without `/proc`, nothing is found, and no exception is raised."""
    assert (
        processes.listeners_at("/r.sock", tmp_path),
        processes.command_line(1, tmp_path),
        processes.gateway_users(tmp_path),
        processes.is_alive(1, tmp_path),
    ) == ({}, "", set(), False)
