# SPDX-License-Identifier: Apache-2.0
"""Tests of the state machine of a connection. Each end is tested with the other."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.errors import ErrCode, LocalProtocolError, MessageTooLarge, RemoteProtocolError
from apisix.runner.wire.connection import NEED_DATA, TRANSITIONS, Connection, NeedData, Role, State
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES, encode_frame
from apisix.runner.wire.messages import (
    ErrResp,
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Message,
    PrepareConfReq,
    PrepareConfResp,
    ReqBody,
    Rewrite,
    Stop,
    Var,
)
from tests.wire.pieces import cuts
from tests.wire.subjects import EXAMPLES, SENT_BY, TABLES, golden_frames

EXAMPLE: dict[type[Message], Message] = {type(message): message for message in EXAMPLES}

# The transitions of the gateway contract, 1 and 6, written independently of the implementation.
TRANSITION_LINES = """
IDLE           gateway PrepareConf.Req    PREPARING
IDLE           gateway HTTPReqCall.Req    REQUEST_CALL
IDLE           gateway HTTPRespCall.Req   RESPONSE_CALL
IDLE           runner  Err.Resp           CLOSED
PREPARING      runner  PrepareConf.Resp   IDLE
PREPARING      runner  Err.Resp           IDLE
REQUEST_CALL   runner  ExtraInfo.Req      REQUEST_CALL
REQUEST_CALL   runner  HTTPReqCall.Resp   IDLE
REQUEST_CALL   runner  Err.Resp           IDLE
RESPONSE_CALL  runner  ExtraInfo.Req      RESPONSE_CALL
RESPONSE_CALL  runner  HTTPRespCall.Resp  IDLE
RESPONSE_CALL  runner  Err.Resp           IDLE
CLOSED         runner  Err.Resp           CLOSED
"""
MESSAGES_TO: dict[State, tuple[Message, ...]] = {
    State.IDLE: (),
    State.PREPARING: (PrepareConfReq(),),
    State.REQUEST_CALL: (HTTPReqCallReq(),),
    State.RESPONSE_CALL: (HTTPRespCallReq(),),
    State.CLOSED: (ErrResp(ErrCode.BAD_REQUEST),),
}
"""The messages that lead from IDLE to each state."""


ALLOWED = {
    (State[state], Role(role), table): State[target] for state, role, table, target in map(str.split, TRANSITION_LINES.strip().splitlines())
}


class Ends:
    """A gateway and a runner that are connected to each other."""

    def __init__(self) -> None:
        self.ends = {role: Connection(role) for role in Role}
        self.gateway = self.ends[Role.GATEWAY]
        self.runner = self.ends[Role.RUNNER]

    def pass_on(self, message: Message) -> Message | NeedData:
        """Send a message from the end that may send it, and return the event at the other end."""
        (sender,) = (role for role in Role if type(message) in SENT_BY[role])
        data = self.ends[sender].send(message)
        (receiver,) = (end for role, end in self.ends.items() if role is not sender)
        receiver.receive_data(data)
        return receiver.next_event()

    def go_to(self, state: State) -> None:
        """Bring both ends into a state."""
        for message in MESSAGES_TO[state]:
            assert self.pass_on(message) == message
        assert (self.gateway.state, self.runner.state) == (state, state)


def _drain(connection: Connection) -> None:
    """Read all events."""
    while connection.next_event() is not NEED_DATA:
        pass


@pytest.mark.parametrize(
    ("state", "sender", "kind"),
    [(state, role, kind) for state, role in product(MESSAGES_TO, Role) for kind in SENT_BY[role]],
    ids=lambda value: value.name if isinstance(value, State | Role) else value.__name__,
)
def test_every_message_in_every_state(state: State, sender: Role, kind: type[Message]) -> None:
    """
    An allowed message leads to the same state at both ends. Any other can't be sent. If it is received nevertheless, that is an error.
    """
    ends = Ends()
    ends.go_to(state)
    message = EXAMPLE[kind]
    target = ALLOWED.get((state, sender, TABLES[kind]))
    if target is not None:
        assert ends.pass_on(message) == message
        assert (ends.gateway.state, ends.runner.state) == (target, target)
        return
    with pytest.raises(LocalProtocolError, match=kind.__name__):
        ends.ends[sender].send(message)
    assert ends.ends[sender].state is state
    (receiver,) = (end for role, end in ends.ends.items() if role is not sender)
    receiver.receive_data(message.encode_frame())
    with pytest.raises(RemoteProtocolError):
        receiver.next_event()
    assert receiver.state is State.ERROR


@pytest.mark.parametrize(("sender", "kind"), [(role, kind) for role in Role for kind in SENT_BY[role]])
def test_messages_of_the_other_end_cannot_be_sent(sender: Role, kind: type[Message]) -> None:
    """An end can't send a message of the other end in any state."""
    for state in MESSAGES_TO:
        ends = Ends()
        ends.go_to(state)
        other = next(end for role, end in ends.ends.items() if role is not sender)
        with pytest.raises(LocalProtocolError):
            other.send(EXAMPLE[kind])


