# SPDX-License-Identifier: Apache-2.0
"""Ports for tests, which may run side by side."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """
    A port of 127.0.0.1 on which nothing listens, and which the system does not give to another process meanwhile.

    A process that requests this port and sets SO_REUSEADDR, as servers do, can listen on it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
