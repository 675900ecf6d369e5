# SPDX-License-Identifier: Apache-2.0
"""One stream of bytes in every kind of pieces that a socket may return. A reader must return the same for all of them."""

from collections.abc import Iterator


def cuts(stream: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield lists of pieces with a label: the whole stream, single bytes, pieces of several sizes, and two parts split at each byte."""
    yield "whole", [stream]
    for size in (1, 2, 3, 5, 7, 64, 4095, 4096, 4097):
        yield f"pieces of {size}", [stream[pos : pos + size] for pos in range(0, len(stream), size)]
    for pos in range(len(stream) if len(stream) < 2000 else 64):
        yield f"cut at {pos}", [stream[:pos], stream[pos:]]
    yield "with empty pieces", [b"", stream[:3], b"", stream[3:], b""]