def test_the_table_is_complete() -> None:
    """The table has every state for both roles, and only messages that the role sends."""
    for role in Role:
        assert set(TRANSITIONS[role]) == set(State)
        for transitions in TRANSITIONS[role].values():
            assert set(transitions) <= set(SENT_BY[role])


def test_a_call_with_info_requests() -> None:
    """A call, two info requests back to back, their info replies in order, and the reply."""
    ends = Ends()
    call = HTTPReqCallReq(0, b"\x7f\0\0\1", "POST", "/a", conf_token=5)
    assert ends.pass_on(call) == call
    ends.gateway.receive_data(ends.runner.send(ExtraInfoReq(ReqBody())) + ends.runner.send(ExtraInfoReq(Var("scheme"))))
    assert ends.runner.open_info_requests == 2
    assert ends.gateway.next_event() == ExtraInfoReq(ReqBody())
    assert ends.gateway.open_info_requests == 1
    assert ends.gateway.next_event() == ExtraInfoReq(Var("scheme"))
    ends.runner.receive_data(ends.gateway.send(ExtraInfoResp(b"body")) + ends.gateway.send(ExtraInfoResp(b"http")))
    assert ends.runner.next_event() == ExtraInfoResp(b"body")
    assert ends.runner.next_event() == ExtraInfoResp(b"http")
    assert ends.runner.next_event() is NEED_DATA
    assert (ends.runner.open_info_requests, ends.gateway.open_info_requests) == (0, 0)
    assert ends.pass_on(HTTPReqCallResp(0)) == HTTPReqCallResp(0)
    assert ends.runner.idle
    assert ends.gateway.idle


@pytest.mark.parametrize("reply", [HTTPReqCallResp(0), ErrResp(ErrCode.SERVICE_UNAVAILABLE)])
def test_a_reply_before_the_info_reply(reply: Message) -> None:
    """After a deadline, the runner replies while an info request is open. The info reply is received in IDLE, before the next call."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    ends.gateway.receive_data(ends.runner.send(ExtraInfoReq(ReqBody())) + ends.runner.send(reply))
    assert ends.runner.open_info_requests == 1
    assert not ends.runner.idle
    assert ends.gateway.next_event() == ExtraInfoReq(ReqBody())
    assert ends.gateway.next_event() == reply
    with pytest.raises(LocalProtocolError, match="is not allowed yet, because the number of info requests without a reply is 1"):
        ends.gateway.send(HTTPReqCallReq())
    assert ends.pass_on(ExtraInfoResp(b"late")) == ExtraInfoResp(b"late")
    assert ends.runner.idle
    assert ends.pass_on(HTTPReqCallReq()) == HTTPReqCallReq()


@pytest.mark.parametrize("call", [HTTPReqCallReq(), HTTPRespCallReq(), PrepareConfReq()])
def test_a_call_while_an_info_request_is_open(call: Message) -> None:
    """A call that is received while an info request is open is an error: the next info reply could belong to either call."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    ends.runner.send(ExtraInfoReq(ReqBody()))
    ends.runner.send(HTTPReqCallResp(0))
    ends.runner.receive_data(call.encode_frame())
    with pytest.raises(RemoteProtocolError, match="is not allowed yet, because the number of info requests without a reply is 1"):
        ends.runner.next_event()


