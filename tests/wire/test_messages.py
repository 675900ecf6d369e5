# SPDX-License-Identifier: Apache-2.0
"""The messages are read and written as the official `flatbuffers` package reads and writes them."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.errors import ErrCode, LocalProtocolError, MessageTooLarge, RemoteProtocolError
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
    Method,
    PrepareConfReq,
    PrepareConfResp,
    ReqBody,
    RespBody,
    Rewrite,
    Stop,
    Var,
)
from tests.oracle import oracle
from tests.wire.subjects import EXAMPLES, TABLES, GoldenFrame, as_read, content, contents_of_any, golden_frames, message

MIB = 2**20


@pytest.mark.parametrize("frame", golden_frames(), ids=lambda frame: f"{frame.label}-{frame.kind.__name__}")
def test_golden_frame(frame: GoldenFrame) -> None:
    """Every recorded frame decodes to what the oracle decodes, and encodes to what the oracle reads alike."""
    expected = as_read(frame.kind, oracle.read(TABLES[frame.kind], frame.payload))
    decoded = frame.kind.decode(frame.payload)
    assert expected == content(decoded)
    assert expected == as_read(frame.kind, oracle.read(TABLES[frame.kind], decoded.encode()))


@pytest.mark.parametrize("example", EXAMPLES, ids=repr)
def test_example_is_read_alike_by_both(example: Message) -> None:
    """A message of each kind means the same to the oracle, to us, and to itself."""
    kind = type(example)
    assert content(example) == as_read(kind, oracle.read(TABLES[kind], example.encode()))
    assert content(example) == content(kind.decode(example.encode()))
    assert example == kind.decode(example.encode())


@given(contents_of_any)
def test_ours_is_read_alike_by_the_oracle(subject: tuple[type[Message], dict[str, Any]]) -> None:
    """Whatever we encode, the oracle reads: any bytes in texts, entries without value, empty and absent fields."""
    kind, expected = subject
    payload = message(kind, expected).encode()
    assert expected == as_read(kind, oracle.read(TABLES[kind], payload))
    assert expected == content(kind.decode(payload))


@given(contents_of_any, st.booleans())
def test_the_oracles_is_read_alike_by_us(subject: tuple[type[Message], dict[str, Any]], force_defaults: bool) -> None:
    """Whatever the oracle writes, we decode: vtables of any length, zeros left out or written, vectors that are empty or absent."""
    kind, expected = subject
    payload = oracle.write(TABLES[kind], expected, force_defaults=force_defaults)
    assert expected == content(kind.decode(payload))


@given(contents_of_any)
def test_a_decoded_message_encodes_again(subject: tuple[type[Message], dict[str, Any]]) -> None:
    """What was read and not touched goes back byte for byte, surrogates included."""
    kind, values = subject
    payload = message(kind, values).encode()
    assert payload == kind.decode(payload).encode()


@given(contents_of_any)
def test_a_frame_is_header_and_payload(subject: tuple[type[Message], dict[str, Any]]) -> None:
    """`encode_frame`, which joins header and parts at once, says the same as `encode`; a payload's size is a multiple of four."""
    kind, values = subject
    built: Message = message(kind, values)
    payload = built.encode()
    assert len(payload) % 4 == 0
    assert encode_frame(kind.TYPE, payload) == built.encode_frame()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (PrepareConfReq, PrepareConfReq()),
        (PrepareConfResp, PrepareConfResp(0)),
        (HTTPReqCallReq, HTTPReqCallReq(path="")),
        (HTTPReqCallResp, HTTPReqCallResp(0)),
        (HTTPRespCallReq, HTTPRespCallReq(status=0)),
        (HTTPRespCallResp, HTTPRespCallResp(0)),
        (ExtraInfoResp, ExtraInfoResp()),
        (ErrResp, ErrResp(ErrCode.BAD_REQUEST)),
    ],
)
def test_a_table_without_fields(kind: type[Message], expected: Message) -> None:
    """Where every field is absent, each reads as its default: an absent id is 0, an absent method GET."""
    assert expected == kind.decode(oracle.write(TABLES[kind], {}))


