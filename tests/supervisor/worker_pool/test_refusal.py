# SPDX-License-Identifier: Apache-2.0
"""How connections are refused if no worker can serve them any more."""

import socket

from apisix.runner.errors import ErrCode
from apisix.runner.supervisor.worker_pool.refusal import refuse
from apisix.runner.wire.connection import Connection, Role
from apisix.runner.wire.messages import ErrResp, PrepareConfReq


def test_a_call_gets_an_error() -> None:
    """If the gateway has sent a call, it gets SERVICE_UNAVAILABLE, and then the connection is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        gateway = Connection(Role.GATEWAY)
        theirs.sendall(gateway.send(PrepareConfReq()))
        refuse(ours)
        gateway.receive_data(theirs.recv(100))
        assert gateway.next_event() == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
        assert theirs.recv(100) == b""


def test_an_idle_connection_gets_no_data() -> None:
    """Nothing is sent on an idle connection. A connection that is already closed causes no error."""
    ours, theirs = socket.socketpair()
    with theirs:
        refuse(ours)
        assert theirs.recv(100) == b""
    ours, theirs = socket.socketpair()
    theirs.sendall(b"something")
    theirs.close()
    refuse(ours)
    assert ours.fileno() == -1
