# SPDX-License-Identifier: Apache-2.0
"""
The gateway process that has started this runner, if one has: its pid, whether it is still running, and the user of its workers.

Source: design, 7; gateway contract, 8.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from apisix.runner.errors import SettingsError

_MANAGED_NAME: Final = re.compile(r"apisix-([1-9][0-9]{0,9})\.sock")
_PROC: Final = Path("/proc")
_NGINX_TITLE: Final = b"nginx: "
_INIT: Final = 1
"""The process that becomes the parent of processes whose parent has ended."""
POLL_S: Final = 0.5
"""How often to check for the gateway, in seconds, if the system cannot report that it has ended."""


def gateway_pid(socket_path: str) -> int | None:
    """
    Return the pid of the gateway process with which this runner has to exit, or None if no gateway has started it.

    This is the gateway's master, whose pid is in the socket's name, and which is an ancestor of this process. If the master was killed, its
    other processes continue to run, and one of them starts the runner again. Then it is that process.

    Raises: SettingsError: the socket belongs to a gateway of which no process is left.
    """
    match = _MANAGED_NAME.fullmatch(os.path.basename(socket_path))
    if match is None:
        return None
    master = int(match[1])
    above = list(ancestors())
    if master in above:
        return master
    if is_running(master):  # but not an ancestor: the name was chosen for a stand-alone runner
        return None
    starter = next((pid for pid in above if _title(pid).startswith(_NGINX_TITLE)), above[0] if above else _INIT)
    if starter == _INIT:
        raise SettingsError(
            f"the socket {socket_path} is named after a gateway's process (pid {master}) that has ended. "
            "If you start the runner yourself, choose another name"
        )
    return starter


def is_running(pid: int) -> bool:
    """Return whether a process is running. A process that has ended but that its parent has not waited for is not running."""
    try:
        return (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)  # a system without /proc
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def ancestors() -> Iterator[int]:
    """Yield the pids of the parent, the grandparent and so on. Yield only the parent if the system has no `/proc`."""
    pid = os.getppid()
    seen: set[int] = set()
    while pid > 0 and pid not in seen:
        seen.add(pid)
        yield pid
        pid = _parent_of(pid)


def workers_users(master_pid: int) -> frozenset[int]:
    """
    Return the users that the gateway's processes run as, except root. Return none if the system does not report them.

    A worker that has just been forked is root for a moment. If there is no other user, call this again soon.
    """
    users = set()
    for pid in _children_of(master_pid):
        with suppress(OSError, ValueError, StopIteration):
            status = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
            line = next(line for line in status.splitlines() if line.startswith("Uid:"))
            users.add(int(line.split()[2]))
    return frozenset(users - {0})


class Lifeline:
    """
    Detects that another process has ended, by a descriptor that becomes readable if the system supports that, or else by polling.

    Attributes:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = -1
        opener: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
        if opener is not None:
            with suppress(OSError):
                self._descriptor = opener(pid)

    @property
    def watchable(self) -> bool:
        """Whether `fileno` returns a descriptor. If not, call `alive` every `POLL_S` seconds."""
        return self._descriptor >= 0

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def alive(self) -> bool:
        """Return whether the process is running and still an ancestor. If it is not, its pid may belong to another process now."""
        return is_running(self.pid) and self.pid in ancestors()

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _parent_of(pid: int) -> int:
    try:
        # The name, in parentheses, can contain any character. The parent is the second field after it.
        return int((_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _title(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _children_of(pid: int) -> list[int]:
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text(encoding="ascii").split()]
    except FileNotFoundError:  # a kernel built without that file
        return [int(entry.name) for entry in _entries() if entry.name.isdecimal() and _parent_of(int(entry.name)) == pid]
    except (OSError, ValueError):
        return []


def _entries() -> list[Path]:
    try:
        return list(_PROC.iterdir())
    except OSError:
        return []
