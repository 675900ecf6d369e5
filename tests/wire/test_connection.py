# SPDX-License-Identifier: Apache-2.0
"""The conversation follows the table of legal moves, at both ends, and each end is tested with the other."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.errors import ErrCode, LocalProtocolError, MessageTooLarge, RemoteProtocolError
from apisix.runner.wire.connection import MOVES, NEED_DATA, Connection, NeedData, Role, State
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

# How to get to each state, and what may happen there: gateway contract, 1 and 6, written down once more and by hand.
PLAYBOOK = """
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
WAY: dict[State, tuple[Message, ...]] = {
    State.IDLE: (),
    State.PREPARING: (PrepareConfReq(),),
    State.REQUEST_CALL: (HTTPReqCallReq(),),
    State.RESPONSE_CALL: (HTTPRespCallReq(),),
    State.CLOSED: (ErrResp(ErrCode.BAD_REQUEST),),
}


LEGAL = {(State[state], Role(role), table): State[then] for state, role, table, then in map(str.split, PLAYBOOK.strip().splitlines())}


class Ends:
    """A gateway and a runner, joined."""

    def __init__(self) -> None:
        self.ends = {role: Connection(role) for role in Role}
        self.gateway = self.ends[Role.GATEWAY]
        self.runner = self.ends[Role.RUNNER]

    def pass_on(self, message: Message) -> Message | NeedData:
        """Send a message from the end that sends such, and return what the other end makes of it."""
        (sender,) = (role for role in Role if type(message) in SENT_BY[role])
        data = self.ends[sender].send(message)
        (receiver,) = (end for role, end in self.ends.items() if role is not sender)
        receiver.receive_data(data)
        return receiver.next_event()

    def go_to(self, state: State) -> None:
        """Take both ends to a state."""
        for message in WAY[state]:
            assert message == self.pass_on(message)
        assert state is self.gateway.state is self.runner.state


def _drain(connection: Connection) -> None:
    """Take all events off."""
    while connection.next_event() is not NEED_DATA:
        pass


@pytest.mark.parametrize(
    ("state", "sender", "kind"),
    [(state, role, kind) for state, role in product(WAY, Role) for kind in SENT_BY[role]],
    ids=lambda value: value.name if isinstance(value, State | Role) else value.__name__,
)
def test_every_message_in_every_state(state: State, sender: Role, kind: type[Message]) -> None:
    """
    What the table allows takes both ends to the same next state; what it does not allow can't be sent, and is refused where a peer
    sends it nevertheless.
    """
    ends = Ends()
    ends.go_to(state)
    message = EXAMPLE[kind]
    then = LEGAL.get((state, sender, TABLES[kind]))
    if then is not None:
        assert message == ends.pass_on(message)
        assert then is ends.gateway.state is ends.runner.state
        return
    with pytest.raises(LocalProtocolError, match=kind.__name__):
        ends.ends[sender].send(message)
    assert state is ends.ends[sender].state
    (receiver,) = (end for role, end in ends.ends.items() if role is not sender)
    receiver.receive_data(message.encode_frame())
    with pytest.raises(RemoteProtocolError):
        receiver.next_event()
    assert State.ERROR is receiver.state


@pytest.mark.parametrize(("sender", "kind"), [(role, kind) for role in Role for kind in SENT_BY[role]])
def test_messages_of_the_other_end_cannot_be_sent(sender: Role, kind: type[Message]) -> None:
    """In no state does an end send what is the other's."""
    for state in WAY:
        ends = Ends()
        ends.go_to(state)
        other = next(end for role, end in ends.ends.items() if role is not sender)
        with pytest.raises(LocalProtocolError):
            other.send(EXAMPLE[kind])


def test_the_table_is_complete() -> None:
    """The table names every state for both roles, and leads to no state that it does not name."""
    for role in Role:
        assert set(State) == set(MOVES[role])
        for moves in MOVES[role].values():
            assert set(SENT_BY[role]) >= set(moves)


