# SPDX-License-Identifier: Apache-2.0
"""Broken frames for the wire layer. The only possible results are a message and RemoteProtocolError."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from apisix.runner.errors import RemoteProtocolError
from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.frames import encode_frame
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq, HTTPReqCallReq, HTTPRespCallReq, Message, PrepareConfReq, ReqBody
from tests.fuzz.memory import Growth
from tests.fuzz.mutations import Mutator
from tests.wire.subjects import EXAMPLES, SENT_BY, content, golden_frames


def seeds(sender: Role) -> list[bytes]:
    """Return recorded frames of a real gateway and a real runner, and one message of each kind."""
    recorded = [encode_frame(frame.frame_type, frame.payload) for frame in golden_frames() if frame.sender is sender]
    return recorded + [bytes(message.encode_frame()) for message in EXAMPLES if type(message) in SENT_BY[sender]]


def prepared(receiver: Role, way: Sequence[Message]) -> Connection:
    """Return an end that can receive a frame in some state: a gateway that waits for a reply, or a runner that has sent an info request."""
    connection = Connection(receiver)
    for message in way:
        if type(message) in SENT_BY[receiver]:
            connection.send(message)
        else:
            connection.receive_data(message.encode_frame())
            connection.next_event()
    return connection


_CALL = HTTPReqCallReq(1)
WAYS: dict[Role, Sequence[Sequence[Message]]] = {
    Role.RUNNER: ((), (), (), (_CALL, ExtraInfoReq(ReqBody()))),
    Role.GATEWAY: ((_CALL,), (_CALL,), (HTTPRespCallReq(1),), (PrepareConfReq(()),)),
}


def feed(connection: Connection, pieces: Sequence[bytes]) -> str:
    """Pass bytes to an end and read every field of the messages. Return the outcome."""
    outcome = "incomplete"
    try:
        for piece in pieces:
            connection.receive_data(piece)
            while (event := connection.next_event()) is not NEED_DATA:
                touch(event)
                outcome = "read"
    except RemoteProtocolError:
        return "malformed"
    return outcome


def touch(event: Any) -> None:
    """Read every field of a message, look names up without decoding, and build it again if it is complete."""
    for name in ("headers", "args"):
        if (entries := getattr(event, name, None)) is not None:
            for sought in ("host", "", "content-type"):
                entries.find(sought)
                entries.find(sought, ignore_case=True)
    content(event)
    repr(event)
    if not isinstance(event, ErrResp):
        event.encode()


def run(frames: int, seed: int) -> bool:
    """Pass `frames` broken frames to both ends. Return True if there was no other outcome, and memory did not grow by 10 %."""
    mutators = {receiver: Mutator(seeds(sender), seed) for receiver, sender in ((Role.RUNNER, Role.GATEWAY), (Role.GATEWAY, Role.RUNNER))}
    outcomes: Counter[str] = Counter()
    growth = Growth(frames)
    began_s = time.monotonic()
    for number in range(frames):
        # Three of four to the runner's end, because that one receives from other processes.
        receiver = Role.GATEWAY if number % 4 == 3 else Role.RUNNER
        mutator = mutators[receiver]
        data = mutator.frame()
        ways = WAYS[receiver]
        try:
            outcomes[feed(prepared(receiver, ways[number // 4 % len(ways)]), mutator.pieces(data))] += 1
        except Exception:
            print(f"frame {number} of seed {seed}, to the {receiver.value}: {data.hex()}")
            raise
        growth.look(number)
    seconds = time.monotonic() - began_s
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{frames:,} frames over the wire layer in {seconds:.0f} s: {shown}; nothing but RemoteProtocolError was raised")
    print(growth)
    return growth.small
