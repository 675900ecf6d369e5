# SPDX-License-Identifier: Apache-2.0
"""The state of the recording of a runner, in a small file next to its socket, which `apisix-runner record` reads."""

import os
import stat
from contextlib import suppress

import msgspec

MAX_BYTES: int = 65_536
"""How much of the file is read."""


class RecordingState(msgspec.Struct, frozen=True, kw_only=True):
    """
    Whether a runner records calls, and what it has recorded.

    Attributes:
        pid: the runner.
        on: whether calls are recorded.
        file: the file of records.
        written: how many calls were written since recording was switched on. Only known after it was switched off.
        dropped: how many calls could not be recorded.
        error: why recording could not be switched on; None if it could.
        changes: how often the runner has written its state.
    """

    pid: int
    on: bool
    file: str
    written: int = 0
    dropped: int = 0
    error: str | None = None
    changes: int


def state_path(socket_file: str) -> str:
    """Return the path of the file for the runner of a socket."""
    return f"{socket_file}.recording"


def write_state(socket_file: str, state: RecordingState) -> None:
    """Replace the file. Raise OSError if that is not possible."""
    path = state_path(socket_file)
    temporary = f"{path}.{state.pid}"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(state))
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


def read_state(socket_file: str, pid: int, uid: int) -> RecordingState | None:
    """
    Return the state of a runner, or None if there is none, or it is one of another process.

    Args: pid, uid: the runner and its user.
    """
    try:
        descriptor = os.open(state_path(socket_file), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != uid:
            return None
        state = msgspec.json.decode(os.read(descriptor, MAX_BYTES), type=RecordingState)
    except msgspec.DecodeError:
        return None
    finally:
        os.close(descriptor)
    return state if state.pid == pid else None


def remove_state(socket_file: str, pid: int) -> None:
    """Remove the file, unless it belongs to another process."""
    with suppress(OSError):
        if read_state(socket_file, pid, os.geteuid()) is not None:
            os.unlink(state_path(socket_file))