def test_a_call_with_questions() -> None:
    """A call, two questions back to back, their answers in order, the reply: as a request with a body goes."""
    ends = Ends()
    call = HTTPReqCallReq(0, b"\x7f\0\0\1", "POST", "/a", conf_token=5)
    assert call == ends.pass_on(call)
    ends.gateway.receive_data(ends.runner.send(ExtraInfoReq(ReqBody())) + ends.runner.send(ExtraInfoReq(Var("scheme"))))
    assert 2 == ends.runner.unanswered
    assert ExtraInfoReq(ReqBody()) == ends.gateway.next_event()
    assert 1 == ends.gateway.unanswered
    assert ExtraInfoReq(Var("scheme")) == ends.gateway.next_event()
    ends.runner.receive_data(ends.gateway.send(ExtraInfoResp(b"body")) + ends.gateway.send(ExtraInfoResp(b"http")))
    assert ExtraInfoResp(b"body") == ends.runner.next_event()
    assert ExtraInfoResp(b"http") == ends.runner.next_event()
    assert NEED_DATA is ends.runner.next_event()
    assert 0 == ends.runner.unanswered == ends.gateway.unanswered
    assert HTTPReqCallResp(0) == ends.pass_on(HTTPReqCallResp(0))
    assert ends.runner.idle
    assert ends.gateway.idle


@pytest.mark.parametrize("reply", [HTTPReqCallResp(0), ErrResp(ErrCode.SERVICE_UNAVAILABLE)])
def test_a_late_answer(reply: Message) -> None:
    """A deadline: the runner replies before its question is answered. The answer comes in IDLE, and then the next call may."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    ends.gateway.receive_data(ends.runner.send(ExtraInfoReq(ReqBody())) + ends.runner.send(reply))
    assert 1 == ends.runner.unanswered
    assert not ends.runner.idle
    assert ExtraInfoReq(ReqBody()) == ends.gateway.next_event()
    assert reply == ends.gateway.next_event()
    with pytest.raises(LocalProtocolError, match="has to wait until 1 questions are answered"):
        ends.gateway.send(HTTPReqCallReq())
    assert ExtraInfoResp(b"late") == ends.pass_on(ExtraInfoResp(b"late"))
    assert ends.runner.idle
    assert HTTPReqCallReq() == ends.pass_on(HTTPReqCallReq())


@pytest.mark.parametrize("call", [HTTPReqCallReq(), HTTPRespCallReq(), PrepareConfReq()])
def test_a_call_before_a_late_answer(call: Message) -> None:
    """A gateway first answers what it was asked: with an old question open, a new call is an error, or answers would go astray."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    ends.runner.send(ExtraInfoReq(ReqBody()))
    ends.runner.send(HTTPReqCallResp(0))
    ends.runner.receive_data(call.encode_frame())
    with pytest.raises(RemoteProtocolError, match="has to wait until 1 questions are answered"):
        ends.runner.next_event()


@pytest.mark.parametrize("state", [State.IDLE, State.REQUEST_CALL, State.RESPONSE_CALL])
def test_an_answer_to_no_question(state: State) -> None:
    """An answer needs a question, in a call as outside of one; both ends see to it."""
    ends = Ends()
    ends.go_to(state)
    with pytest.raises(LocalProtocolError, match="answers no question"):
        ends.gateway.send(ExtraInfoResp())
    ends.runner.receive_data(ExtraInfoResp().encode_frame())
    with pytest.raises(RemoteProtocolError, match="answers no question"):
        ends.runner.next_event()


def test_one_answer_too_many() -> None:
    """Answers are counted: the second one to a single question is refused."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    ends.runner.send(ExtraInfoReq(ReqBody()))
    ends.runner.receive_data(ExtraInfoResp(b"1").encode_frame() + ExtraInfoResp(b"2").encode_frame())
    assert ExtraInfoResp(b"1") == ends.runner.next_event()
    with pytest.raises(RemoteProtocolError, match="answers no question"):
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
    ids=["unknown type", "empty", "malformed", "answer of a runner", "error frame", "two calls"],
)
def test_after_an_error(garbage: bytes) -> None:
    """After the peer broke the protocol every call raises again; an error frame can still be sent, and that is all."""
    runner = Connection(Role.RUNNER)
    runner.receive_data(garbage)
    errors = []
    for _ in range(3):
        with pytest.raises(RemoteProtocolError) as caught:
            _drain(runner)
        errors.append(str(caught.value))
    assert 1 == len(set(errors))
    states = [runner.state]
    assert not runner.idle
    with pytest.raises(RemoteProtocolError):
        runner.receive_data(HTTPReqCallReq().encode_frame())
    with pytest.raises(LocalProtocolError):
        runner.send(HTTPReqCallResp(0))
    assert ErrResp(ErrCode.BAD_REQUEST).encode_frame() == runner.send(ErrResp(ErrCode.BAD_REQUEST))
    states.append(runner.state)
    assert [State.ERROR, State.CLOSED] == states
    with pytest.raises(RemoteProtocolError):
        runner.next_event()


def test_a_gateway_has_no_error_frame() -> None:
    """Only runners send error frames: a gateway that was sent rubbish can send nothing more."""
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
    """Where a reply can't be put into a frame the call is still open, so that an error frame can answer it."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    with pytest.raises(error):
        ends.runner.send(unsendable)
    assert State.REQUEST_CALL is ends.runner.state
    assert ErrResp(ErrCode.SERVICE_UNAVAILABLE) == ends.pass_on(ErrResp(ErrCode.SERVICE_UNAVAILABLE))
    assert ends.gateway.idle


