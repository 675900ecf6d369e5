# SPDX-License-Identifier: Apache-2.0
"""A gateway's end of a connection, in Python: for what is measured once and not a hundred thousand times."""

import socket
from pathlib import Path
from typing import Any

from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.messages import ExtraInfoResp, PrepareConfReq, PrepareConfResp
from bench.files import CannotMeasure

TIMEOUT_S = 30.0


class Peer:
    """
    One connection to a runner.

    Args: body: what is answered to each question.
    """

    def __init__(self, path: Path, body: bytes | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(path))
        self._answer = ExtraInfoResp(body).encode_frame()

    def prepare(self, request: PrepareConfReq) -> int:
        """Return the token of a configuration."""
        self._socket.sendall(request.encode_frame())
        kind, payload = self._receive()
        if kind != FrameType.PREPARE_CONF:
            raise CannotMeasure("PrepareConf was refused.")
        return PrepareConfResp.decode(payload).conf_token

    def call(self, request: Any) -> int:
        """Make a call, answer what is asked, and return the size of the reply's payload."""
        self._socket.sendall(request.encode_frame())
        while True:
            kind, payload = self._receive()
            if kind == FrameType.ERROR:
                raise CannotMeasure("A call was answered with an error.")
            if kind != FrameType.EXTRA_INFO:
                return len(payload)
            self._socket.sendall(self._answer)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _receive(self) -> tuple[int, bytes]:
        header = self._read(4)
        return header[0], self._read(int.from_bytes(header[1:], "big"))

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise CannotMeasure("The runner hung up.")
            data += piece
        return bytes(data)
