# SPDX-License-Identifier: Apache-2.0
"""What a hostile or broken peer sends over one connection: scripts of bytes, most of which contain broken frames."""

import random
from collections.abc import Callable, Sequence

from apisix.runner.wire.messages import ExtraInfoResp, HTTPReqCallReq, HTTPRespCallReq, PrepareConfReq
from tests.fuzz.mutations import Mutator

HEADERS = [("host", "example.com"), ("user-agent", "fuzz"), ("x-flag", ""), ("cookie", "a=1"), ("accept", "*/*")]
ARGS = [("a", "1"), ("a", "2"), ("flag", None), ("empty", "")]


class Attacks:
    """
    Endless scripts.

    Attributes:
        broken: how many broken frames were returned so far.

    Args: request_token, response_token: of configurations that the runner has, so that the messages reach a plugin.
    """

    def __init__(self, request_token: int, response_token: int, seed: int) -> None:
        self.broken = 0
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._call = bytes(HTTPReqCallReq(1, b"\x7f\0\0\1", "POST", "/f\udcffuzz", ARGS, HEADERS, request_token).encode_frame())
        self._response = bytes(HTTPRespCallReq(2, 200, HEADERS, response_token).encode_frame())
        self._answer = bytes(ExtraInfoResp(b"an answer" * 10).encode_frame())
        prepare = bytes(PrepareConfReq([("reads-all", "{}"), ("no-such", '{"a": 1}')], "route#1#ext-plugin-pre-req#1").encode_frame())
        self._mutator = Mutator((self._call, self._call, self._response, self._answer, prepare), seed)
        self._answers = Mutator((self._answer,), seed)
        self._scripts: Sequence[tuple[float, Callable[[], bytes]]] = (
            (0.50, self._frame),
            (0.20, self._frames),
            (0.06, self._answers_never_asked_for),
            (0.06, self._too_many_answers),
            (0.06, self._call_in_a_call),
            (0.04, self._half_a_frame),
            (0.04, self._oversized),
            (0.04, self._unknown_type),
        )

    def script(self) -> list[bytes]:
        """Return the pieces of bytes to send over one connection."""
        (_, make), *_ = self._random.choices(self._scripts, [weight for weight, _ in self._scripts])
        return self._mutator.pieces(make())

    def broken_answer(self) -> bytes:
        """Return a reply to an info request. Its type is usually valid, and its content is often broken."""
        return self._answer if self._random.random() < 0.3 else self._count(self._answers.frame())

    def slow_frame(self) -> bytes:
        """Return a complete call, which is sent byte by byte over a long time."""
        return self._call

    def _count(self, data: bytes, frames: int = 1) -> bytes:
        self.broken += frames
        return data

    def _frame(self) -> bytes:
        return self._count(self._mutator.frame())

    def _frames(self) -> bytes:
        return self._count(b"".join(self._mutator.frame() for _ in range(3)), 3)

    def _answers_never_asked_for(self) -> bytes:
        return self._count(self._answer)

    def _too_many_answers(self) -> bytes:
        return self._count(self._call + self._answer * self._random.randint(3, 6))

    def _call_in_a_call(self) -> bytes:
        return self._count(self._call + self._random.choice((self._call, self._response)))

    def _half_a_frame(self) -> bytes:
        frame = self._random.choice((self._call, self._response))
        return self._count(frame[: self._random.randrange(1, len(frame))])

    def _oversized(self) -> bytes:
        return self._count(bytes([self._random.randint(1, 4)]) + b"\xff\xff\xff" + self._random.randbytes(self._random.randint(0, 20_000)))

    def _unknown_type(self) -> bytes:
        return self._count(bytes([self._random.randint(5, 255)]) + self._call[1:])
