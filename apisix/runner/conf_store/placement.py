# SPDX-License-Identifier: Apache-2.0
"""
Where the conf store lies: a private directory beside the socket, or, where that can't be, a private one elsewhere.

Configurations hold secrets, and whoever can write them chooses what a route does. SQLite makes files of its own beside the
database (`-journal`) and believes what it finds there, so a file that only we can write is not enough in a directory like
`/tmp`: the directory has to be ours alone as well.
"""

import logging
import os
import re
import shutil
import stat
import tempfile
from hashlib import blake2b
from pathlib import Path

logger = logging.getLogger(__name__)

DIRECTORY_SUFFIX = ".conf"
FILE_NAME = "tokens.sqlite"

# What belongs to the runner of one gateway. Source: gateway contract, 1: the managed socket is `apisix-<master pid>.sock`.
_MANAGED_COMPANION = re.compile(r"apisix-(?P<pid>[1-9][0-9]*)\.sock\..+")


def choose_path(socket_path: Path, file: Path | None = None) -> Path:
    """
    Create or check the file of the conf store and return its path. Call it once, before the workers are forked.

    One warning is logged where the file can't lie in its place. The places elsewhere are tried in a fixed order under a fixed
    name, so that the tokens are found again after a restart there too.

    Args: socket_path: the runner's socket. file: the place that the operator has set, if any.
    Source: design, 6.
    """
    beside = file or socket_path.with_name(socket_path.name + DIRECTORY_SUFFIX) / FILE_NAME
    try:
        create_private(beside, own_directory=file is None)
    except OSError as error:
        elsewhere = _elsewhere(socket_path)
        if elsewhere is None:
            logger.warning(
                "conf store: %s, and no other place can be written; tokens are kept in memory, and are gone with this runner",
                _reason(error),
            )
            return beside
        logger.warning("conf store: %s; using %s instead", _reason(error), elsewhere)
        return elsewhere
    return beside


def create_private(path: Path, *, own_directory: bool) -> None:
    """
    Make sure that `path` is a file of ours that nobody else can read, write or replace; create it where it is missing.

    Args: own_directory: the directory is the runner's own and must be private too, not just closed to other writers.
    Raises: OSError: the place can't be used; its text says why.
    """
    _check_directory(path.parent, private=own_directory)
    try:
        # SQLite would create it 0644, and follow a link that someone has put there.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Looked at, never opened: closing a descriptor of the file would drop the locks that SQLite holds in this process.
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise PermissionError(f"{path} is not a regular file of its own") from None
        _check_owner(path, status, forbidden_mode=0o077)
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(f"{path} can't be written") from None


def clear_stale(directory: Path) -> list[Path]:
    """
    Remove what runners left behind whose gateway is gone, and return the paths.

    Only for a managed runner: a stand-alone one may see the pids of another container. What belongs to other users is left alone.

    Args: directory: where the managed sockets lie; the directory for temporary files is looked through as well.
    Source: gateway contract, 1 and 8.
    """
    removed = []
    for place in dict.fromkeys((directory, Path(tempfile.gettempdir()))):
        try:
            paths = sorted(place.iterdir())
        except OSError:
            continue
        removed += [path for path in paths if _is_stale(path) and _remove(path)]
    if removed:
        logger.info("conf store: removed what gateways left that are gone: %s", ", ".join(map(str, removed)))
    return removed


def _elsewhere(socket_path: Path) -> Path | None:
    """Return a store in a private directory for temporary files, or None where there is none to be had."""
    address = blake2b(os.fsencode(socket_path.absolute()), digest_size=8).hexdigest()
    try:
        temporary = Path(tempfile.gettempdir())
        path = temporary / f"{socket_path.name[:64]}{DIRECTORY_SUFFIX}-{os.geteuid()}-{address}" / FILE_NAME
        try:
            create_private(path, own_directory=True)
        except OSError:
            # Someone sits on that name. An unforeseeable one works, although the next start won't find it again.
            path = Path(tempfile.mkdtemp(prefix=f"{socket_path.name[:64]}{DIRECTORY_SUFFIX}-")) / FILE_NAME
            create_private(path, own_directory=True)
    except OSError:
        return None
    return path


def _check_directory(directory: Path, *, private: bool) -> None:
    """Create `directory` with mode 0700 where it is missing, and refuse it where others could put files into it."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        # The runner's own must not be a link; an operator's may lead through one.
        status = directory.lstat() if private else directory.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise PermissionError(f"{directory} is not a directory") from None
        if private or status.st_uid != 0:  # where root owns it, root decides
            _check_owner(directory, status, forbidden_mode=0o077 if private else 0o022)
        elif status.st_mode & 0o022:
            raise PermissionError(f"{directory} can be written by others") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} can't be written")


def _check_owner(path: Path, status: os.stat_result, *, forbidden_mode: int) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}")
    if status.st_mode & forbidden_mode:
        raise PermissionError(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, which lets others in")


def _is_stale(path: Path) -> bool:
    """Tell whether the gateway that `path` is named after has ended. A pid that was given anew only delays the clean-up."""
    match = _MANAGED_COMPANION.fullmatch(path.name)
    if match is None:
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _remove(path: Path) -> bool:
    """Remove one file or directory of ours and tell whether it is gone."""
    try:
        status = path.lstat()
        if status.st_uid != os.geteuid():
            return False
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        logger.warning("conf store: can't remove %s: %s", path, error)
        return False
    return True


def _reason(error: OSError) -> str:
    """Return what the error says, without "[Errno 13]" where it is one of the sentences above."""
    return str(error) if error.errno is None else f"{error.filename} can't be used: {error.strerror}"
