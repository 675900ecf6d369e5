# SPDX-License-Identifier: Apache-2.0
"""Tests of decompression: a body is decompressed up to a limit, or BodyError is raised."""

import gzip
import os
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisix.runner.errors import BodyError
from apisix.runner.http.body import content_encoding
from apisix.runner.http.body.content_encoding import MAX_CODINGS, MAX_STREAMS, BodyTooLong, decode_body

BODY = b"some text, some text, some text"


def bare_deflate(body: bytes) -> bytes:
    """Compress without the header of zlib, as some servers do."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


def gzipped(body: bytes) -> bytes:
    """Compress without a time, which would change the name of a test every second."""
    return gzip.compress(body, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzipped(BODY)),
        ("X-GZIP", gzipped(BODY)),
        ("gzip", gzipped(BODY[:5]) + gzipped(BODY[5:])),
        ("gzip", gzipped(BODY) + b"\0\0\0"),
        ("deflate", zlib.compress(BODY)),
        ("deflate", bare_deflate(BODY)),
        ("deflate, gzip", gzipped(zlib.compress(BODY))),
        ("identity", BODY),
        (" , Identity ,", BODY),
        ("", BODY),
    ],
)
def test_known_encodings(encoding: str, encoded: bytes) -> None:
    """Known codings are decompressed, several of them from the last to the first."""
    assert decode_body(encoded, encoding) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_no_body(encoding: str) -> None:
    """An empty body remains empty, and no library is imported for it."""
    assert decode_body(b"", encoding) == b""


@pytest.mark.parametrize(
    ("encoding", "encoded"), [("gzip", gzipped(BODY)), ("deflate", zlib.compress(BODY)), ("deflate", bare_deflate(BODY))]
)
def test_broken_streams(encoding: str, encoded: bytes) -> None:
    """A truncated or invalid stream raises BodyError."""
    for broken in (encoded[:-1], encoded[:3], b"\xff" + encoded, encoded + b"rest"):
        with pytest.raises(BodyError, match=f"not a complete {encoding} stream"):
            decode_body(broken, encoding)


def test_limit() -> None:
    """The limit is exact. It applies to the result, to the sum of several streams, and to each coding."""
    bomb = gzip.compress(bytes(1001))
    assert len(decode_body(bomb, "gzip", 1001)) == 1001
    for encoding, body in (
        ("gzip", bomb),
        ("gzip", gzip.compress(bytes(600)) * 2),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(10**5)))),
    ):
        with pytest.raises(BodyError, match="longer than 1000 bytes"):
            decode_body(body, encoding, 1000)


def test_limit_of_all_codings_together() -> None:
    """The lengths of the results of all codings are added."""
    inner = gzipped(bytes(1000))
    assert decode_body(gzipped(inner), "gzip, gzip", 1000 + len(inner)) == bytes(1000)
    with pytest.raises(BodyTooLong, match=f"longer than {999 + len(inner)} bytes"):
        decode_body(gzipped(inner), "gzip, gzip", 999 + len(inner))


def test_limit_of_codings() -> None:
    """The number of codings is limited, and checked first."""
    body = BODY
    for _ in range(MAX_CODINGS):
        body = gzipped(body)
    assert decode_body(body, ",".join(["gzip"] * MAX_CODINGS)) == BODY
    with pytest.raises(BodyError, match=f"has {MAX_CODINGS + 1} codings, at most {MAX_CODINGS}"):
        decode_body(gzipped(body), ",".join(["gzip"] * (MAX_CODINGS + 1)))


def test_limit_of_streams() -> None:
    """The number of streams is limited, since an empty one needs only a few bytes."""
    assert decode_body(gzipped(b"a") * MAX_STREAMS + b"\0", "gzip") == b"a" * MAX_STREAMS
    with pytest.raises(BodyError, match=f"at most {MAX_STREAMS} streams"):
        decode_body(gzipped(b"") * (MAX_STREAMS + 1), "gzip")


def test_streams_of_any_length() -> None:
    """Streams may begin and end at any position of the slices that are decompressed."""
    pieces = [os.urandom(size) for size in (1, 65_500, 3, 65_536, 70_000, 200_000, 0, 5)]
    assert decode_body(b"".join(map(gzipped, pieces)) + bytes(200_000), "gzip") == b"".join(pieces)


def test_a_decompressor_gets_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decompressor copies the bytes after the end of a stream. It gets slices, so that this is not the rest of a long body."""
    given: list[int] = []

    class Stream:
        eof = True

        def decompress(self, data: bytes, max_length: int) -> bytes:
            given.append(len(data))
            self.unused_data = data[1000:]
            return b""

    monkeypatch.setitem(sys.modules, "compression.zstd", SimpleNamespace(ZstdDecompressor=Stream, ZstdError=zlib.error))
    decode_body(bytes([1]) * 640_000, "zstd")
    assert max(given) == 65_536


