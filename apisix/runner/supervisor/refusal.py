# SPDX-License-Identifier: Apache-2.0
"""An honest no to a connection for which there is no worker any more."""

import socket
from contextlib import suppress


def refuse(connection: socket.socket) -> None:
    """
    Close a connection, and answer what its peer has sent with SERVICE_UNAVAILABLE.

    Nothing is said where nothing was sent: the gateway would take that for the answer to its next call. Source: gateway contract, 1.
    """
    from apisix.runner.errors import ErrCode  # late, as the socket is bound before anything slow
    from apisix.runner.wire.messages import ErrResp

    with connection, suppress(OSError):
        if connection.recv(1 << 16, socket.MSG_DONTWAIT):
            connection.send(ErrResp(ErrCode.SERVICE_UNAVAILABLE).encode_frame(), socket.MSG_DONTWAIT)