def test_a_question_that_cannot_be_sent_does_not_count() -> None:
    """Only what was sent is waited for."""
    ends = Ends()
    ends.go_to(State.REQUEST_CALL)
    with pytest.raises(LocalProtocolError):
        ends.runner.send(ExtraInfoReq(Var("\ud800")))
    assert 0 == ends.runner.unanswered


def test_idle_counts_what_is_buffered() -> None:
    """A connection with half a frame, even half a header or nothing but a header, is not idle."""
    frame = HTTPReqCallReq().encode_frame()
    for size in range(1, len(frame)):
        runner = Connection(Role.RUNNER)
        assert runner.idle
        runner.receive_data(frame[:size])
        assert NEED_DATA is runner.next_event()
        assert not runner.idle


def test_a_message_is_a_whole_frame() -> None:
    """What `send` returns is one frame, so that it leaves in one write."""
    ends = Ends()
    call = HTTPReqCallReq(1, path="/a")
    assert encode_frame(2, call.encode()) == ends.gateway.send(call)


@pytest.mark.parametrize("label", sorted({frame.label for frame in golden_frames()}))
def test_golden_exchange(label: str) -> None:
    """Both ends accept every recorded conversation, its connections told apart by their state, in all pieces."""
    frames = [frame for frame in golden_frames() if frame.label == label]
    # A recorded exchange interleaves its PrepareConf, on a second connection, with the call on the first.
    for kinds in ((PrepareConfReq, PrepareConfResp), tuple(kind for kind in TABLES if kind not in (PrepareConfReq, PrepareConfResp))):
        conversation = [frame for frame in frames if frame.kind in kinds]
        ends = Ends()
        for frame in conversation:
            assert frame.kind.decode(frame.payload) == ends.pass_on(frame.kind.decode(frame.payload))
        if conversation and conversation[-1].sender is Role.RUNNER:
            assert ends.runner.idle


def test_messages_in_any_pieces() -> None:
    """A conversation's incoming half gives the same events however the stream is cut up."""
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
        assert incoming == events, label
        runner.send(HTTPReqCallResp(1))
        assert runner.idle, label


@given(st.data())
def test_long_conversations(data: st.DataObject) -> None:
    """Both ends agree on the state, and on what is unanswered, along any legal way through the table."""
    ends = Ends()
    for _ in range(data.draw(st.integers(1, 20))):
        state = ends.runner.state
        moves = [kind for role in Role for kind in SENT_BY[role] if (state, role, TABLES[kind]) in LEGAL]
        if ends.runner.unanswered:
            moves = [kind for kind in moves if kind not in (HTTPReqCallReq, HTTPRespCallReq, PrepareConfReq)]
            moves.append(ExtraInfoResp)
        if state is State.CLOSED:
            break
        message = EXAMPLE[data.draw(st.sampled_from(moves))]
        assert message == ends.pass_on(message)
        assert ends.gateway.state is ends.runner.state
        assert ends.gateway.unanswered == ends.runner.unanswered


def test_a_reply_of_the_wrong_kind() -> None:
    """A response call is not answered with a request call's reply: the frame's type tells."""
    ends = Ends()
    ends.go_to(State.RESPONSE_CALL)
    with pytest.raises(LocalProtocolError):
        ends.runner.send(HTTPReqCallResp(0))
    assert HTTPRespCallResp(0) == ends.pass_on(HTTPRespCallResp(0))
