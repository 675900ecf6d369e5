# SPDX-License-Identifier: Apache-2.0
"""
The conversation of a gateway and a runner over one connection, as a state machine for either end.

One call at a time: a request, any number of questions and answers, one reply. Source: gateway contract, 1 and 6.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from apisix.runner.errors import LocalProtocolError, RemoteProtocolError, RunnerError
from apisix.runner.wire.call_messages import (
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    read_req_call,
    read_resp_call,
)
from apisix.runner.wire.frames import FrameDecoder, FrameType
from apisix.runner.wire.info_messages import ExtraInfoReq, ExtraInfoResp, read_extra_info_resp
from apisix.runner.wire.messages import ErrResp, PrepareConfReq, PrepareConfResp
from apisix.runner.wire.tables import Message


class Role(Enum):
    """Which end of the connection we are."""

    RUNNER = "runner"
    GATEWAY = "gateway"


class State(Enum):
    """Where the conversation stands; the same for both ends."""

    __hash__ = object.__hash__  # each message looks its state up; Enum's own is written in Python and four times slower

    IDLE = "idle"
    PREPARING = "preparing"
    REQUEST_CALL = "request call"
    RESPONSE_CALL = "response call"
    ERROR = "error"  # the peer broke the protocol: all that is left is to tell it so
    CLOSED = "closed"


class NeedData(Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA

# Who may send what, and where that leads. A question needs a call; an answer needs a question, see `_ASKING`.
# An error frame that answers nothing ends the conversation: the gateway would take it for the answer to its next call.
MOVES: Final[dict[Role, dict[State, dict[type[Message], State]]]] = {
    Role.GATEWAY: {
        State.IDLE: {
            PrepareConfReq: State.PREPARING,
            HTTPReqCallReq: State.REQUEST_CALL,
            HTTPRespCallReq: State.RESPONSE_CALL,
            ExtraInfoResp: State.IDLE,  # late: the runner replied (a deadline) before its questions were answered
        },
        State.PREPARING: {},
        State.REQUEST_CALL: {ExtraInfoResp: State.REQUEST_CALL},
        State.RESPONSE_CALL: {ExtraInfoResp: State.RESPONSE_CALL},
        State.ERROR: {},
        State.CLOSED: {},
    },
    Role.RUNNER: {
        State.IDLE: {ErrResp: State.CLOSED},
        State.PREPARING: {PrepareConfResp: State.IDLE, ErrResp: State.IDLE},
        State.REQUEST_CALL: {ExtraInfoReq: State.REQUEST_CALL, HTTPReqCallResp: State.IDLE, ErrResp: State.IDLE},
        State.RESPONSE_CALL: {ExtraInfoReq: State.RESPONSE_CALL, HTTPRespCallResp: State.IDLE, ErrResp: State.IDLE},
        State.ERROR: {ErrResp: State.CLOSED},
        State.CLOSED: {ErrResp: State.CLOSED},
    },
}

# How a message changes the number of unanswered questions.
_ASKING: Final[dict[type[Message], int]] = {ExtraInfoReq: 1, ExtraInfoResp: -1}

# The functions behind `decode`, which cost a call less.
_READ_AT_ONCE: Final[dict[type[Message], Callable[[bytes], Message]]] = {
    HTTPReqCallReq: read_req_call,
    HTTPRespCallReq: read_resp_call,
    ExtraInfoResp: read_extra_info_resp,
}

# New business waits until the old questions are answered: the gateway answers them all before it reads the reply.
_NEW_BUSINESS: Final = frozenset((PrepareConfReq, HTTPReqCallReq, HTTPRespCallReq))


class Move:
    """
    What a message does to the conversation.

    Attributes:
        kind: the message's class.
        decode: reads it off a payload.
        asking: what it adds to the unanswered questions.
        then: where it leads.
    """

    __slots__ = ("asking", "decode", "kind", "then")

    def __init__(self, kind: type[Message], then: "Place") -> None:
        self.kind = kind
        self.decode: Callable[[bytes], Message] = _READ_AT_ONCE.get(kind, kind.decode)
        self.asking = _ASKING.get(kind, 0)
        self.then = then


class Place:
    """
    A state as one end of the connection has it, with the ways that lead out of it: so a message costs one look-up.

    Attributes:
        state: which one.
        receiving: the moves of the peer, by the type of the frame; None where it may send none.
        sending: our moves, by the class of the message.
    """

    __slots__ = ("receiving", "sending", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.receiving: list[Move | None] = [None] * len(FrameType)
        self.sending: dict[type[Message], Move] = {}


def _places(role: Role, peer: Role) -> dict[State, Place]:
    places = {state: Place(state) for state in State}
    for state, place in places.items():
        for kind, then in MOVES[role][state].items():
            place.sending[kind] = Move(kind, places[then])
        for kind, then in MOVES[peer][state].items():
            place.receiving[kind.TYPE] = Move(kind, places[then])
    return places


_PLACES: Final = {Role.RUNNER: _places(Role.RUNNER, Role.GATEWAY), Role.GATEWAY: _places(Role.GATEWAY, Role.RUNNER)}


class Connection:
    """
    One end of a connection, without I/O.

    Give it what the socket brought with `receive_data`, then take events off with `next_event` until that returns
    NEED_DATA; write to the socket what `send` returns, whole and in order.

    Attributes:
        role: which end it is.
        unanswered: how many questions were asked and are not answered yet.
        decoder: what cuts the stream into frames. Who wants to save copies gives it the bytes itself.
    """

    __slots__ = ("_error", "_place", "decoder", "role", "unanswered")

    def __init__(self, role: Role) -> None:
        self.role = role
        self.unanswered = 0
        self.decoder = FrameDecoder()
        self._error: str | None = None  # how the peer broke the protocol
        self._place = _PLACES[role][State.IDLE]

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._place.state

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no call, no open question, no half frame. Then another process can go on with the socket."""
        return self._place.state is State.IDLE and not self.unanswered and not self.decoder.buffered_bytes

    def receive_data(self, data: bytes | bytearray) -> None:
        """
        Take bytes off the socket, in any pieces.

        Raises: RemoteProtocolError: the peer has broken the protocol before.
        """
        if self._error is not None:
            raise RemoteProtocolError(self._error)
        self.decoder.feed(data if type(data) is bytes else bytes(data))

    def next_event(self) -> Message | NeedData:
        """
        Return the next message, or NEED_DATA until more bytes have been received.

        Raises: RemoteProtocolError: the peer broke the protocol. After that each call raises again; a runner may still send ErrResp.
        """
        if self._error is not None:
            raise RemoteProtocolError(self._error)
        try:
            payload = self.decoder.next_payload()
            if payload is None:
                return NEED_DATA
            move = self._place.receiving[self.decoder.frame_type]
            if move is None:
                raise RemoteProtocolError(f"a frame of type {self.decoder.frame_type} is not allowed in state {self.state.name}")
            message = move.decode(payload)
            if self.unanswered or move.asking:
                self.unanswered = self._count(move, RemoteProtocolError)
        except RemoteProtocolError as error:
            self._place = _PLACES[self.role][State.ERROR]
            self._error = str(error)
            raise
        self._place = move.then
        return message

    def send(self, message: Message) -> bytearray:
        """
        Return the frame that carries a message.

        Raises:
            LocalProtocolError: the state does not allow the message, or it holds a value that can't be expressed.
            MessageTooLarge: it does not fit a frame. The state stays as it was, so that an ErrResp can be sent instead.
        """
        kind = type(message)
        move = self._place.sending.get(kind)
        if move is None:
            raise LocalProtocolError(f"{kind.__name__} can't be sent by the {self.role.value} in state {self.state.name}")
        unanswered = self._count(move, LocalProtocolError) if self.unanswered or move.asking else 0
        frame = message.encode_frame()
        self._place = move.then
        self.unanswered = unanswered
        return frame

    def _count(self, move: Move, error: type[RunnerError]) -> int:
        """Return how many questions are unanswered after a move."""
        unanswered = self.unanswered + move.asking
        if unanswered < 0:
            raise error(f"{move.kind.__name__} answers no question")
        if unanswered and move.kind in _NEW_BUSINESS:
            raise error(f"{move.kind.__name__} has to wait until {unanswered} questions are answered")
        return unanswered
