# SPDX-License-Identifier: Apache-2.0
"""Refuse a connection that no worker can serve any more."""

import socket
from contextlib import suppress


def refuse(connection: socket.socket) -> None:
    """
    Close a connection. If the gateway has sent something, reply with SERVICE_UNAVAILABLE first.

    Otherwise nothing is sent, because the gateway would take it for the reply to its next call. Source: gateway contract, 1.
    """
    from apisix.runner.errors import ErrCode  # late, because the socket is bound before slow imports
    from apisix.runner.wire.messages import ErrResp

    with connection, suppress(OSError):
        if connection.recv(1 << 16, socket.MSG_DONTWAIT):
            connection.send(ErrResp(ErrCode.SERVICE_UNAVAILABLE).encode_frame(), socket.MSG_DONTWAIT)