@pytest.mark.parametrize("state", [State.IDLE, State.REQUEST_CALL, State.RESPONSE_CALL])
def test_an_info_reply_without_an_info_request(state: State) -> None:
    """An info reply without an info request is an error at both ends, during a call and between calls."""
    ends = Ends()
    ends.go_to(state)
    with pytest.raises(LocalProtocolError, match="no info request is open"):
        ends.gateway.send(ExtraInfoResp())
    ends.runner.receive_data(ExtraInfoResp().encode_frame())
    with pytest.raises(RemoteProtocolError, match="no info request is open"):
        ends.runner.next_event()


def test_a_second_info_reply() -> None:
    """A second info reply to one info request is an error."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    ends.runner.send(ExtraInfoReq(ReqBody()))
    ends.runner.receive_data(ExtraInfoResp(b"1").encode_frame() + ExtraInfoResp(b"2").encode_frame())
    assert ends.runner.next_event() == ExtraInfoResp(b"1")
    with pytest.raises(RemoteProtocolError, match="no info request is open"):
        ends.runner.next_event()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x09\0\0\1x",
        b"\2\0\0\0",
        b"\2\0\0\4\xff\xff\xff\xff",
        PrepareConfResp(1).encode_frame(),
        b"\0\0\0\1x",
        HTTPReqCallReq().encode_frame() * 2,
    ],
    ids=["unknown type", "empty", "malformed", "reply of a runner", "error frame", "two calls"],
)
def test_after_an_error(garbage: bytes) -> None:
    """After the peer has violated the protocol, each call raises the error again. Only ErrResp can be sent."""
    runner = Connection(Role.RUNNER)
    runner.receive_data(garbage)
    errors = []
    for _ in range(3):
        with pytest.raises(RemoteProtocolError) as caught:
            _drain(runner)
        errors.append(str(caught.value))
    assert len(set(errors)) == 1
    states = [runner.state]
    assert not runner.idle
    with pytest.raises(RemoteProtocolError):
        runner.receive_data(HTTPReqCallReq().encode_frame())
    with pytest.raises(LocalProtocolError):
        runner.send(HTTPReqCallResp(0))
    assert runner.send(ErrResp(ErrCode.BAD_REQUEST)) == ErrResp(ErrCode.BAD_REQUEST).encode_frame()
    states.append(runner.state)
    assert states == [State.ERROR, State.CLOSED]
    with pytest.raises(RemoteProtocolError):
        runner.next_event()


def test_a_gateway_sends_nothing_after_an_error() -> None:
    """Only runners send ErrResp, so a gateway can send nothing after the runner has violated the protocol."""
    gateway = Connection(Role.GATEWAY)
    gateway.receive_data(b"\x09\0\0\1x")
    with pytest.raises(RemoteProtocolError):
        gateway.next_event()
    for message in EXAMPLES:
        with pytest.raises(LocalProtocolError):
            gateway.send(message)


@pytest.mark.parametrize(
    ("unsendable", "error"),
    [
        pytest.param(HTTPReqCallResp(0, Stop(body=bytes(MAX_PAYLOAD_BYTES))), MessageTooLarge, id="too large"),
        pytest.param(HTTPReqCallResp(0, Stop(2**16)), LocalProtocolError, id="status"),
        pytest.param(HTTPReqCallResp(2**40, Rewrite()), LocalProtocolError, id="id"),
    ],
)
def test_a_reply_that_cannot_be_sent_changes_nothing(unsendable: Message, error: type[Exception]) -> None:
    """If a reply can't be encoded, the state does not change, so that ErrResp can be sent instead."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    with pytest.raises(error):
        ends.runner.send(unsendable)
    assert ends.runner.state is State.REQUEST_CALL
    assert ends.pass_on(ErrResp(ErrCode.SERVICE_UNAVAILABLE)) == ErrResp(ErrCode.SERVICE_UNAVAILABLE)
    assert ends.gateway.idle


