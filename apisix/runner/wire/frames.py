# SPDX-License-Identifier: Apache-2.0
"""Frames: a type of one byte, a big-endian length of three bytes, then the payload. Source: gateway contract, 1."""

from collections import deque
from enum import IntEnum
from typing import Final

from apisix.runner import primitives
from apisix.runner.errors import MessageTooLarge, RemoteProtocolError

HEADER_BYTES = 4
MAX_PAYLOAD_BYTES = 2**24 - 1

# Pieces smaller than this are joined in one growing buffer, so that a peer that sends single bytes does not cause a list entry for each.
# Larger ones are kept as they were received, and copied only once, into the payload.
_SMALL_PIECE_BYTES = 4096


class FrameType(IntEnum):
    """The first byte of a frame. A reply has the type of its request, or ERROR. Source: gateway contract, 1."""

    ERROR = 0
    PREPARE_CONF = 1
    HTTP_REQ_CALL = 2
    EXTRA_INFO = 3
    HTTP_RESP_CALL = 4


# In C, these are numbers without a Python name.
_HEADER_BYTES: Final = HEADER_BYTES
_MAX_PAYLOAD_BYTES: Final = MAX_PAYLOAD_BYTES

# The header is read as one big-endian number: its upper byte is the type, the lower three are the length.
_FIRST_UNKNOWN_HEADER = (max(FrameType) + 1) << 24


def frame_header(frame_type: int, size_bytes: int) -> bytes:
    """
    Return the four bytes that precede a payload.

    Raises: MessageTooLarge: the length does not fit into three bytes.
    """
    if size_bytes > MAX_PAYLOAD_BYTES:
        raise MessageTooLarge(size_bytes, MAX_PAYLOAD_BYTES)
    return (frame_type << 24 | size_bytes).to_bytes(HEADER_BYTES, "big")


def put_header(out: bytearray, frame_type: int) -> None:
    """
    Write the header over the first four bytes of a frame.

    Raises: MessageTooLarge: the payload is longer than `MAX_PAYLOAD_BYTES`.
    """
    size_bytes = len(out) - _HEADER_BYTES
    if size_bytes > _MAX_PAYLOAD_BYTES:
        raise MessageTooLarge(size_bytes, MAX_PAYLOAD_BYTES)
    primitives.set_network_u32(out, 0, frame_type << 24 | size_bytes)


def encode_frame(frame_type: int, payload: bytes) -> bytes:
    """
    Return header and payload as one object, so that they are sent in one write.

    Raises: MessageTooLarge: the payload is longer than `MAX_PAYLOAD_BYTES`.
    """
    return frame_header(frame_type, len(payload)) + payload


