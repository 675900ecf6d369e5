# SPDX-License-Identifier: Apache-2.0
"""
The state machine of a connection between a gateway and a runner, without I/O. One class serves both ends.

Theory of operation. A connection carries one call at a time: a request, any number of info requests and info replies, and one reply.
`TRANSITIONS` lists which messages each end may send in each state, and the state that follows. Both ends use the same table: whatever is
legal to send at one end is legal to receive at the other.

A runner may reply to a call while some of its info requests are open, for example after a deadline. The gateway sends the info replies
nevertheless, before it reads the reply. So the number of open info requests is counted separately, and neither end starts the next call
before it is 0.

Source: gateway contract, 1 and 6.
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
    """The two ends of a connection."""

    RUNNER = "runner"
    GATEWAY = "gateway"


class State(Enum):
    """The state of a connection. It is the same at both ends."""

    __hash__ = object.__hash__  # that of Enum is written in Python, and each message looks up its state

    IDLE = "idle"
    PREPARING = "preparing"
    REQUEST_CALL = "request call"
    RESPONSE_CALL = "response call"
    ERROR = "error"  # the peer violated the protocol; a runner may still send ErrResp
    CLOSED = "closed"


class NeedData(Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA

# If a runner sends ErrResp while no request is open, the connection can't be used any longer: the gateway would take it for the reply to
# its next request.
TRANSITIONS: Final[dict[Role, dict[State, dict[type[Message], State]]]] = {
    Role.GATEWAY: {
        State.IDLE: {
            PrepareConfReq: State.PREPARING,
            HTTPReqCallReq: State.REQUEST_CALL,
            HTTPRespCallReq: State.RESPONSE_CALL,
            ExtraInfoResp: State.IDLE,  # the runner replied to the call, for example after a deadline, while this was still open
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
"""The state that follows a message, by the end that sends it, the present state, and the class of the message. Others are not allowed."""

# How a message changes the number of open info requests.
_OPEN_CHANGES: Final[dict[type[Message], int]] = {ExtraInfoReq: 1, ExtraInfoResp: -1}

# These have the same result as `decode` of the class. C calls them directly.
_DECODERS: Final[dict[type[Message], Callable[[bytes], Message]]] = {
    HTTPReqCallReq: read_req_call,
    HTTPRespCallReq: read_resp_call,
    ExtraInfoResp: read_extra_info_resp,
}

# The messages that are not allowed while an info request is open.
_REQUESTS: Final = frozenset((PrepareConfReq, HTTPReqCallReq, HTTPRespCallReq))


class Transition:
    """
    How one message changes a connection.

    Attributes:
        message_type: the class of the message.
        decode: converts a payload to a message of this class.
        open_change: how the message changes the number of open info requests: 1, 0 or -1.
        target: the state that follows.
    """

    __slots__ = ("decode", "message_type", "open_change", "target")

    def __init__(self, message_type: type[Message], target: "StateNode") -> None:
        self.message_type = message_type
        self.decode: Callable[[bytes], Message] = _DECODERS.get(message_type, message_type.decode)
        self.open_change = _OPEN_CHANGES.get(message_type, 0)
        self.target = target


class StateNode:
    """
    A state at one end of a connection, with its transitions. The nodes refer to each other, so that a message needs one lookup.

    Attributes:
        state: the state.
        receiving: the transition for each type of frame that the peer may send; None if it may not send that type.
        sending: the transition for each class of message that this end may send.
    """

    __slots__ = ("receiving", "sending", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        self.receiving: list[Transition | None] = [None] * len(FrameType)
        self.sending: dict[type[Message], Transition] = {}


def _nodes(role: Role, peer: Role) -> dict[State, StateNode]:
    """Return the states at one end, connected as in TRANSITIONS."""
    nodes = {state: StateNode(state) for state in State}
    for state, node in nodes.items():
        for message_type, target in TRANSITIONS[role][state].items():
            node.sending[message_type] = Transition(message_type, nodes[target])
        for message_type, target in TRANSITIONS[peer][state].items():
            node.receiving[message_type.TYPE] = Transition(message_type, nodes[target])
    return nodes


_NODES: Final = {Role.RUNNER: _nodes(Role.RUNNER, Role.GATEWAY), Role.GATEWAY: _nodes(Role.GATEWAY, Role.RUNNER)}


class Connection:
    """
    One end of a connection, without I/O.

    Pass the bytes received from the socket to `receive_data`, then call `next_event` until it returns NEED_DATA. Write the return values
    of `send` to the socket, whole and in order.

    Attributes:
        role: which end this is.
        open_info_requests: the number of info requests without a reply so far.
        decoder: splits the received bytes into frames. To avoid a copy, bytes can be passed to it directly.
    """

    __slots__ = ("_error", "_node", "decoder", "open_info_requests", "role")

    def __init__(self, role: Role) -> None:
        self.role = role
        self.open_info_requests = 0
        self.decoder = FrameDecoder()
        self._error: str | None = None  # how the peer violated the protocol
        self._node = _NODES[role][State.IDLE]

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._node.state

    @property
    def idle(self) -> bool:
        """
        True if there is no call, no open info request, and no incomplete frame. Then another process can take over the socket.
        """
        return self._node.state is State.IDLE and not self.open_info_requests and not self.decoder.buffered_bytes

    def receive_data(self, data: bytes | bytearray) -> None:
        """
        Add bytes received from the socket: any part of the stream.

        Raises: RemoteProtocolError: the peer has violated the protocol before.
        """
        if self._error is not None:
            raise RemoteProtocolError(self._error)
        self.decoder.feed(data if type(data) is bytes else bytes(data))

    def next_event(self) -> Message | NeedData:
        """
        Return the next message, or NEED_DATA until more bytes have been received.

        Raises: RemoteProtocolError: the peer violated the protocol. Each further call raises it again; a runner may still send ErrResp.
        """
        if self._error is not None:
            raise RemoteProtocolError(self._error)
        try:
            payload = self.decoder.next_payload()
            if payload is None:
                return NEED_DATA
            transition = self._node.receiving[self.decoder.frame_type]
            if transition is None:
                raise RemoteProtocolError(f"a frame of type {self.decoder.frame_type} is not allowed in state {self.state.name}")
            message = transition.decode(payload)
            if self.open_info_requests or transition.open_change:
                self.open_info_requests = self._counted(transition, RemoteProtocolError)
        except RemoteProtocolError as error:
            self._node = _NODES[self.role][State.ERROR]
            self._error = str(error)
            raise
        self._node = transition.target
        return message

    def send(self, message: Message) -> bytearray:
        """
        Return the frame that contains a message. If this raises an error, the state does not change, so ErrResp can be sent instead.

        Raises:
            LocalProtocolError: the state of the connection does not allow the message, or it contains a value that can't be encoded.
            MessageTooLarge: the message does not fit into a frame.
        """
        message_type = type(message)
        transition = self._node.sending.get(message_type)
        if transition is None:
            raise LocalProtocolError(f"{message_type.__name__} can't be sent by the {self.role.value} in state {self.state.name}")
        count = self._counted(transition, LocalProtocolError) if self.open_info_requests or transition.open_change else 0
        frame = message.encode_frame()
        self._node = transition.target
        self.open_info_requests = count
        return frame

    def _counted(self, transition: Transition, error: type[RunnerError]) -> int:
        """Return the number of open info requests after a transition. Raise the error if the transition is not allowed with it."""
        count = self.open_info_requests + transition.open_change
        if count < 0:
            raise error(f"{transition.message_type.__name__} is not allowed, because no info request is open")
        if count and transition.message_type in _REQUESTS:
            raise error(
                f"{transition.message_type.__name__} is not allowed yet, because the number of info requests without a reply is {count}"
            )
        return count
