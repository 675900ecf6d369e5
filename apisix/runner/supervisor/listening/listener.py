# SPDX-License-Identifier: Apache-2.0
"""
The listening socket and its file.

The socket is bound under a temporary name, and its file is then renamed to the path. If two runners use one path, the one that started
later gets it, and the path leads to a running runner at any time. Source: design, 7; gateway contract, 8.
"""

import errno
import fcntl
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from typing import Final

from apisix.runner.errors import SettingsError
from apisix.runner.supervisor.listening.credentials import Access, peer_of, user_name

MAX_PATH_BYTES: Final = 107 if sys.platform.startswith("linux") else 103
"""The size of `sun_path`, without the zero at its end."""
BACKLOG: Final = 4096
"""How many connections may wait to be accepted. The system lowers it to its own limit."""
LOCK_WAIT_S: Final = 1.0
"""How long to wait for another runner that is binding or removing its socket, in seconds. This normally takes only a moment."""


class Hold(Enum):
    """Whether the path still leads to a listener."""

    OURS = "ours"
    DISPLACED = "displaced"
    GONE = "gone"


class Listener:
    """
    A listening socket and the file that leads to it.

    Attributes:
        path: the path of the file.
        sock: the socket, which is non-blocking.
        displaced_pid: the process whose listener was taken over; 0 if it is not known, None if there was none.
        predecessor: an open connection to that process, over which it can hand over its connections, or None. Code that uses it sets the
            attribute to None, and closes the connection.
    """

    def __init__(
        self, path: str, sock: socket.socket, inode: tuple[int, int], displaced_pid: int | None, predecessor: socket.socket | None
    ) -> None:
        self.path = path
        self.sock = sock
        self.displaced_pid = displaced_pid
        self.predecessor = predecessor
        self._inode = inode

    @classmethod
    def bind(cls, path: str, access: Access) -> "Listener":
        """
        Listen on `path`. Replace a stale file, or the socket of a runner of the same user.

        As soon as the file exists, it has its mode and owner, and the socket accepts connections.

        Raises: SettingsError: the path can't be used, for the reason in the message.
        """
        if (size_bytes := len(os.fsencode(path))) > MAX_PATH_BYTES:
            raise SettingsError(f"the socket's path is {size_bytes} bytes long, and the system allows {MAX_PATH_BYTES}: {path}")
        directory = os.path.dirname(path) or "."
        if not os.path.isdir(directory):
            raise SettingsError(f"the socket can't be created: there is no directory {directory}")
        try:
            with _locked(directory):
                displaced_pid, predecessor = _make_way(path)
                try:
                    sock, inode = _bind_in_place(path, access)
                except BaseException:
                    if predecessor is not None:
                        predecessor.close()
                    raise
        except OSError as error:
            raise SettingsError(f"the socket {path} can't be created: {error.strerror or error}") from error
        return cls(path, sock, inode, displaced_pid, predecessor)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.sock.fileno()

    def accept(self) -> socket.socket | None:
        """
        Return the next waiting connection, non-blocking, or None if there is none.

        Raises: OSError: no descriptor is left, for example.
        """
        try:
            connection, _ = self.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        connection.setblocking(False)
        return connection

    def hold(self) -> Hold:
        """Return whether the path still leads to this listener."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return Hold.GONE
        except OSError:
            return Hold.OURS  # not known: with the other answer, the runner would give up its path
        return Hold.OURS if (status.st_dev, status.st_ino) == self._inode else Hold.DISPLACED

    def grant(self, access: Access) -> None:
        """
        Change the mode and owner of the file, unless it belongs to another runner now.

        Raises: OSError: this process may not change them.
        """
        with _locked(os.path.dirname(self.path) or "."):
            if self.hold() is Hold.OURS:
                _apply(self.path, access)

    def unlink(self) -> bool:
        """Remove the file, unless it belongs to another runner now. Return whether it was removed."""
        with suppress(OSError), _locked(os.path.dirname(self.path) or "."):
            if self.hold() is Hold.OURS:
                os.unlink(self.path)
                return True
        return False

    def close(self) -> None:
        """Stop listening. The file is not removed."""
        self.sock.close()
        if self.predecessor is not None:
            self.predecessor.close()


def is_listening(path: str) -> bool:
    """Return whether a process listens at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full backlog, or a mode that keeps this process out
    return True


