# SPDX-License-Identifier: Apache-2.0
"""
Where the conf store is: in a private directory beside the socket or, if that is not possible, in a private directory elsewhere.

Configurations contain secrets, and a user who can write them decides what a route does. SQLite also creates and trusts files beside the
database (`-journal`). So in a directory like `/tmp`, a private file is not enough: the directory has to be private as well.
"""

import logging
import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

logger = logging.getLogger(__name__)

DIRECTORY_SUFFIX = ".conf"
FILE_NAME = "tokens.sqlite"

# Files that belong to the runner of one gateway. Source: gateway contract, 1: the managed socket is `apisix-<master pid>.sock`.
_MANAGED_COMPANION = re.compile(r"apisix-(?P<pid>[1-9][0-9]*)\.sock\..+")


def choose_path(socket_path: Path, file: Path | None = None) -> Path:
    """
    Create or check the file of the conf store and return its path. Call it once, before the workers are forked.

    If the file can't be used at this path, one warning is logged. Other directories are tried in a fixed order and with a fixed name, so
    that the tokens are found again after a restart there too.

    Args: socket_path: the runner's socket. file: the path that the operator has set, if any.
    Source: design, 6.
    """
    beside = file or socket_path.with_name(socket_path.name + DIRECTORY_SUFFIX) / FILE_NAME
    try:
        create_private(beside, own_directory=file is None)
    except OSError as error:
        elsewhere = _elsewhere(socket_path)
        if elsewhere is None:
            logger.warning(
                "conf store: %s, and no other directory can be used. Tokens are kept in memory, and are lost when this runner exits",
                _reason(error),
            )
            return beside
        logger.warning("conf store: %s. Using %s instead", _reason(error), elsewhere)
        return elsewhere
    return beside


def create_private(path: Path, *, own_directory: bool) -> None:
    """
    Check that `path` is a file of this user that no other user can read, write or replace. Create it if it is missing.

    Args: own_directory: whether the directory belongs to the runner and must be private. Otherwise, other users must not write to it.
    Raises: OSError: the path can't be used, for the reason in its text.
    """
    _check_directory(path.parent, private=own_directory)
    try:
        # SQLite would create it with mode 0644, and follow a link that another user has put there.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # Check it without opening it: closing a descriptor of the file would release the locks that SQLite has in this process.
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise PermissionError(f"{path} is not a regular file with one link") from None
        _check_owner(path, status, forbidden_mode=0o077)
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(f"{path} can't be written") from None


def clear_stale(directory: Path, *further: Path) -> list[Path]:
    """
    Remove files of runners whose gateway has ended, and return the paths.

    Only for a managed runner, because a stand-alone one may see the pids of another container. Files of other users are not removed.

    Args: directory: the directory of the managed sockets. The directory for temporary files and `further` ones are searched as well.
    Source: gateway contract, 1 and 8.
    """
    removed = []
    places = [directory, *further]
    with suppress(FileNotFoundError):  # a container may have no directory for temporary files
        places.append(Path(tempfile.gettempdir()))
    for place in dict.fromkeys(places):
        try:
            paths = sorted(place.iterdir())
        except OSError:
            continue
        removed += [path for path in paths if _is_stale(path) and _remove(path)]
    if removed:
        logger.info("conf store: removed files of gateways that have ended: %s", ", ".join(map(str, removed)))
    return removed


def _elsewhere(socket_path: Path) -> Path | None:
    """Return the path of a store in a private directory for temporary files, or None if none can be created."""
    address = blake2b(os.fsencode(socket_path.absolute()), digest_size=8).hexdigest()
    try:
        temporary = Path(tempfile.gettempdir())
        path = temporary / f"{socket_path.name[:64]}{DIRECTORY_SUFFIX}-{os.geteuid()}-{address}" / FILE_NAME
        try:
            create_private(path, own_directory=True)
        except OSError:
            # Another user has created that name. A random name works, although the next start will not find it again.
            path = Path(tempfile.mkdtemp(prefix=f"{socket_path.name[:64]}{DIRECTORY_SUFFIX}-")) / FILE_NAME
            create_private(path, own_directory=True)
    except OSError:
        return None
    return path


def _check_directory(directory: Path, *, private: bool) -> None:
    """Create `directory` with mode 0700 if it is missing. Raise PermissionError if other users could create files in it."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        # The runner's own directory must not be a link. A directory that the operator has set may be one.
        status = directory.lstat() if private else directory.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise PermissionError(f"{directory} is not a directory") from None
        if private or status.st_uid != 0:  # if root owns it, root is trusted
            _check_owner(directory, status, forbidden_mode=0o077 if private else 0o022)
        elif status.st_mode & 0o022:
            raise PermissionError(f"{directory} can be written by other users") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} can't be written")


def _check_owner(path: Path, status: os.stat_result, *, forbidden_mode: int) -> None:
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {status.st_uid}, not to user {os.geteuid()}")
    if status.st_mode & forbidden_mode:
        raise PermissionError(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, which allows other users access")


def _is_stale(path: Path) -> bool:
    """Return whether the gateway whose pid is in the name has ended. If the pid was reused, the file is removed later."""
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
    """Remove one file or directory of this user. Return whether it was removed."""
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
    """Return the text of an error, without "[Errno 13]" if it is one of the messages above."""
    return str(error) if error.errno is None else f"{error.filename} can't be used: {error.strerror}"
