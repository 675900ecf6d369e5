# SPDX-License-Identifier: Apache-2.0
"""The messages are read and written as the official `flatbuffers` package reads and writes them."""

from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apisix.runner.errors import ErrCode, LocalProtocolError, RemoteProtocolError
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
    with pytest.raises(RemoteProtocolError, match=f"has info {number};"):
        ExtraInfoReq.decode(payload[:8] + bytes((number,)) + payload[9:])


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


def test_questions_are_keys() -> None:
    """Two questions for the same thing are one key, so that no answer is ever asked for twice."""
    questions = [ExtraInfoReq(Var("a")), ExtraInfoReq(Var("b")), ExtraInfoReq(ReqBody()), ExtraInfoReq(RespBody())]
    again = [ExtraInfoReq.decode(question.encode()) for question in questions]
    assert 4 == len({*questions, *again})
    assert 4 == len({question.info for question in [*questions, *again]})


def test_a_question_without_its_table() -> None:
    """A question whose kind is known but whose table is absent is refused."""
    payload = ExtraInfoReq(ReqBody()).encode()
    assert pack("<4H", 8, 12, 4, 8) == payload[16:24]
    with pytest.raises(RemoteProtocolError, match="has info 2;"):
        ExtraInfoReq.decode(payload[:22] + b"\0\0" + payload[24:])
