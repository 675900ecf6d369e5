# SPDX-License-Identifier: Apache-2.0
"""Find other processes in `/proc`: those that listen on a path, and the workers of a gateway with their users."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_LISTENING: Final = 0x10000
"""`__SO_ACCEPTCON`, the flag of a listening socket in `/proc/net/unix`."""
_TEMPORARY_NAME: Final = re.compile(r"\.[0-9a-f]{1,8}")
"""The temporary names to which runners bind a socket before they rename the file. The system continues to show these names."""
_WORKER: Final = b"nginx: worker process"


def listeners_at(path: str, proc: Path = PROC) -> dict[int, bool]:
    """
    Return the processes that have bound a listening socket to `path`, or to a temporary name in its directory, as runners do.

    Only processes that this user may examine are found. The system does not show the new name of a renamed socket. So a socket with a
    temporary name may belong to a runner for another path in the directory, or to one that was replaced.

    Returns: by pid, True if the socket was bound to exactly that path.
    """
    directory, name = os.path.split(path)
    exactly: dict[str, bool] = {}
    with suppress(OSError), open(proc / "net" / "unix", encoding="utf-8", errors="surrogateescape") as table:
        for line in list(table)[1:]:
            fields = line.split(maxsplit=7)
            if len(fields) == 8 and int(fields[3], 16) & _LISTENING:
                bound_directory, bound_name = os.path.split(fields[7].rstrip("\n"))
                if bound_directory == directory and (bound_name == name or _TEMPORARY_NAME.fullmatch(bound_name)):
                    exactly[f"socket:[{fields[6]}]"] = bound_name == name
    if not exactly:
        return {}
    sockets_of = {pid: exactly.keys() & set(_descriptors(proc, pid)) for pid in _pids(proc)}
    return {pid: any(exactly[name] for name in sockets) for pid, sockets in sockets_of.items() if sockets}


def command_line(pid: int, proc: Path = PROC) -> str:
    """Return the first words of a command line, or "" if it is not visible. Words with `=` are omitted, because they may be secrets."""
    with suppress(OSError):
        words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return " ".join(word for word in words[:4] if word and "=" not in word)
    return ""


def gateway_users(proc: Path = PROC) -> set[int]:
    """Return the users of the nginx workers on this machine, except root."""
    users = set()
    for pid in _pids(proc):
        with suppress(OSError):
            if (proc / str(pid) / "cmdline").read_bytes().startswith(_WORKER):
                users.add((proc / str(pid)).stat().st_uid)
    return users - {0}


def is_alive(pid: int, proc: Path = PROC) -> bool:
    """Return True if there is a process with this pid."""
    return (proc / str(pid)).exists()


def _pids(proc: Path) -> Iterator[int]:
    with suppress(OSError):
        yield from (int(name) for name in os.listdir(proc) if name.isdecimal())


def _descriptors(proc: Path, pid: int) -> Iterator[str]:
    with suppress(OSError):
        for entry in os.scandir(proc / str(pid) / "fd"):
            with suppress(OSError):
                yield os.readlink(entry.path)
