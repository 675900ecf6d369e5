# SPDX-License-Identifier: Apache-2.0
"""A gateway's end of a connection, in Python: for measurements that need few calls."""

import socket
from pathlib import Path
from typing import Any

from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.messages import ExtraInfoResp, PrepareConfReq, PrepareConfResp
from bench.files import CannotMeasure

TIMEOUT_S = 30.0


class Caller:
    """
    One connection to a runner.

    Args:
        path: the runner's socket.
        body: the info reply to every info request.
    """

    def __init__(self, path: Path, body: bytes | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(path))
        self._info_reply = ExtraInfoResp(body).encode_frame()

    def prepare(self, request: PrepareConfReq) -> int:
        """Return the token of a configuration."""
        self._socket.sendall(request.encode_frame())
        kind, payload = self._receive()
        if kind != FrameType.PREPARE_CONF:
            raise CannotMeasure(f"PrepareConf was expected to be answered with a frame of type 1, not {kind}.")
        return PrepareConfResp.decode(payload).conf_token

    def call(self, request: Any) -> int:
        """Make a call, reply to its info requests, and return the size of its reply's payload in bytes."""
        self._socket.sendall(request.encode_frame())
        while True:
            kind, payload = self._receive()
            if kind == FrameType.ERROR:
                raise CannotMeasure("A call was answered with an error.")
            if kind != FrameType.EXTRA_INFO:
                return len(payload)
            self._socket.sendall(self._info_reply)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _receive(self) -> tuple[int, bytes]:
        header = self._read(4)
        return header[0], self._read(int.from_bytes(header[1:], "big"))

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise CannotMeasure("The runner closed the connection.")
            data += piece
        return bytes(data)
