# SPDX-License-Identifier: Apache-2.0
"""What a connection gets for which there is no worker any more."""

import socket

from apisix.runner.errors import ErrCode
from apisix.runner.supervisor.refusal import refuse
from apisix.runner.wire.connection import Connection, Role
from apisix.runner.wire.messages import ErrResp, PrepareConfReq


def test_who_has_asked_is_told() -> None:
    """What was sent is answered with SERVICE_UNAVAILABLE, and then the connection ends."""
    ours, theirs = socket.socketpair()
    with theirs:
        gateway = Connection(Role.GATEWAY)
        theirs.sendall(gateway.send(PrepareConfReq()))
        refuse(ours)
        gateway.receive_data(theirs.recv(100))
        assert gateway.next_event() == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        assert theirs.recv(100) == b""


def test_who_has_not_asked_is_told_nothing() -> None:
    """An idle connection is closed without a word, and one that is gone is no error."""
    ours, theirs = socket.socketpair()
    with theirs:
        refuse(ours)
        assert theirs.recv(100) == b""
    ours, theirs = socket.socketpair()
    theirs.sendall(b"something")
    theirs.close()
    refuse(ours)
    assert ours.fileno() == -1
