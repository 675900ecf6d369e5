# SPDX-License-Identifier: Apache-2.0
"""What `/proc` reports other processes, from one that is written here and from the real one."""

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
    """A system on which pid n holds the socket of inode 99 + n."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "unix").write_text(TABLE)
    for pid in range(1, 7):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "7").symlink_to(f"socket:[{99 + pid}]")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"python\0-m\0apisix\0start\0--socket\0/run/r.sock\0")
    (tmp_path / "uptime").write_text("1 1")
    return tmp_path


def test_who_listens(proc: Path) -> None:
    """Listeners on the path and those that bound aside of it are found; other paths, and connections, are not."""
    assert processes.listeners_at("/run/r.sock", proc) == {1: True, 2: False}
    assert processes.listeners_at("/elsewhere/r.sock", proc) == {4: True}
    assert processes.listeners_at("/nowhere/r.sock", proc) == {}


def test_who_listens_here(tmp_path: Path) -> None:
    """The real system tells the same of this very process."""
    path = str(tmp_path / "r.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert processes.listeners_at(path) == {os.getpid(): True}
    assert processes.listeners_at(path) == {}


def test_command_lines(proc: Path) -> None:
    """The first words are shown, and nothing that may hold a secret."""
    (proc / "2" / "cmdline").write_bytes(b"runner\0TOKEN=abc\0start\0")

    assert processes.command_line(1, proc) == "python -m apisix start"
    assert processes.command_line(2, proc) == "runner start"
    assert processes.command_line(77, proc) == ""


def test_users_of_the_gateway(proc: Path) -> None:
    """Those who run nginx's workers are found, others are not."""
    (proc / "3" / "cmdline").write_bytes(b"nginx: worker process\0")
    os.chown(proc / "3", 65534, -1) if os.geteuid() == 0 else None

    assert processes.gateway_users(proc) == ({65534} if os.geteuid() == 0 else {os.geteuid()})


def test_a_system_without_proc(tmp_path: Path) -> None:
    """Where there is no such file system, nothing is known, and nothing fails."""
    assert (
        processes.listeners_at("/r.sock", tmp_path),
        processes.command_line(1, tmp_path),
        processes.gateway_users(tmp_path),
        processes.is_alive(1, tmp_path),
    ) == ({}, "", set(), False)
