# SPDX-License-Identifier: Apache-2.0
"""Turn complete frames into broken ones, with a seeded generator, so that a run can be repeated."""

import random
from collections.abc import Callable, Sequence
from typing import Final

from apisix.runner.wire.frames import HEADER_BYTES, MAX_PAYLOAD_BYTES

WORDS: Final = (0, 1, 2, 3, 4, 8, 0x7FFF, 0xFFFF, 0x10000, 0x00FFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFC, 0xFFFFFFFF)
"""Offsets, lengths and vtables that point to the start, the end, past it, or before the buffer."""
MOST_CHANGES: Final = 4


class Mutator:
    """
    Endless broken frames.

    Args: seeds: whole frames, from which each is made. seed: of the generator: the same one gives the same frames.
    """

    def __init__(self, seeds: Sequence[bytes], seed: int) -> None:
        self._seeds = seeds
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._changes: Sequence[Callable[[bytearray], None]] = (
            self._flip,
            self._flip,
            self._set_byte,
            self._set_word,
            self._set_word,
            self._shift_word,
            self._set_short,
            self._remove,
            self._insert,
            self._splice,
        )

    def payload(self) -> bytes:
        """Return a broken payload without its header."""
        return self.changed(self._random.choice(self._seeds)[HEADER_BYTES:])

    def changed(self, payload: bytes) -> bytes:
        """Return a copy with up to `MOST_CHANGES` changes, perhaps cut off."""
        data = bytearray(payload)
        for _ in range(self._random.randint(1, MOST_CHANGES)):
            if data:
                self._random.choice(self._changes)(data)
        if self._random.random() < 0.1:
            del data[self._random.randint(0, len(data)) :]
        return bytes(data)

    def frame(self) -> bytes:
        """Return a frame. Most frames have a correct header and a broken payload, and some have a broken header."""
        seed = self._random.choice(self._seeds)
        payload = self.changed(seed[HEADER_BYTES:])
        frame_type, size = seed[0], len(payload)
        chance = self._random.random()
        if chance < 0.04:
            frame_type = self._random.randint(0, 255)
        elif chance < 0.10:
            frame_type = self._random.randint(0, 4)
        elif chance < 0.14:
            size = self._random.choice((0, 1, MAX_PAYLOAD_BYTES, self._random.randint(0, MAX_PAYLOAD_BYTES), max(0, size - 1)))
        elif chance < 0.18:
            size += self._random.randint(1, 64)
        return bytes([frame_type]) + size.to_bytes(3, "big") + payload

    def pieces(self, data: bytes) -> list[bytes]:
        """Split bytes into pieces as a socket may: usually one piece, sometimes a few, rarely single bytes."""
        chance = self._random.random()
        if chance < 0.8 or len(data) < 2:
            return [data]
        size = 1 if chance > 0.98 else self._random.randint(1, len(data))
        return [data[pos : pos + size] for pos in range(0, len(data), size)]

    def _at(self, data: bytearray) -> int:
        return self._random.randrange(len(data))

    def _word_at(self, data: bytearray) -> int:
        return self._at(data) & ~3

    def _flip(self, data: bytearray) -> None:
        data[self._at(data)] ^= 1 << self._random.randrange(8)

    def _set_byte(self, data: bytearray) -> None:
        data[self._at(data)] = self._random.randrange(256)

    def _set_word(self, data: bytearray) -> None:
        word = self._random.choice(WORDS) if self._random.random() < 0.7 else self._random.getrandbits(32)
        pos = self._word_at(data)
        data[pos : pos + 4] = word.to_bytes(4, "little")

    def _shift_word(self, data: bytearray) -> None:
        pos = self._word_at(data)
        word = int.from_bytes(data[pos : pos + 4], "little") + self._random.randint(-16, 16)
        data[pos : pos + 4] = (word & 0xFFFFFFFF).to_bytes(4, "little")

    def _set_short(self, data: bytearray) -> None:
        pos = self._at(data) & ~1
        data[pos : pos + 2] = self._random.choice((0, 2, 4, 6, 0xFFFE, 0xFFFF, self._random.getrandbits(16))).to_bytes(2, "little")

    def _remove(self, data: bytearray) -> None:
        pos = self._at(data)
        del data[pos : pos + self._random.choice((1, 2, 4, 8, 64))]

    def _insert(self, data: bytearray) -> None:
        pos = self._at(data)
        data[pos:pos] = self._random.randbytes(self._random.choice((1, 2, 4, 8, 64)))

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._seeds)
        data[self._at(data) :] = other[self._random.randrange(len(other)) :]