def test_union_variants_without_fields() -> None:
    """A Stop, a Rewrite and a Var whose fields are all absent are still what they are."""
    assert HTTPReqCallResp(0, Stop()) == HTTPReqCallResp.decode(oracle.write("HTTPReqCall.Resp", {"action": ("Stop", {})}))
    assert HTTPReqCallResp(0, Rewrite()) == HTTPReqCallResp.decode(oracle.write("HTTPReqCall.Resp", {"action": ("Rewrite", {})}))
    assert ExtraInfoReq(Var("")) == ExtraInfoReq.decode(oracle.write("ExtraInfo.Req", {"info": ("Var", {})}))


def _patched(kind: type[Message], values: oracle.Values, old: int, new: int) -> bytes:
    """Return an oracle's message in which the only byte `old` is replaced: a number that the schema does not know."""
    payload = bytearray(oracle.write(TABLES[kind], values))
    assert 1 == payload.count(old)
    payload[payload.index(old)] = new
    return bytes(payload)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (HTTPReqCallReq, _patched(HTTPReqCallReq, {"method": "TRACE"}, Method.TRACE, 15)),
        (ErrResp, _patched(ErrResp, {"code": 2}, 2, 3)),
    ],
)
def test_a_number_beyond_the_schema(kind: type[Message], payload: bytes) -> None:
    """A method or an error code that the schema does not know is refused at once."""
    with pytest.raises(RemoteProtocolError, match="the schema ends at"):
        kind.decode(payload)


@pytest.mark.parametrize("number", [0, 4, 255])
def test_an_unknown_question(number: int) -> None:
    """A question that asks for nothing, or for what the schema does not know, is refused."""
    payload = ExtraInfoReq(ReqBody()).encode()
    assert 2 == payload[8]
    with pytest.raises(RemoteProtocolError, match=f"asks for {number}"):
        ExtraInfoReq.decode(payload[:8] + bytes((number,)) + payload[9:])


@pytest.mark.parametrize("number", [3, 255])
def test_an_unknown_action(number: int) -> None:
    """A reply whose action is neither Stop nor Rewrite is refused; 0 means that there is none, whatever the offset."""
    payload = HTTPReqCallResp(9, Stop()).encode()
    assert 1 == payload[12]
    with pytest.raises(RemoteProtocolError, match=f"has action {number}"):
        HTTPReqCallResp.decode(payload[:12] + bytes((number,)) + payload[13:])
    assert HTTPReqCallResp(9) == HTTPReqCallResp.decode(payload[:12] + b"\0" + payload[13:])


@pytest.mark.parametrize(
    "unsendable",
    [
        PrepareConfResp(2**32),
        PrepareConfResp(-1),
        HTTPReqCallResp(2**32),
        HTTPReqCallResp(-1, Stop()),
        HTTPReqCallReq(method="PURGE"),
        ExtraInfoReq(Var("\ud800")),
        HTTPReqCallResp(0, Rewrite(headers=[("x", "\ud800")])),
        HTTPReqCallResp(0, Rewrite(headers=[("\ud800", None)])),
        HTTPReqCallResp(0, Rewrite("\ud800")),
    ],
    ids=repr,
)
def test_a_value_that_cannot_be_sent(unsendable: Message) -> None:
    """A number too large for its field, an unknown method, or a surrogate that stands for no byte is our own mistake, and says so."""
    with pytest.raises(LocalProtocolError):
        unsendable.encode_frame()


@pytest.mark.parametrize("status", [-1, 2**16, 2**32])
def test_a_status_has_sixteen_bits(status: int) -> None:
    """A status that does not fit its field is refused, not cut off."""
    for unsendable in (HTTPReqCallResp(0, Stop(status)), HTTPRespCallResp(0, status), HTTPRespCallReq(0, status)):
        with pytest.raises(LocalProtocolError, match="16 bits"):
            unsendable.encode()


