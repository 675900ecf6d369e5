# SPDX-License-Identifier: Apache-2.0
"""Reading is checked against the buffer's end at each step, and pieces are written so that they stand anywhere."""

from struct import pack

import pytest

from apisix.runner import primitives
from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire import flatbuf
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPRespCallResp, PrepareConfResp

# A table of one uint32 behind its vtable, as other writers lay it out: root, vtable (6, 8, 4), padding, table.
FOREIGN = pack("<IHHHHiI", 12, 6, 8, 4, 0, 8, 101)


def test_a_vtable_before_its_table() -> None:
    """Other writers put the vtable in front, ours stands behind: both are read."""
    assert PrepareConfResp(101) == PrepareConfResp.decode(FOREIGN)
    assert PrepareConfResp(101) == PrepareConfResp.decode(PrepareConfResp(101).encode())


def test_a_newer_schema_with_more_fields() -> None:
    """Fields behind those we know are skipped, as FlatBuffers promises to older readers."""
    newer = pack("<IHHHHHHiII", 16, 10, 12, 4, 8, 8, 0, 12, 101, 7)
    assert PrepareConfResp(101) == PrepareConfResp.decode(newer)


def test_an_older_schema_with_fewer_fields() -> None:
    """Fields that the writer did not know are absent."""
    assert HTTPRespCallResp(101) == HTTPRespCallResp.decode(FOREIGN)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 7, 28, 0xFFFE, 0xFFFF])
def test_a_vtable_of_impossible_size(size: int) -> None:
    """A vtable has an even size of at least four bytes, and lies within the buffer."""
    with pytest.raises(
        RemoteProtocolError, match=f"the vtable at byte 4 has {size} bytes" if size < 4 or size % 2 else f"bytes 4 to {4 + size} do not lie"
    ):
        PrepareConfResp.decode(pack("<IHHHHiI", 12, size, 8, 4, 0, 8, 101))


@pytest.mark.parametrize("distance", [13, 12 - 4 + len(FOREIGN), 100, 2**31 - 1])
def test_a_vtable_before_the_buffer(distance: int) -> None:
    """A negative position would count from the end in Python: it is refused, not read, even where a vtable stands there (28)."""
    with pytest.raises(RemoteProtocolError, match=f"bytes {12 - distance} to {14 - distance} "):
        PrepareConfResp.decode(pack("<IHHHHiI", 12, 6, 8, 4, 0, distance, 101))


@pytest.mark.parametrize("distance", [-9, -100, -(2**31)])
def test_a_vtable_behind_the_buffer(distance: int) -> None:
    """A vtable past the end is refused."""
    with pytest.raises(RemoteProtocolError, match=f"bytes {12 - distance} to {14 - distance} "):
        PrepareConfResp.decode(pack("<IHHHHiI", 12, 6, 8, 4, 0, distance, 101))


@pytest.mark.parametrize("root", [17, 20, 2**32 - 1])
def test_a_root_behind_the_buffer(root: int) -> None:
    """A root table past the end is refused."""
    with pytest.raises(RemoteProtocolError, match=f"bytes {root} to {root + 4} "):
        PrepareConfResp.decode(pack("<IHHHHiI", root, 6, 8, 4, 0, 8, 101))


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\0\0"])
def test_a_buffer_without_root(payload: bytes) -> None:
    """Less than four bytes are no message."""
    with pytest.raises(RemoteProtocolError, match="bytes 0 to 4 "):
        PrepareConfResp.decode(payload)


@pytest.mark.parametrize("size", range(9))
def test_pieces_are_multiples_of_four(size: int) -> None:
    """Strings end in a NUL, and every piece keeps what follows it aligned."""
    text, data = bytearray(), bytearray()
    flatbuf.put_table(text, ("x" * size,))
    flatbuf.put_table(data, (b"x" * size,))
    for table, ending in ((text, b"\0"), (data, b"")):
        piece = bytes(table[16:])  # behind the distance, the field and the vtable with its padding
        assert 0 == len(piece) % 4
        assert piece.startswith(pack("<I", size) + b"x" * size + ending)
        assert not piece[4 + size :].strip(b"\0")


def test_a_piece_stands_anywhere() -> None:
    """A table with all it refers to means the same at any position: that is why pieces can be joined once."""
    message = HTTPReqCallReq(5, b"1234", "GET", "/path", [("a", "b")], [("c", None)], 6)
    piece = message.encode()[4:]
    for gap in (0, 4, 400):
        assert message == HTTPReqCallReq.decode((4 + gap).to_bytes(4, "little") + bytes(gap) + piece + b"\xff" * gap)


def test_a_number_too_large() -> None:
    """A number of more than 32 bits is our own mistake."""
    with pytest.raises(LocalProtocolError, match="does not fit its field"):
        flatbuf.put_table(bytearray(), (2**32,))


@pytest.mark.parametrize("data", [b"plain", "é€😀".encode(), b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80", bytes(range(256))])
def test_any_bytes_survive(data: bytes) -> None:
    """What is no UTF-8 is escaped, and goes back byte for byte."""
    out = bytearray()
    primitives.append_bytes(out, data)
    assert data == primitives.encode_text(primitives.text_at(bytes(out), 0))


def test_a_lone_surrogate() -> None:
    """A surrogate that stands for no byte can't be sent. The error says where it is, and not what the text was: it may be secret."""
    with pytest.raises(LocalProtocolError, match="its character 6 is a lone surrogate") as caught:
        primitives.encode_text("secret\ud800")
    assert "secret" not in str(caught.value)
