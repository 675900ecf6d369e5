# SPDX-License-Identifier: Apache-2.0
"""
Reading and writing sockets that do not block.

A module of its own because the accelerator has it twice: Python goes by the socket, and `descriptors.pxd` says the same in C by its
descriptor, where nothing is made on the way. To be used as `descriptors.send(...)`.
"""

import socket
from typing import Final

NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)
"""A peer that is gone is an error, not a signal: a plugin may have restored the default action of SIGPIPE, which ends the process."""

__all__ = ["NO_SIGNAL", "receive", "receive_into", "send"]


def receive_into(sock: socket.socket, descriptor: int, buffer: bytearray) -> int:
    """
    Read up to a buffer full.

    Returns: how many bytes, 0 at the end of the stream, -1 where there is nothing now.
    Raises: OSError: the connection is gone.
    """
    try:
        return sock.recv_into(buffer)
    except (BlockingIOError, InterruptedError):
        return -1


def receive(sock: socket.socket, descriptor: int, size: int) -> bytes | None:
    """
    Read up to `size` bytes.

    Returns: b"" at the end of the stream, None where there is nothing now.
    Raises: OSError: the connection is gone.
    """
    try:
        return sock.recv(size)
    except (BlockingIOError, InterruptedError):
        return None


def send(sock: socket.socket, descriptor: int, data: bytearray) -> int:
    """
    Write as much as there is room for.

    Returns: how many bytes that were.
    Raises: OSError: the connection is gone.
    """
    try:
        return sock.send(data, NO_SIGNAL)
    except (BlockingIOError, InterruptedError):
        return 0
