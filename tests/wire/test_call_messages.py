# SPDX-License-Identifier: Apache-2.0
"""The messages of a call: what is read at once, what later, and what a reply can say."""

from struct import pack
from typing import Any

import pytest
from hypothesis import given

from apisix.runner.errors import LocalProtocolError, RemoteProtocolError
from apisix.runner.wire import flatbuf
from apisix.runner.wire.entries import TextEntries
from apisix.runner.wire.flatbuf import Field
from apisix.runner.wire.messages import (
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Method,
    Stop,
)
from tests.wire.subjects import CONTENTS, VARIANTS, message


@pytest.mark.parametrize("number", [3, 255])
def test_an_unknown_action(number: int) -> None:
    """A reply whose action is neither Stop nor Rewrite is refused; 0 means that there is none, whatever the offset."""
    payload = HTTPReqCallResp(9, Stop()).encode()
    assert 1 == payload[12]
    with pytest.raises(RemoteProtocolError, match=f"has action {number}"):
        HTTPReqCallResp.decode(payload[:12] + bytes((number,)) + payload[13:])
    assert HTTPReqCallResp(9) == HTTPReqCallResp.decode(payload[:12] + b"\0" + payload[13:])


@pytest.mark.parametrize("status", [-1, 2**16, 2**32])
def test_a_status_has_sixteen_bits(status: int) -> None:
    """A status that does not fit its field is refused, not cut off."""
    for unsendable in (HTTPReqCallResp(0, Stop(status)), HTTPRespCallResp(0, status), HTTPRespCallReq(0, status)):
        with pytest.raises(LocalProtocolError, match="16 bits"):
            unsendable.encode()


def test_the_method_can_be_given_by_its_number() -> None:
    """A Method and its name build the same message."""
    assert HTTPReqCallReq(method="PUT") == HTTPReqCallReq(method=Method.PUT)


def test_lazy_fields_are_decoded_once() -> None:
    """Touching a field again gives the same object."""
    decoded = HTTPReqCallReq.decode(HTTPReqCallReq(1, b"1234", "GET", "/path", [("a", "b")], [("c", "d")], 2).encode())
    assert decoded.path is decoded.path
    assert decoded.args is decoded.args
    assert decoded.headers is decoded.headers
    assert decoded.src_ip is decoded.src_ip
    assert decoded.headers.decoded() is decoded.headers.decoded()


def test_an_action_without_its_table() -> None:
    """A reply whose kind of action is known but whose table is absent is refused."""
    payload = HTTPReqCallResp(9, Stop()).encode()
    assert pack("<5H", 10, 16, 4, 8, 12) == payload[20:30]
    with pytest.raises(RemoteProtocolError, match="has action 1"):
        HTTPReqCallResp.decode(payload[:28] + b"\0\0" + payload[30:])


def _put(fields: tuple[Field, ...]) -> bytes:
    out = bytearray()
    flatbuf.put_table(out, fields)
    return bytes(out)


@given(CONTENTS[HTTPReqCallResp])
def test_actions_that_write_themselves(content: dict[str, Any]) -> None:
    """A Stop and a Rewrite are, byte for byte, what the general writer makes of their fields."""
    if content["action"] is not None:
        name, fields = content["action"]
        kind = VARIANTS[name]
        out = bytearray()
        message(kind, fields).put(out)
        values = [TextEntries(fields[field]) if isinstance(fields[field], list) else fields[field] for field in kind.FIELDS]
        assert _put((*values[:-1], values[-1] or None)) == out


@given(CONTENTS[HTTPRespCallResp])
def test_answers_that_write_themselves(content: dict[str, Any]) -> None:
    """So is the answer to a response."""
    resp = HTTPRespCallResp(**content)
    payload = b"\4\0\0\0" + _put((resp.id, resp.status, resp.headers, resp.body or None))
    assert (payload, payload) == (resp.encode(), bytes(resp.encode_frame()[4:]))


@pytest.mark.parametrize("number", [-1, 2**32, 2**64])
def test_an_id_has_thirty_two_bits(number: int) -> None:
    """A larger id, or one below zero, is refused, not cut."""
    with pytest.raises(LocalProtocolError, match="does not fit its field of 32 bits"):
        HTTPRespCallResp(number).encode()
