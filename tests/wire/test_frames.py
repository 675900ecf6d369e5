# SPDX-License-Identifier: Apache-2.0
"""Tests of frames: a stream in any pieces is split into the same frames, and needs no more memory than its bytes."""

import tracemalloc
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.errors import MessageTooLarge, RemoteProtocolError
from apisix.runner.wire.frames import HEADER_BYTES, MAX_PAYLOAD_BYTES, FrameDecoder, FrameType, encode_frame
from tests.wire.pieces import cuts
from tests.wire.subjects import golden_frames

MIB = 2**20
Frame = tuple[int, bytes]


def _next(decoder: FrameDecoder) -> Frame | None:
    payload = decoder.next_payload()
    return None if payload is None else (decoder.frame_type, payload)


def _read(pieces: list[bytes], *, eagerly: bool, in_buffers: bool = False) -> tuple[list[Frame], FrameDecoder]:
    """Feed all pieces, every second one in a buffer, and return the frames. `eagerly` reads frames after each piece,."""
    decoder = FrameDecoder()
    frames = []
    for number, piece in enumerate(pieces):
        if number % 2 == in_buffers:
            decoder.feed_buffer(bytearray(piece) + bytearray(b"of another connection"), len(piece))
        else:
            decoder.feed(piece)
        while eagerly and (frame := _next(decoder)):
            frames.append(frame)
    while frame := _next(decoder):
        frames.append(frame)
    return frames, decoder


def _check(expected: list[Frame], *, trailing: bytes = b"") -> None:
    """Check that these frames are read in any pieces, and that trailing bytes are kept."""
    stream = b"".join(encode_frame(*frame) for frame in expected) + trailing
    for label, pieces in cuts(stream):
        for eagerly, in_buffers in product((True, False), repeat=2):
            frames, decoder = _read(pieces, eagerly=eagerly, in_buffers=in_buffers)
            assert frames == expected, label
            assert decoder.buffered_bytes == len(trailing), label


def test_the_header() -> None:
    """A frame is a type of one byte, a big-endian length of three bytes, and the payload. Source: gateway contract, 1."""
    assert encode_frame(FrameType.HTTP_REQ_CALL, bytes(0x010203)) == b"\x02\x01\x02\x03" + bytes(0x010203)


def test_small_and_large_pieces_stay_in_order() -> None:
    """Small pieces are joined, large ones are kept. The payload is the same."""
    payload = bytes(range(256)) * 48
    stream = encode_frame(FrameType.HTTP_REQ_CALL, payload)
    ends = [100, 200, 5000, 5100, 5200, 10000, 10100, len(stream)]
    decoder = FrameDecoder()
    for start, end in zip([0, *ends], ends, strict=False):
        decoder.feed(stream[start:end])
        assert decoder.buffered_bytes == end
        if end < len(stream):
            assert _next(decoder) is None

    assert _next(decoder) == (FrameType.HTTP_REQ_CALL, payload)


@pytest.mark.parametrize("frame_type", FrameType)
def test_a_frame_of_each_type(frame_type: FrameType) -> None:
    """A frame of each type is read in any pieces."""
    _check([(frame_type, b"payload")])


def test_recorded_frames_in_one_stream() -> None:
    """All recorded frames are read from one stream."""
    _check([(frame.frame_type, frame.payload) for frame in golden_frames()])


def test_large_frames() -> None:
    """Payloads of many pieces, of one byte, and of the sizes at which pieces are kept instead of joined."""
    _check([(3, bytes(range(256)) * 300), (1, b"x"), (2, bytes(4095)), (2, bytes(4096)), (0, bytes(4097)), (4, b"yz")])


@pytest.mark.parametrize("size", range(1, HEADER_BYTES + 8))
def test_trailing_data(size: int) -> None:
    """The first bytes of another frame are kept, and not returned."""
    _check([(2, b"first"), (3, b"second")], trailing=encode_frame(4, b"third!!!")[:size])


@given(st.lists(st.tuples(st.integers(0, 4), st.binary(min_size=1, max_size=300)), max_size=6), st.lists(st.integers(0, 400), max_size=12))
def test_any_frames_in_any_pieces(expected: list[Frame], sizes: list[int]) -> None:
    """Any frames are read in pieces of any sizes."""
    stream = b"".join(encode_frame(*frame) for frame in expected)
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    pieces.append(stream)
    for eagerly, in_buffers in product((True, False), repeat=2):
        frames, decoder = _read(pieces, eagerly=eagerly, in_buffers=in_buffers)
        assert frames == expected
        assert decoder.buffered_bytes == 0