def is_open_to_all(directory: str) -> bool:
    """Return whether any user of this machine can create files in a directory, and so listen there while no runner does."""
    try:
        return bool(os.stat(directory).st_mode & stat.S_IWOTH)
    except OSError:
        return False


def is_from_successor(connection: socket.socket) -> bool:
    """
    Return whether an accepted connection is the one by which another runner has found this one before taking its path.

    A runner gives that connection a name; a gateway never binds its end.
    """
    try:
        return bool(connection.getpeername()) and peer_of(connection).uid in (0, os.geteuid())
    except OSError:
        return False


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    # Two runners must not check and change the file at the same time, or one that exits could unlink its successor's file. The directory
    # is locked, so no lock file is left behind. A runner that can't get the lock continues without it: a conflict is unlikely.
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        give_up_s = time.monotonic() + LOCK_WAIT_S
        while time.monotonic() < give_up_s:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno != errno.EWOULDBLOCK:
                    break  # a file system without locks
                time.sleep(0.002)
        yield
    finally:
        os.close(descriptor)


def _make_way(path: str) -> tuple[int | None, socket.socket | None]:
    """
    Check the file at `path`.

    Returns: the pid of a running runner to displace, and a connection to it; 0 and None if a process listens but is not known; None and
        None if no process listens.
    Raises: SettingsError: the path can't be taken.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None, None
    if not stat.S_ISSOCK(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "file")
        raise SettingsError(f"the socket {path} can't be created: there is a {kind} at this path. Remove it, or choose another path")
    with ExitStack() as unless_kept:
        probe = unless_kept.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        probe.setblocking(False)
        # The name shows the other runner that this is not a connection of the gateway. It remains visible after the file is removed.
        os.unlink(_bind_free_name(probe, *os.path.split(path)))
        connection: socket.socket | None = probe
        try:
            probe.connect(path)
            peer = peer_of(probe)
            owner, pid = peer.uid, peer.pid
        except (ConnectionRefusedError, FileNotFoundError):
            return None, None  # stale: no process listens any more
        except (BlockingIOError, PermissionError):
            connection = None
            owner, pid = status.st_uid, 0  # a process listens, but its backlog is full or the mode denies access: use the owner of the file
        if owner != os.geteuid():
            raise SettingsError(
                f"the socket {path} belongs to a running process of user {user_name(owner)}{f' (pid {pid})' if pid else ''}, "
                "and is not replaced. Stop that process, or choose another path"
            )
        if connection is not None:
            unless_kept.pop_all()
        return pid, connection


_KINDS: Final = (
    (stat.S_ISDIR, "directory"),
    (stat.S_ISREG, "regular file"),
    (stat.S_ISLNK, "symbolic link"),
    (stat.S_ISFIFO, "named pipe"),
)


def _bind_in_place(path: str, access: Access) -> tuple[socket.socket, tuple[int, int]]:
    """Listen at `path`, and replace the file that is there. Return the socket, and the device and inode of its file."""
    sock, temporary = _bind_aside(path, access)
    try:
        status = os.lstat(temporary)
        os.rename(temporary, path)
    except BaseException:
        sock.close()
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return sock, (status.st_dev, status.st_ino)


def _bind_aside(path: str, access: Access) -> tuple[socket.socket, str]:
    """Listen under a temporary name in the same directory, which is not longer than `path`."""
    directory, name = os.path.split(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        temporary = _bind_free_name(sock, directory, name)
        try:
            _apply(temporary, access)
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except BaseException:
            os.unlink(temporary)
            raise
    except BaseException:
        sock.close()
        raise
    return sock, temporary


def _bind_free_name(sock: socket.socket, directory: str, name: str) -> str:
    # No other user can connect, whatever the umask was. The umask belongs to the process, but there is no other thread.
    umask = os.umask(0o177)
    try:
        for _ in range(100):
            temporary = os.path.join(directory, _free_name(len(os.fsencode(name))))
            try:
                sock.bind(temporary)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return temporary
        raise OSError(errno.EADDRINUSE, "no free temporary name was found")
    finally:
        os.umask(umask)


def _free_name(size: int) -> str:
    return ("." + os.urandom(4).hex())[:size] if size > 4 else os.urandom(2).hex()[:size]


def _apply(path: str, access: Access) -> None:
    # The owner first: the mode must not allow a group before it is the right group.
    if (access.owner, access.group) != (-1, -1):
        os.chown(path, access.owner, access.group, follow_symlinks=False)
    os.chmod(path, access.mode)
