# SPDX-License-Identifier: Apache-2.0
"""Which users may connect: the mode and owner of the socket file, and the credentials that the kernel reports for each peer."""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from apisix.runner.errors import SettingsError
from apisix.runner.settings.table import Settings

ANYONE: Final = "*"
"""In `socket.allow_users`: any user whom the mode of the file allows to connect."""

_UCRED: Final = struct.Struct("3i")  # Linux: pid, uid, gid
_XUCRED: Final = struct.Struct("=IIh2xI")  # macOS: version, uid, number of groups, the first group
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_SO_PEERGROUPS: Final = 59


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as it was when it connected or began to listen. `pid` is 0 if the system does not report it."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    """
    Return the process at the other end of a unix socket.

    Raises: OSError: the socket is no longer connected.
    """
    if hasattr(socket, "SO_PEERCRED"):
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return Peer(pid, uid, gid)
    _, uid, _, gid = _XUCRED.unpack_from(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76))
    return Peer(0, uid, gid)


def groups_of(sock: socket.socket) -> frozenset[int]:
    """Return the supplementary groups of the process at the other end, or none if the system does not report them."""
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * 1024)
    except OSError:
        return frozenset()
    return frozenset(gid for (gid,) in struct.iter_unpack("I", packed[: len(packed) // 4 * 4]))


@dataclass(frozen=True, slots=True)
class Access:
    """
    Which users may use the socket.

    Two checks are needed: the mode of the file, and the credentials of each peer. Some systems ignore the mode of a socket, and a mode
    that allows a second user allows all users.

    Attributes:
        mode: of the socket file.
        owner: the user that owns it, or -1 to leave it unchanged.
        group: its group, or -1 to leave it unchanged. Members of the group may connect if `mode` allows the group to write.
        users: the users that may connect, or None for any user.
    """

    mode: int
    owner: int
    group: int
    users: frozenset[int] | None

    def admits(self, sock: socket.socket, peer: Peer) -> bool:
        """Return whether `peer`, at the other end of `sock`, may connect to the runner."""
        if self.users is None or peer.uid in self.users:
            return True
        return self.group != -1 and bool(self.mode & 0o020) and (peer.gid == self.group or self.group in groups_of(sock))


def access_for(settings: Settings, gateway_users: Collection[int] = ()) -> Access:
    """
    Return which users may use the socket, from the settings.

    Args: gateway_users: the users that the gateway's workers run as, if they are known and differ from the runner's.
    Raises: SettingsError: a user or group does not exist.
    """
    ours = os.geteuid()
    owner = -1 if settings.socket_owner is None else user_id(settings.socket_owner, "socket.owner")
    group = -1 if settings.socket_group is None else group_id(settings.socket_group, "socket.group")
    named = [user_id(user, "socket.allow_users") for user in settings.allow_users if user != ANYONE]
    others = sorted({*named, *gateway_users} - {0, ours, owner})
    if owner == -1 and len(others) == 1 and ours == 0:
        owner = others.pop()
    mode = settings.socket_mode
    if mode is None:
        # Only the owner, and the group if one is set. If other users have to connect, the mode allows everyone, and `admits` decides.
        everyone = bool(others) or ANYONE in settings.allow_users
        mode = 0o666 if everyone else 0o660 if group != -1 else 0o600
    # Root is always allowed, because it can become the user of the runner anyway.
    users = None if ANYONE in settings.allow_users else frozenset({0, ours, *named, *gateway_users, *([] if owner == -1 else [owner])})
    return Access(mode, owner, group, users)


def user_id(user: str | int, setting: str) -> int:
    """Return the uid of a user that is given by name or uid. Raise SettingsError if there is no user of that name."""
    if str(user).isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(str(user)).pw_uid
    except KeyError:
        raise SettingsError(f"{setting}: there is no user {user!r} on this system") from None


def group_id(group: str | int, setting: str) -> int:
    """Return the gid of a group that is given by name or gid. Raise SettingsError if there is no group of that name."""
    if str(group).isdecimal():
        return int(group)
    try:
        return grp.getgrnam(str(group)).gr_gid
    except KeyError:
        raise SettingsError(f"{setting}: there is no group {group!r} on this system") from None


def user_name(uid: int) -> str:
    """Return the name of a user, or the uid if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