def test_the_largest_frame() -> None:
    """A payload of 2^24 - 1 bytes fits into a frame. One byte more is refused, and the error has both numbers."""
    largest = bytes(MAX_PAYLOAD_BYTES)
    assert _read([encode_frame(3, largest)], eagerly=True)[0] == [(3, largest)]
    with pytest.raises(MessageTooLarge, match="16777216 bytes does not fit a frame, which can hold at most 16777215 bytes"):
        encode_frame(3, largest + b"\0")


@pytest.mark.parametrize("header", [b"\x05\0\0\1", b"\xff\0\0\1", b"\x05\xff\xff\xff", b"\0\0\0\0", b"\x02\0\0\0", b"HTTP", b"GET "])
def test_an_invalid_header(header: bytes) -> None:
    """An unknown type or an empty payload is refused as soon as the header is complete, and again at each call."""
    for _, pieces in cuts(header):
        decoder = FrameDecoder()
        for piece in pieces[:-1]:
            decoder.feed(piece)
            if decoder.buffered_bytes < HEADER_BYTES:
                assert _next(decoder) is None
        decoder.feed(pieces[-1])
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match=f"type {header[0]}"):
                decoder.next_payload()


def test_frames_before_an_error_are_returned() -> None:
    """Complete frames before an invalid header are returned."""
    decoder = FrameDecoder()
    decoder.feed(encode_frame(2, b"fine") + b"\x09\0\0\1")
    assert _next(decoder) == (2, b"fine")
    with pytest.raises(RemoteProtocolError):
        _next(decoder)


def test_buffered_bytes() -> None:
    """The count includes the header of an incomplete frame, its payload so far, and all bytes after it."""
    decoder = FrameDecoder()
    stream = encode_frame(2, bytes(10)) * 2
    for count, pos in enumerate(range(len(stream)), 1):
        decoder.feed(stream[pos : pos + 1])
        assert decoder.buffered_bytes == count
    decoder = FrameDecoder()
    decoder.feed_buffer(bytearray(stream), len(stream) // 2)
    decoder.feed(b"more")
    assert decoder.buffered_bytes == len(stream) // 2 + 4
    decoder = FrameDecoder()
    for pos in range(len(stream) // 2 - 1):
        decoder.feed(stream[pos : pos + 1])
        assert _next(decoder) is None
        assert decoder.buffered_bytes == pos + 1


def test_an_announced_length_allocates_nothing() -> None:
    """No memory is allocated for a payload of 16 MiB of which nothing was received."""
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        decoder.feed(b"\x03\xff\xff\xff")
        assert _next(decoder) is None
        assert tracemalloc.get_traced_memory()[1] < 4096
    finally:
        tracemalloc.stop()


def test_single_bytes_are_joined() -> None:
    """A payload of 100 KB in single bytes needs little more memory than that, and no quadratic time, with which this test would hang."""
    decoder = FrameDecoder()
    stream = encode_frame(3, bytes(100_000))
    tracemalloc.start()
    try:
        for pos in range(len(stream) - 1):
            decoder.feed(stream[pos : pos + 1])
            assert _next(decoder) is None
        assert tracemalloc.get_traced_memory()[1] < 2 * len(stream)
    finally:
        tracemalloc.stop()
    decoder.feed(stream[-1:])
    assert _next(decoder) == (3, bytes(100_000))


def test_a_large_payload_is_copied_once() -> None:
    """8 MiB in pieces of 64 KiB need another 8 MiB for the payload, and no more."""
    stream = encode_frame(3, bytes(8 * MIB))
    pieces = [stream[pos : pos + 65536] for pos in range(0, len(stream), 65536)]
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        for piece in pieces:
            assert _next(decoder) is None
            decoder.feed(piece)
        frame = _next(decoder)
        assert tracemalloc.get_traced_memory()[1] < 9 * MIB
    finally:
        tracemalloc.stop()
    assert frame == (3, bytes(8 * MIB))