def test_an_info_request_that_cannot_be_sent_does_not_count() -> None:
    """An info request that can't be encoded is not counted as open."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    with pytest.raises(LocalProtocolError):
        ends.runner.send(ExtraInfoReq(Var("\ud800")))
    assert ends.runner.open_info_requests == 0


def test_a_connection_with_an_incomplete_frame_is_not_idle() -> None:
    """A connection that has received a part of a frame, even of its header, is not idle."""
    frame = HTTPReqCallReq().encode_frame()
    for size in range(1, len(frame)):
        runner = Connection(Role.RUNNER)
        assert runner.idle
        runner.receive_data(frame[:size])
        assert runner.next_event() is NEED_DATA
        assert not runner.idle


def test_a_message_is_a_whole_frame() -> None:
    """`send` returns one whole frame, so that it is sent in one write."""
    ends = Ends()
    call = HTTPReqCallReq(1, path="/a")
    assert ends.gateway.send(call) == encode_frame(2, call.encode())


@pytest.mark.parametrize("label", sorted({frame.label for frame in golden_frames()}))
def test_recorded_frames(label: str) -> None:
    """Both ends accept the recorded frames of every connection."""
    frames = [frame for frame in golden_frames() if frame.label == label]
    # A recording has frames of two connections: one with PrepareConf, one with the calls.
    for kinds in ((PrepareConfReq, PrepareConfResp), tuple(kind for kind in TABLES if kind not in (PrepareConfReq, PrepareConfResp))):
        on_connection = [frame for frame in frames if frame.kind in kinds]
        ends = Ends()
        for frame in on_connection:
            assert ends.pass_on(frame.kind.decode(frame.payload)) == frame.kind.decode(frame.payload)
        if on_connection and on_connection[-1].sender is Role.RUNNER:
            assert ends.runner.idle


def test_messages_in_any_pieces() -> None:
    """The received messages are the same in whatever pieces the stream arrives."""
    incoming: list[Message] = [HTTPReqCallReq(1), ExtraInfoResp(b"body" * 30), ExtraInfoResp()]
    for label, pieces in cuts(b"".join(message.encode_frame() for message in incoming)):
        runner = Connection(Role.RUNNER)
        events: list[Message] = []
        for piece in pieces:
            runner.receive_data(piece)
            while not isinstance(event := runner.next_event(), NeedData):
                events.append(event)
                if isinstance(event, HTTPReqCallReq):
                    runner.send(ExtraInfoReq(ReqBody()))
                    runner.send(ExtraInfoReq(Var("x")))
        assert events == incoming, label
        runner.send(HTTPReqCallResp(1))
        assert runner.idle, label


@given(st.data())
def test_any_sequence_of_allowed_messages(data: st.DataObject) -> None:
    """Both ends have the same state, and the same number of open info requests, after any sequence of allowed messages."""
    ends = Ends()
    for _ in range(data.draw(st.integers(1, 20))):
        state = ends.runner.state
        allowed = [kind for role in Role for kind in SENT_BY[role] if (state, role, TABLES[kind]) in ALLOWED]
        if ends.runner.open_info_requests:
            allowed = [kind for kind in allowed if kind not in (HTTPReqCallReq, HTTPRespCallReq, PrepareConfReq)]
            allowed.append(ExtraInfoResp)
        if state is State.CLOSED:
            break
        message = EXAMPLE[data.draw(st.sampled_from(allowed))]
        assert ends.pass_on(message) == message
        assert ends.gateway.state is ends.runner.state
        assert ends.gateway.open_info_requests == ends.runner.open_info_requests


def test_a_reply_of_the_wrong_kind() -> None:
    """The reply to a request call can't be sent for a response call: its frame has another type."""
    ends = Ends()
    ends.go_to(State.RESPONSE_CALL)
    with pytest.raises(LocalProtocolError):
        ends.runner.send(HTTPReqCallResp(0))
    assert ends.pass_on(HTTPRespCallResp(0)) == HTTPRespCallResp(0)
