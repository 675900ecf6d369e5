# SPDX-License-Identifier: Apache-2.0
"""Decompress a body by its content-encoding, with bounds on the work that a sender can cause."""

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from apisix.runner.errors import BodyError

DEFAULT_MAX_DECOMPRESSED_BYTES: Final = 64 * 2**20
"""The default of `max_decompressed_size`. Without a limit, 16 MiB of gzip can become 16 GiB."""
MAX_CODINGS: Final = 5
"""How many codings a content-encoding may have."""
MAX_STREAMS: Final = 1000
"""How many streams (members of gzip, frames of zstd) a body may have. An empty one needs as much work as a short one."""
_SLICE_BYTES: Final = 64 * 2**10
"""How much of a body is decompressed at a time. A decompressor copies what follows the end of a stream."""


class BodyTooLong(BodyError):
    """The decompressed body is longer than the limit."""


def codings_of(content_encoding: str) -> list[str]:
    """
    Return the codings of a content-encoding, in lower case, without `identity`.

    Raises:
        BodyError: there are more than `MAX_CODINGS`, or one is unknown.
    """
    codings = [coding for coding in (part.strip().lower() for part in content_encoding.split(",")) if coding and coding != "identity"]
    if len(codings) > MAX_CODINGS:
        raise BodyError(
            f"the body has {len(codings)} codings, at most {MAX_CODINGS} can be decoded: read(decode=False) returns the received bytes"
        )
    for coding in codings:
        if coding not in _DECODERS:
            raise BodyError(
                f"the body's content-encoding {coding[:40]!r} is unknown; the known ones are {', '.join(sorted(_DECODERS))}: "
                f"read(decode=False) returns the received bytes"
            )
    return codings


def decode_body(body: bytes, content_encoding: str, max_bytes: int = DEFAULT_MAX_DECOMPRESSED_BYTES) -> bytes:
    """
    Return a decompressed body.

    The work is limited by `max_bytes`, `MAX_CODINGS` and `MAX_STREAMS`.

    Args:
        content_encoding: the header's value. Several codings are decoded from the last to the first.
        max_bytes: the limit for the total length of the results of all codings.
    Raises:
        BodyTooLong: the results are longer.
        BodyError: there are too many codings or streams, a coding is unknown or its library is not installed, or the data is invalid.
    """
    remaining = max_bytes
    for coding in reversed(codings_of(content_encoding)):
        if body:
            try:
                body = _DECODERS[coding](body, remaining)
            except BodyTooLong:
                raise BodyTooLong(
                    f"the decompressed {coding} body is longer than {max_bytes} bytes, the value of max_decompressed_size"
                ) from None
            remaining -= len(body)
    return body


def decode_body_or_error(body: bytes, content_encoding: str, max_bytes: int) -> bytes | BodyError:
    """Same as `decode_body`, but return a BodyError, so that it can be kept and decompression is not tried again."""
    try:
        return decode_body(body, content_encoding, max_bytes)
    except BodyError as error:
        return error.with_traceback(None)


def _broken(coding: str, why: object) -> BodyError:
    return BodyError(f"the body is not a complete {coding} stream: {why}")


def _streams(
    body: bytes, remaining: int, coding: str, new_stream: Callable[[], Any], error: type[Exception], max_streams: int = MAX_STREAMS
) -> bytes:
    """Decompress one stream or several consecutive ones, as gzip and zstd allow, with a decompressor that has the interface of zlib's."""
    pieces: list[bytes] = []
    streams = 0
    stream: Any = None
    for start in range(0, len(body), _SLICE_BYTES):
        data = body[start : start + _SLICE_BYTES]
        while data:
            if stream is None:
                # Some servers pad the last stream with zeros, which gzip itself ignores too.
                data = data.lstrip(b"\0") if streams else data
                if not data:
                    break
                if streams == max_streams:
                    raise _broken(coding, f"it is followed by more data, and at most {max_streams} streams are read")
                stream = new_stream()
                streams += 1
            try:
                piece = stream.decompress(data, remaining + 1)
            except error as why:
                raise _broken(coding, why) from None
            remaining -= len(piece)
            if remaining < 0:
                raise BodyTooLong
            pieces.append(piece)
            data = b""
            if stream.eof:
                data = stream.unused_data
                stream = None
    if stream is not None:
        raise _broken(coding, "it is truncated")
    return b"".join(pieces)


def _gzip(body: bytes, remaining: int) -> bytes:
    return _streams(body, remaining, "gzip", lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), zlib.error)


def _deflate(body: bytes, remaining: int) -> bytes:
    """
    Decompress one deflate stream.

    RFC 9110 specifies the zlib format, but some servers send the raw stream.
    """
    is_zlib = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    wbits = zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
    return _streams(body, remaining, "deflate", lambda: zlib.decompressobj(wbits), zlib.error, max_streams=1)


def _library(coding: str, *names: str) -> Any:
    """Import the first of several equivalent libraries that is installed. The error message recommends the last one."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise BodyError(f"a body with content-encoding {coding!r} needs a library that is not installed: pip install {names[-1]}")


def _brotli(body: bytes, remaining: int) -> bytes:
    library = _library("br", "brotlicffi", "brotli")
    stream = library.Decompressor()
    pieces: list[bytes] = []
    try:
        while True:
            piece = bytes(stream.process(body, output_buffer_limit=remaining + 1))
            remaining -= len(piece)
            if remaining < 0:
                raise BodyTooLong
            pieces.append(piece)
            body = b""
            if stream.is_finished():
                return b"".join(pieces)
            if stream.can_accept_more_data():
                raise _broken("br", "it is truncated")
    except TypeError:
        # A few bytes of brotli can represent gigabytes.
        raise BodyError("the installed brotli library can't limit the decompressed length: pip install 'brotli>=1.2'") from None
    except library.error as why:
        raise _broken("br", why) from None


def _zstd(body: bytes, remaining: int) -> bytes:
    library = _library("zstd", "compression.zstd", "backports.zstd")
    return _streams(body, remaining, "zstd", library.ZstdDecompressor, library.ZstdError)


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