class FrameDecoder:
    """
    Split a stream of bytes into frames.

    Memory is allocated only for bytes that have been received, never for the length that a header announces. After a RemoteProtocolError
    there are no further frames, and each call of `next_payload` raises it again.

    Attributes:
        frame_type: the type of the payload that was returned last.
        missing_bytes: the number of bytes that are missing from a payload whose header was received. 0 if a header is expected.
        incomplete: True if a part of a frame was received, perhaps only of its header.
        may_have_more: True if bytes were received since `next_payload` last returned None.
    """

    __slots__ = (
        "_chunk",
        "_gathered",
        "_pieces",
        "_pos",
        "_queue",
        "_type",
        "_whole",
        "frame_type",
        "incomplete",
        "may_have_more",
        "missing_bytes",
    )

    def __init__(self) -> None:
        self.frame_type = 0
        self.missing_bytes = 0
        self.incomplete = False
        self.may_have_more = False
        self._whole: bytes | None = None  # the payload of a frame that was received alone, of type _type
        self._chunk = b""  # the piece being read, beginning at _pos
        self._pos = 0
        self._queue: deque[bytes] = deque()  # pieces fed while there was still something to read
        self._type = 0
        self._pieces: list[bytearray | memoryview] = []  # the received pieces of an incomplete payload
        self._gathered = 0  # the number of bytes in them

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that were fed and are not part of a returned frame."""
        unfinished = HEADER_BYTES + self._gathered if self.missing_bytes else 0
        if self._whole is not None:
            unfinished += HEADER_BYTES + len(self._whole)
        return unfinished + len(self._chunk) - self._pos + sum(map(len, self._queue))

    def clear(self) -> None:
        """Discard all bytes: the stream has ended."""
        self._whole = None
        self._chunk = b""
        self._pos = 0
        self._queue.clear()
        self._pieces.clear()
        self._gathered = self.missing_bytes = 0
        self.incomplete = self.may_have_more = False

    def feed(self, data: bytes) -> None:
        """Add bytes received from the socket: any part of the stream, from one byte to many frames."""
        self.may_have_more = True
        if self._pos == len(self._chunk):
            self._chunk = data
            self._pos = 0
        else:
            self._queue.append(data)

    def feed_buffer(self, buffer: bytearray, size: int) -> None:
        """Same as `feed`, but for the first `size` bytes of a buffer that the caller uses again. They are copied once."""
        if size > _HEADER_BYTES and not self.may_have_more and not self.missing_bytes and self._pos == len(self._chunk):
            header = primitives.network_u32_at(buffer, 0)
            if header & _MAX_PAYLOAD_BYTES == size - _HEADER_BYTES and header < _FIRST_UNKNOWN_HEADER:
                # By far the most frequent case: exactly one frame.
                self.may_have_more = True
                self._type = header >> 24
                self._whole = primitives.part_at(buffer, _HEADER_BYTES, size)
                return
        self.feed(primitives.part_at(buffer, 0, size))

    def next_payload(self) -> bytes | None:
        """
        Return the payload of the next frame, or None until more bytes have been fed. Set `frame_type`.

        Raises: RemoteProtocolError: a header announces an unknown type, or an empty payload.
        Source: gateway contract, 1.
        """
        whole = self._whole
        if whole is not None:
            self.frame_type = self._type
            self._whole = None
            self.may_have_more = self._pos < len(self._chunk)
            return whole
        if self.missing_bytes:
            return self._gather()
        while len(self._chunk) < self._pos + _HEADER_BYTES:
            if not self._queue:
                self.may_have_more = False
                self.incomplete = len(self._chunk) > self._pos
                return None
            # The header is split. At most three bytes of it are kept each time, so no byte is copied more than four times.
            self._chunk = self._chunk[self._pos :] + self._queue.popleft()
            self._pos = 0
        chunk = self._chunk
        header = primitives.network_u32_at(chunk, self._pos)
        length = header & _MAX_PAYLOAD_BYTES
        if header >= _FIRST_UNKNOWN_HEADER or not length:
            raise RemoteProtocolError(f"a frame has the type {header >> 24} and {length} bytes: the type is unknown, or the frame is empty")
        start = self._pos + _HEADER_BYTES
        end = start + length
        if end <= len(chunk):
            self._pos = end
            self.incomplete = False
            self.frame_type = header >> 24
            return primitives.part_at(chunk, start, end)
        self._type = header >> 24
        self.missing_bytes = length
        self._pos = start
        return self._gather()

    def _gather(self) -> bytes | None:
        """Collect the pieces of a payload. Return it once it is complete, after copying it once."""
        while True:
            left = len(self._chunk) - self._pos
            if left >= self.missing_bytes:
                end = self._pos + self.missing_bytes
                self._pieces.append(memoryview(self._chunk)[self._pos : end])
                payload = b"".join(self._pieces)
                self._pieces.clear()
                self._gathered = self.missing_bytes = 0
                self.incomplete = False
                self._pos = end
                self.frame_type = self._type
                return payload
            if left:
                self._keep(memoryview(self._chunk)[self._pos :])
            if not self._queue:
                self._chunk = b""
                self._pos = 0
                self.may_have_more = False
                self.incomplete = True
                return None
            self._chunk = self._queue.popleft()
            self._pos = 0

    def _keep(self, piece: memoryview) -> None:
        """Add a piece to an incomplete payload."""
        pieces = self._pieces
        if len(piece) >= _SMALL_PIECE_BYTES:
            pieces.append(piece)
        elif pieces and isinstance(pieces[-1], bytearray):
            pieces[-1] += piece
        else:
            pieces.append(bytearray(piece))
        self._gathered += len(piece)
        self.missing_bytes -= len(piece)
