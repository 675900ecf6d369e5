# SPDX-License-Identifier: Apache-2.0
"""Undo a body's content-encoding, within a bound."""

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from apisix.runner.errors import BodyError

DEFAULT_MAX_DECOMPRESSED_BYTES: Final = 64 * 2**20
"""A body of 16 MiB of gzip can become 16 GiB: that is where a worker stops."""


def decode_body(body: bytes, content_encoding: str, max_bytes: int = DEFAULT_MAX_DECOMPRESSED_BYTES) -> bytes:
    """
    Return a body without its content-encoding.

    Args:
        content_encoding: the header's value; several codings are undone from the last to the first.
        max_bytes: how long the result, and each step to it, may become.
    Raises: BodyError: a coding is unknown or its library not installed, the data is broken, or the result too long.
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    for coding in reversed([coding for coding in codings if coding and coding != "identity"]):
        decode = _DECODERS.get(coding)
        if decode is None:
            raise BodyError(
                f"the body's content-encoding {coding!r} is unknown, known are {', '.join(sorted(_DECODERS))}: "
                f"read(decode=False) gives the bytes as they came"
            )
        if body:
            body = decode(body, max_bytes)
    return body


def _too_long(coding: str, max_bytes: int) -> BodyError:
    return BodyError(f"the {coding} body becomes longer than {max_bytes} bytes, the bound that max_decompressed_bytes sets")


def _broken(coding: str, why: object) -> BodyError:
    return BodyError(f"the body is no whole {coding} stream: {why}")


def _streams(body: bytes, max_bytes: int, coding: str, new_stream: Callable[[], Any], error: type[Exception]) -> bytes:
    """Decompress one or several streams in a row, as gzip and zstd allow, with any decompressor of zlib's interface."""
    pieces: list[bytes] = []
    room = max_bytes
    while body:
        stream = new_stream()
        try:
            piece = stream.decompress(body, room + 1)
        except error as why:
            raise _broken(coding, why) from None
        room -= len(piece)
        if room < 0:
            raise _too_long(coding, max_bytes)
        if not stream.eof:
            raise _broken(coding, "it is cut short")
        pieces.append(piece)
        # Some servers pad the last stream with zeros, which gzip itself ignores too.
        body = stream.unused_data.lstrip(b"\0")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _gzip(body: bytes, max_bytes: int) -> bytes:
    return _streams(body, max_bytes, "gzip", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), zlib.error)


def _deflate(body: bytes, max_bytes: int) -> bytes:
    """RFC 9110 means zlib's format, but servers that send the bare stream are as old as the name."""
    is_zlib = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    wbits = zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
    return _streams(body, max_bytes, "deflate", lambda: zlib.decompressobj(wbits), zlib.error)


def _library(coding: str, *names: str) -> Any:
    """Import the first of several libraries that do the same. The last one is what the error advises to install."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise BodyError(f"a body with content-encoding {coding!r} needs a library that is not installed: pip install {names[-1]}")


def _brotli(body: bytes, max_bytes: int) -> bytes:
    library = _library("br", "brotlicffi", "brotli")
    stream = library.Decompressor()
    pieces: list[bytes] = []
    room = max_bytes
    try:
        while True:
            piece = bytes(stream.process(body, output_buffer_limit=room + 1))
            room -= len(piece)
            if room < 0:
                raise _too_long("br", max_bytes)
            pieces.append(piece)
            body = b""
            if stream.is_finished():
                return b"".join(pieces)
            if stream.can_accept_more_data():
                raise _broken("br", "it is cut short")
    except TypeError:
        # A few bytes of brotli can stand for gigabytes.
        raise BodyError("the installed brotli library can't bound what it decompresses: pip install 'brotli>=1.2'") from None
    except library.error as why:
        raise _broken("br", why) from None


def _zstd(body: bytes, max_bytes: int) -> bytes:
    library = _library("zstd", "compression.zstd", "backports.zstd")
    return _streams(body, max_bytes, "zstd", library.ZstdDecompressor, library.ZstdError)


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
