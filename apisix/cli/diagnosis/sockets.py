# SPDX-License-Identifier: Apache-2.0
"""Examine the socket: its path, its directory, which users may connect, which process listens, and whether it replies."""

import os
import pwd
import socket
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from apisix.cli.diagnosis import processes
from apisix.cli.diagnosis.probe import probe
from apisix.cli.diagnosis.result import Results, ok, problem, warning
from apisix.runner.errors import SettingsError
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.listening.credentials import ANYONE, Access, access_for, peer_of, user_id, user_name
from apisix.runner.supervisor.listening.listener import MAX_PATH_BYTES

TIMEOUT_S: Final = 2.0
"""The time limit for the replies of a runner, in seconds."""


def examine_socket(settings: Settings, gateway_users: Collection[int], named_users: Collection[str] = ()) -> Results:
    """
    Examine the socket.

    Args:
        settings: the settings of the runner.
        gateway_users: users of a running gateway, or in its configuration, who must be able to connect.
        named_users: users of a gateway that is not visible from here, by name or number.
    """
    path = settings.socket_file
    if (size := len(os.fsencode(path))) > MAX_PATH_BYTES:
        yield problem("socket", f"{path} is {size} bytes long, and the system allows {MAX_PATH_BYTES}", "Set socket.file to a shorter path")
        return
    yield from _examine_directory(os.path.dirname(path))
    # A runner that a gateway has started as root detects which users must be able to connect.
    finds_users = os.path.basename(path).startswith("apisix-") and os.geteuid() == 0
    try:
        access = access_for(settings, gateway_users if finds_users else ())
    except SettingsError as error:
        yield problem("socket", str(error), "Correct the setting")
        return
    users: dict[int, str] = {}
    for user in named_users:
        try:
            users[user_id(user, "--gateway-user")] = "--gateway-user names {}"
        except SettingsError as error:
            yield problem("socket", str(error), "Use the number of the user, because a user of another container has no name here")
    try:
        status = os.lstat(path)
    except OSError as error:
        yield problem("socket", f"{path}: {error.strerror}", "Start the runner, or look at its log if it should be running")
        yield from _examine_users(path, None, access, users)
        return
    if not stat.S_ISSOCK(status.st_mode):
        yield problem("socket", f"{path} exists but is not a socket", "Remove it, or set socket.file to another path")
        return
    mode = stat.S_IMODE(status.st_mode)
    yield ok("socket", f"{path} has mode {mode:04o}, user {user_name(status.st_uid)}, group {status.st_gid}")
    named = {user_id(user, "socket.allow_users"): "socket.allow_users names {}" for user in settings.allow_users if user != ANYONE}
    users = named | dict.fromkeys(gateway_users, "the gateway's workers run as {}") | users
    yield from _examine_users(path, status, access, users)
    yield from _examine_listeners(path)
    result = probe(path, TIMEOUT_S)
    yield ok("health", result.sentence) if result.is_healthy else problem("health", *_split(result.sentence))


def _examine_directory(directory: str) -> Results:
    try:
        status = os.stat(directory)
    except OSError as error:
        yield problem("socket", f"the directory {directory}: {error.strerror}", "Create it for the user of the runner")
        return
    shown = f"the directory {directory} has mode {stat.S_IMODE(status.st_mode):04o}, user {user_name(status.st_uid)}"
    if not os.access(directory, os.W_OK | os.X_OK):
        yield problem(
            "socket",
            f"{shown}, and user {user_name(os.geteuid())}, who runs this command, can't create a socket there",
            "Run this command as the user of the runner. If this is that user, set socket.file to a path in a directory of that user",
        )
    elif status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        yield warning("socket", f"{shown}, so every user can replace the runner's socket with another one", f"chmod o-w {directory}")
    elif status.st_mode & stat.S_IWOTH:
        yield warning(
            "socket",
            f"{shown}, so every user can listen there while the runner is not running",
            "If other users can log in, set socket.file to a path in a directory that only the runner uses",
        )
    else:
        yield ok("socket", shown)


def _examine_users(path: str, status: os.stat_result | None, access: Access, users: Mapping[int, str]) -> Results:
    """
    Examine if users may connect.

    Args:
        path: the path of the socket.
        status: the status of the socket, or None if there is no socket yet. Then only the settings and the directories are considered.
        access: the users and the group that the settings allow to connect.
        users: the users by number, each with a phrase that says where the user is from.
    """
    for uid, origin in sorted(users.items()):
        name = user_name(uid)
        user = origin.format(name)
        allowed = access.users if access.users is None or status is None else access.users | {status.st_uid}
        advice = f"Add {name} to socket.allow_users, or run the runner as that user"
        if allowed is not None and uid not in allowed and access.group == -1:
            yield problem("socket", f"{user}, but the runner does not allow this user to connect", advice)
        elif closed := next((directory for directory in _parents(path) if not _may(os.stat(directory), uid, stat.S_IXUSR)), None):
            yield problem("socket", f"{user}, but this user can't access {closed}", f"chmod o+x {closed}")
        elif status is None:
            yield ok("socket", f"{user}, and the settings allow this user to connect when the runner listens")
        elif not _may(status, uid, stat.S_IWUSR):
            yield problem("socket", f"{user}, but the mode of the socket does not allow this user to connect", advice)
        else:
            yield ok("socket", f"{user}, and this user may connect")


def _parents(path: str) -> list[str]:
    return [str(directory) for directory in reversed(Path(path).parents)]


def _may(status: os.stat_result, uid: int, right: int) -> bool:
    """Return True if a user has a permission, given as the owner's bit. Source: path_resolution(7)."""
    if uid == status.st_uid:
        return bool(status.st_mode & right)
    try:
        user = pwd.getpwuid(uid)
    except KeyError:  # a user without a name, as in containers
        groups = []
    else:
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return bool(status.st_mode & (right >> 3 if status.st_gid in groups else right >> 6))


def _examine_listeners(path: str) -> Results:
    listener = _listener(path)
    if listener is not None:
        pid, uid = listener
        yield ok("socket", f"user {user_name(uid)} listens{_process(pid)}")
    for pid, is_exact in sorted(processes.listeners_at(path).items()):
        if listener is not None and pid == listener[0]:
            continue
        if is_exact:
            yield warning(
                "socket",
                f"another process listens on this path, but new connections no longer reach it{_process(pid)}",
                "Stop that process after its connections are closed",
            )
        else:
            yield ok("socket", f"a runner for another path, or one that was replaced, listens in this directory{_process(pid)}")


def _listener(path: str) -> tuple[int, int] | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
            peer = peer_of(sock)
        except OSError:
            return None
    return peer.pid, peer.uid


def _process(pid: int) -> str:
    command = processes.command_line(pid)
    return f": pid {pid}{f', {command}' if command else ''}" if pid else ""


def _split(sentence: str) -> tuple[str, str]:
    """Split a text into what was found and what to do, which is the last sentence."""
    text, _, advice = sentence.rpartition(". ")
    return (text, advice) if text else (sentence, "")