@pytest.mark.parametrize("compress", [zlib.compress, bare_deflate])
def test_deflate_is_one_stream(compress: Callable[[bytes], bytes]) -> None:
    """Bytes after the stream are ignored."""
    with pytest.raises(BodyError, match="it is followed by more data"):
        decode_body(compress(BODY) + compress(b"") * 2, "deflate")
    assert decode_body(compress(BODY) + b"\0\0", "deflate") == BODY


def test_unknown_encoding() -> None:
    """The error has the known codings, and how to get the bytes."""
    with pytest.raises(BodyError, match=r"'lzma' is unknown; the known ones are br, deflate, gzip.*read\(decode=False\)"):
        decode_body(b"x", "gzip, lzma")


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=60), encoding=st.sampled_from(["gzip", "deflate", "gzip, deflate"]))
def test_any_bytes(body: bytes, encoding: str) -> None:
    """Any bytes are decompressed or raise BodyError."""
    with suppress(BodyError):
        assert len(decode_body(body, encoding, 1000)) <= 1000


@pytest.mark.parametrize(("encoding", "advice"), [("br", "pip install brotli"), ("zstd", "pip install backports.zstd")])
def test_missing_library(encoding: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no library is installed, the error names one to install."""
    for name in ("brotlicffi", "brotli", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BodyError, match=advice):
        decode_body(b"x", encoding)


class FakeBrotli:
    """A decompressor with the interface of brotli 1.2, for a format in which each byte is repeated ten times, and 0 ends the stream."""

    def __init__(self) -> None:
        self._waiting = b""
        self._finished = False

    def process(self, data: bytes, *, output_buffer_limit: int) -> bytes:
        if data.startswith(b"!"):
            raise ArithmeticError("garbled")
        self._waiting += b"".join(bytes([byte]) * 10 for byte in data.rstrip(b"\0"))
        self._finished = self._finished or data.endswith(b"\0")
        piece, self._waiting = self._waiting[:output_buffer_limit], self._waiting[output_buffer_limit:]
        return piece

    def is_finished(self) -> bool:
        return self._finished and not self._waiting

    def can_accept_more_data(self) -> bool:
        return not self._waiting


class TestBrotli:
    """Decompression with brotli. The library is optional, so a fake replaces it."""

    @pytest.fixture(autouse=True)
    def library(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        """Install the fake library."""
        library = SimpleNamespace(Decompressor=FakeBrotli, error=ArithmeticError)
        monkeypatch.setitem(sys.modules, "brotlicffi", library)
        return library

    def test_whole(self) -> None:
        """A complete stream is decompressed up to the limit."""
        assert decode_body(b"ab\0", "br", 20) == b"a" * 10 + b"b" * 10
        with pytest.raises(BodyError, match="longer than 19 bytes"):
            decode_body(b"ab\0", "br", 19)

    @pytest.mark.parametrize(("body", "why"), [(b"ab", "truncated"), (b"!", "garbled")])
    def test_broken(self, body: bytes, why: str) -> None:
        """A truncated or invalid stream raises BodyError."""
        with pytest.raises(BodyError, match=f"not a complete br stream: .*{why}"):
            decode_body(body, "br")

    def test_old_library(self, library: SimpleNamespace) -> None:
        """A release that can't limit its output is refused, since a few bytes can represent gigabytes."""

        class Old:
            def process(self, data: bytes) -> bytes:
                return data

        library.Decompressor = Old
        with pytest.raises(BodyError, match=r"pip install 'brotli>=1\.2'"):
            decode_body(b"ab\0", "br")


def test_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of zstd has the interface of zlib."""
    library = SimpleNamespace(ZstdDecompressor=zlib.decompressobj, ZstdError=zlib.error)
    monkeypatch.setitem(sys.modules, "compression.zstd", library)
    assert decode_body(zlib.compress(BODY), "zstd") == BODY
    with pytest.raises(BodyError, match="not a complete zstd stream"):
        decode_body(b"xyz", "zstd")


def test_default_limit() -> None:
    """The default limit is 64 MiB."""
    assert content_encoding.DEFAULT_MAX_DECOMPRESSED_BYTES == 64 * 2**20
