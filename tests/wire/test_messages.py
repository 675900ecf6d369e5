# SPDX-License-Identifier: Apache-2.0
"""Tests of all messages: the official `flatbuffers` package, here the oracle, reads and writes them in the same way."""

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
    """Every recorded frame is decoded to the same values by the oracle, also after it was encoded again."""
    expected = as_read(frame.kind, oracle.read(TABLES[frame.kind], frame.payload))
    decoded = frame.kind.decode(frame.payload)
    assert content(decoded) == expected
    assert as_read(frame.kind, oracle.read(TABLES[frame.kind], decoded.encode())) == expected


@pytest.mark.parametrize("example", EXAMPLES, ids=repr)
def test_example_is_read_by_both(example: Message) -> None:
    """A message of each class is decoded to the same values by the oracle and by `decode`."""
    kind = type(example)
    assert as_read(kind, oracle.read(TABLES[kind], example.encode())) == content(example)
    assert content(kind.decode(example.encode())) == content(example)
    assert kind.decode(example.encode()) == example


@given(contents_of_any)
def test_the_oracle_reads_encoded_messages(subject: tuple[type[Message], dict[str, Any]]) -> None:
    """The oracle reads any encoded message: any bytes in texts, entries without value, empty and absent fields."""
    kind, expected = subject
    payload = message(kind, expected).encode()
    assert as_read(kind, oracle.read(TABLES[kind], payload)) == expected
    assert content(kind.decode(payload)) == expected


@given(contents_of_any, st.booleans())
def test_messages_of_the_oracle_are_decoded(subject: tuple[type[Message], dict[str, Any]], force_defaults: bool) -> None:
    """Any message of the oracle is decoded: vtables of any length, zeros written or omitted, vectors that are empty or absent."""
    kind, expected = subject
    payload = oracle.write(TABLES[kind], expected, force_defaults=force_defaults)
    assert content(kind.decode(payload)) == expected


@given(contents_of_any)
def test_a_decoded_message_encodes_again(subject: tuple[type[Message], dict[str, Any]]) -> None:
    """A decoded message is encoded to the same bytes, also if it contains surrogates."""
    kind, values = subject
    payload = message(kind, values).encode()
    assert kind.decode(payload).encode() == payload


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
    """If all fields are absent, each one has its default: the id is 0, the method is GET."""
    assert kind.decode(oracle.write(TABLES[kind], {})) == expected


def test_union_variants_without_fields() -> None:
    """A Stop, a Rewrite and a Var without fields are decoded to the same class."""
    assert HTTPReqCallResp.decode(oracle.write("HTTPReqCall.Resp", {"action": ("Stop", {})})) == HTTPReqCallResp(0, Stop())
    assert HTTPReqCallResp.decode(oracle.write("HTTPReqCall.Resp", {"action": ("Rewrite", {})})) == HTTPReqCallResp(0, Rewrite())
    assert ExtraInfoReq.decode(oracle.write("ExtraInfo.Req", {"info": ("Var", {})})) == ExtraInfoReq(Var(""))


def _patched(kind: type[Message], values: oracle.Values, old: int, new: int) -> bytes:
    """Return a message of the oracle in which the only byte `old` is replaced by a number that the schema does not have."""
    payload = bytearray(oracle.write(TABLES[kind], values))
    assert payload.count(old) == 1
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
    """A method or an error code that the schema does not have is refused at once."""
    with pytest.raises(RemoteProtocolError, match="the schema has 0 to"):
        kind.decode(payload)


@pytest.mark.parametrize("number", [0, 4, 255])
def test_an_unknown_info(number: int) -> None:
    """An info request without an info, or with one that the schema does not have, is refused."""
    payload = ExtraInfoReq(ReqBody()).encode()
    assert payload[8] == 2
    with pytest.raises(RemoteProtocolError, match=f"has the info {number};"):
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
    """A number that does not fit, an unknown method, or a surrogate that does not represent a byte raises LocalProtocolError."""
    with pytest.raises(LocalProtocolError):
        unsendable.encode_frame()


def test_info_requests_are_keys() -> None:
    """Two info requests for the same thing are the same key, so that nothing is requested twice."""
    requests = [ExtraInfoReq(Var("a")), ExtraInfoReq(Var("b")), ExtraInfoReq(ReqBody()), ExtraInfoReq(RespBody())]
    again = [ExtraInfoReq.decode(request.encode()) for request in requests]
    assert len({*requests, *again}) == 4
    assert len({request.info for request in [*requests, *again]}) == 4


def test_an_info_request_without_its_table() -> None:
    """An info request that has the number of an info but no table is refused."""
    payload = ExtraInfoReq(ReqBody()).encode()
    assert payload[16:24] == pack("<4H", 8, 12, 4, 8)
    with pytest.raises(RemoteProtocolError, match="has the info 2;"):
        ExtraInfoReq.decode(payload[:22] + b"\0\0" + payload[24:])
