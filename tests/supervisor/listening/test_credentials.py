# SPDX-License-Identifier: Apache-2.0
"""Which users may connect, by the settings and by the credentials of the peer."""

import os
import socket
import struct
from typing import Any

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.listening.credentials import Access, Peer, access_for, groups_of, peer_of

NOBODY = 65534


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the code believe that it runs as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the code believe that it runs as user 1000."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_the_credentials_of_a_peer() -> None:
    """The peer of a socket pair is this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.geteuid(), os.getegid())
        assert groups_of(ours) == set(os.getgroups())


@pytest.mark.usefixtures("as_user")
def test_by_default_no_other_user() -> None:
    """Without settings, only the owner of the file and root may connect."""
    assert access_for(Settings()) == Access(0o600, -1, -1, frozenset({0, 1000}))


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(socket_mode=0o640), Access(0o640, -1, -1, frozenset({0, 1000}))),
        (Settings(socket_group="nogroup"), Access(0o660, -1, 65534, frozenset({0, 1000}))),
        (Settings(allow_users=("nobody",)), Access(0o666, -1, -1, frozenset({0, 1000, NOBODY}))),
        (Settings(allow_users=("1000", "0")), Access(0o600, -1, -1, frozenset({0, 1000}))),
        (Settings(socket_owner="nobody", allow_users=("65534",)), Access(0o600, NOBODY, -1, frozenset({0, 1000, NOBODY}))),
        (Settings(allow_users=("*",)), Access(0o666, -1, -1, None)),
        (Settings(allow_users=("nobody",), socket_mode=0o660), Access(0o660, -1, -1, frozenset({0, 1000, NOBODY}))),
    ],
)
def test_settings(settings: Settings, expected: Access) -> None:
    """Unless the mode is set, it allows as few users as possible. Owner and group are given by name or number."""
    assert access_for(settings) == expected


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("settings", "users", "expected"),
    [
        (Settings(), {NOBODY}, Access(0o600, NOBODY, -1, frozenset({0, NOBODY}))),
        (Settings(), {NOBODY, 33}, Access(0o666, -1, -1, frozenset({0, NOBODY, 33}))),
        (Settings(socket_owner="33"), {NOBODY}, Access(0o666, 33, -1, frozenset({0, NOBODY, 33}))),
        (Settings(socket_mode=0o660), {NOBODY}, Access(0o660, NOBODY, -1, frozenset({0, NOBODY}))),
    ],
)
def test_the_users_of_the_gateways_workers(settings: Settings, users: set[int], expected: Access) -> None:
    """If the runner is root, the gateway's user becomes the owner. If there are several users, the mode allows everyone."""
    assert access_for(settings, users) == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(socket_owner="nosuch"), "socket.owner: there is no user 'nosuch' on this system"),
        (Settings(socket_group="nosuch"), "socket.group: there is no group 'nosuch' on this system"),
        (Settings(allow_users=("nosuch",)), "socket.allow_users: there is no user 'nosuch' on this system"),
    ],
)
def test_unknown_names(settings: Settings, sentence: str) -> None:
    """A user or group that does not exist is a SettingsError that contains the key."""
    with pytest.raises(SettingsError) as caught:
        access_for(settings)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("access", "peer", "admitted"),
    [
        (Access(0o600, -1, -1, frozenset({0, 1000})), Peer(1, 1000, 1000), True),
        (Access(0o666, -1, -1, frozenset({0, 1000})), Peer(1, 1001, 1000), False),
        (Access(0o666, -1, -1, None), Peer(1, 1001, 1001), True),
        (Access(0o660, -1, 77, frozenset({0})), Peer(1, 1001, 77), True),
        (Access(0o600, -1, 77, frozenset({0})), Peer(1, 1001, 77), False),
        (Access(0o660, -1, 77, frozenset({0})), Peer(1, 1001, 78), False),
    ],
)
def test_admission(access: Access, peer: Peer, admitted: bool) -> None:
    """A user must be allowed, or be in the socket's group if the mode allows the group to write. The mode for others is ignored."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert access.admits(ours, peer) == admitted


def test_a_supplementary_group_counts() -> None:
    """A user whose supplementary groups include the socket's group is admitted."""
    groups = os.getgroups()
    if not groups:
        pytest.skip("this process is in no supplementary group")
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert Access(0o660, -1, groups[0], frozenset()).admits(ours, Peer(1, 1001, 1001))


def test_a_peer_of_an_unknown_group_is_not_admitted_if_no_group_is_set() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert Access(0o660, -1, -1, frozenset({0})).admits(ours, Peer(1, NOBODY, -1)) is False


class ManyGroups(socket.socket):
    """A socket whose peer is in 1024 groups."""

    def getsockopt(self, level: int, option: int, size: int = 0, /) -> Any:
        return struct.pack("1024I", *range(1024))[:size]


def test_a_peer_can_be_in_many_groups() -> None:
    with ManyGroups() as sock:
        assert groups_of(sock) == frozenset(range(1024))