def test_a_text_of_another_class_is_text() -> None:
    """Subclasses of str, as multidict's keys are, and of bytes are written like the plain ones."""

    class Key(str):
        __slots__ = ()

    class Body(bytes):
        pass

    expected = HTTPReqCallResp(0, Rewrite("/a", [("x", "1")], body=b"b")).encode()
    assert expected == HTTPReqCallResp(0, Rewrite(Key("/a"), [(Key("x"), Key("1"))], body=Body(b"b"))).encode()


def test_the_method_can_be_given_by_its_number() -> None:
    """A Method and its name build the same message."""
    assert HTTPReqCallReq(method="PUT") == HTTPReqCallReq(method=Method.PUT)


def test_questions_are_keys() -> None:
    """Two questions for the same thing are one key, so that no answer is ever asked for twice."""
    questions = [ExtraInfoReq(Var("a")), ExtraInfoReq(Var("b")), ExtraInfoReq(ReqBody()), ExtraInfoReq(RespBody())]
    again = [ExtraInfoReq.decode(question.encode()) for question in questions]
    assert 4 == len({*questions, *again})
    assert 4 == len({question.info for question in [*questions, *again]})


def test_messages_are_no_keys() -> None:
    """A message with entries is compared by content, and refuses to be a key."""
    with pytest.raises(TypeError, match="Stop"):
        hash(Stop())


def test_messages_of_different_kinds_differ() -> None:
    """Equality asks for the kind first, and answers for foreign objects too."""
    assert PrepareConfResp(1) != HTTPReqCallResp(1)
    assert PrepareConfResp(1) != 1
    assert ExtraInfoReq(ReqBody()) != ReqBody()


def test_repr_shows_the_content() -> None:
    """A failing comparison shows what is in the message, not where it lies."""
    decoded = HTTPRespCallReq.decode(HTTPRespCallReq(1, 200, [("a", None)], 2).encode())
    assert "HTTPRespCallReq(id=1, status=200, headers=[('a', None)], conf_token=2)" == repr(decoded)


def test_lazy_fields_are_decoded_once() -> None:
    """Touching a field again gives the same object."""
    decoded = HTTPReqCallReq.decode(HTTPReqCallReq(1, b"1234", "GET", "/path", [("a", "b")], [("c", "d")], 2).encode())
    assert decoded.path is decoded.path
    assert decoded.args is decoded.args
    assert decoded.headers is decoded.headers
    assert decoded.src_ip is decoded.src_ip
    assert decoded.headers.decoded() is decoded.headers.decoded()


@pytest.mark.parametrize("too_large", [ExtraInfoResp(bytes(MAX_PAYLOAD_BYTES)), HTTPReqCallResp(0, Stop(body=bytes(MAX_PAYLOAD_BYTES)))])
def test_a_payload_over_the_limit(too_large: Message) -> None:
    """A message that does not fit a frame is refused before it is put together."""
    with pytest.raises(MessageTooLarge, match="16777215 bytes at most"):
        too_large.encode_frame()


def _peak_bytes(function: Any, *args: Any) -> int:
    tracemalloc.start()
    try:
        kept = function(*args)
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    "build", [ExtraInfoResp, lambda body: HTTPReqCallResp(0, Stop(body=body)), lambda body: HTTPRespCallResp(0, body=body)]
)
def test_a_body_is_copied_once_into_its_frame(build: Any) -> None:
    """Encoding a body of 8 MiB needs memory for one copy of it."""
    body = bytes(8 * MIB)
    assert _peak_bytes(lambda: build(body).encode_frame()) < 9 * MIB


def test_a_body_is_copied_once_out_of_its_payload() -> None:
    """Decoding a body of 8 MiB needs memory for one copy of it."""
    payload = ExtraInfoResp(bytes(8 * MIB)).encode()
    assert _peak_bytes(ExtraInfoResp.decode, payload) < 9 * MIB
