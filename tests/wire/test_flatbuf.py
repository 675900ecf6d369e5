# SPDX-License-Identifier: Apache-2.0
"""Tests of reading and writing FlatBuffers: each read is checked, and pieces can be at any position."""

from struct import pack

import pytest

from apisix.runner import primitives
from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire import flatbuf
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPRespCallResp, PrepareConfResp

# A table of one uint32 after its vtable, as other writers place it: root, vtable (6, 8, 4), padding, table.
FOREIGN = pack("<IHHHHiI", 12, 6, 8, 4, 0, 8, 101)


def test_a_vtable_before_its_table() -> None:
    """A vtable can precede its table, as from other writers, or follow it, as from this one."""
    assert PrepareConfResp.decode(FOREIGN) == PrepareConfResp(101)
    assert PrepareConfResp.decode(PrepareConfResp(101).encode()) == PrepareConfResp(101)


def test_a_newer_schema_with_more_fields() -> None:
    """Fields that the runner's schema does not have are skipped."""
    newer = pack("<IHHHHHHiII", 16, 10, 12, 4, 8, 8, 0, 12, 101, 7)
    assert PrepareConfResp.decode(newer) == PrepareConfResp(101)


def test_an_older_schema_with_fewer_fields() -> None:
    """Fields that the writer's schema does not have are absent."""
    assert HTTPRespCallResp.decode(FOREIGN) == HTTPRespCallResp(101)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 7, 28, 0xFFFE, 0xFFFF])
def test_a_vtable_of_impossible_size(size: int) -> None:
    """A vtable has an even size of at least four bytes, and lies within the buffer."""
    with pytest.raises(
        RemoteProtocolError, match=f"the vtable at byte 4 has {size} bytes" if size < 4 or size % 2 else f"bytes 4 to {4 + size} do not lie"
    ):
        PrepareConfResp.decode(pack("<IHHHHiI", 12, size, 8, 4, 0, 8, 101))


@pytest.mark.parametrize("distance", [13, 12 - 4 + len(FOREIGN), 100, 2**31 - 1])
def test_a_vtable_before_the_buffer(distance: int) -> None:
    """A negative position is refused, even if Python, counting from the end, would find a vtable there (28)."""
    with pytest.raises(RemoteProtocolError, match=f"bytes {12 - distance} to {14 - distance} "):
        PrepareConfResp.decode(pack("<IHHHHiI", 12, 6, 8, 4, 0, distance, 101))


@pytest.mark.parametrize("distance", [-9, -100, -(2**31)])
def test_a_vtable_after_the_buffer(distance: int) -> None:
    """A vtable past the end is refused."""
    with pytest.raises(RemoteProtocolError, match=f"bytes {12 - distance} to {14 - distance} "):
        PrepareConfResp.decode(pack("<IHHHHiI", 12, 6, 8, 4, 0, distance, 101))


@pytest.mark.parametrize("root", [17, 20, 2**32 - 1])
def test_a_root_after_the_buffer(root: int) -> None:
    """A root table past the end is refused."""
    with pytest.raises(RemoteProtocolError, match=f"bytes {root} to {root + 4} "):
        PrepareConfResp.decode(pack("<IHHHHiI", root, 6, 8, 4, 0, 8, 101))


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\0\0"])
def test_a_buffer_without_root(payload: bytes) -> None:
    """A buffer of less than four bytes is not a message."""
    with pytest.raises(RemoteProtocolError, match="bytes 0 to 4 "):
        PrepareConfResp.decode(payload)


@pytest.mark.parametrize("size", range(9))
def test_pieces_are_multiples_of_four(size: int) -> None:
    """Strings end in a NUL, and the length of every piece is a multiple of four."""
    text, data = bytearray(), bytearray()
    flatbuf.put_table(text, ("x" * size,))
    flatbuf.put_table(data, (b"x" * size,))
    for table, ending in ((text, b"\0"), (data, b"")):
        piece = bytes(table[16:])  # after the distance, the field and the vtable with its padding
        assert len(piece) % 4 == 0
        assert piece.startswith(pack("<I", size) + b"x" * size + ending)
        assert not piece[4 + size :].strip(b"\0")


def test_a_piece_at_any_position() -> None:
    """A table with everything that it refers to has the same content at any position."""
    message = HTTPReqCallReq(5, b"1234", "GET", "/path", [("a", "b")], [("c", None)], 6)
    piece = message.encode()[4:]
    for gap in (0, 4, 400):
        assert HTTPReqCallReq.decode((4 + gap).to_bytes(4, "little") + bytes(gap) + piece + b"\xff" * gap) == message


def test_a_number_too_large() -> None:
    """A number of more than 32 bits raises LocalProtocolError."""
    with pytest.raises(LocalProtocolError, match="does not fit its field"):
        flatbuf.put_table(bytearray(), (2**32,))


@pytest.mark.parametrize("data", [b"plain", "é€😀".encode(), b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", bytes(range(256))])
def test_any_bytes_are_preserved(data: bytes) -> None:
    """Bytes that are not UTF-8 become surrogates, which are encoded as the same bytes."""
    out = bytearray()
    primitives.append_bytes(out, data)
    assert primitives.encode_text(primitives.text_at(bytes(out), 0)) == data


def test_a_lone_surrogate() -> None:
    """A surrogate that does not represent a byte can't be sent. The error contains its position, but not the text, which may be secret."""
    with pytest.raises(LocalProtocolError, match="its character 6 is a lone surrogate") as caught:
        primitives.encode_text("secret\ud800")
    assert "secret" not in str(caught.value)
