# SPDX-License-Identifier: Apache-2.0
"""Tests of the messages of a call: fields that are read on first use, and the actions of a reply."""

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
    """A reply whose action is neither Stop nor Rewrite is refused. The number 0 means no action, whatever the offset."""
    payload = HTTPReqCallResp(9, Stop()).encode()
    assert payload[12] == 1
    with pytest.raises(RemoteProtocolError, match=f"has the action {number}"):
        HTTPReqCallResp.decode(payload[:12] + bytes((number,)) + payload[13:])
    assert HTTPReqCallResp.decode(payload[:12] + b"\0" + payload[13:]) == HTTPReqCallResp(9)


@pytest.mark.parametrize("status", [-1, 2**16, 2**32])
def test_a_status_has_sixteen_bits(status: int) -> None:
    """A status that does not fit into its field raises an error and is not truncated."""
    for unsendable in (HTTPReqCallResp(0, Stop(status)), HTTPRespCallResp(0, status), HTTPRespCallReq(0, status)):
        with pytest.raises(LocalProtocolError, match="16 bits"):
            unsendable.encode()


def test_the_method_can_be_given_by_its_number() -> None:
    """A Method and its name create the same message."""
    assert HTTPReqCallReq(method="PUT") == HTTPReqCallReq(method=Method.PUT)


def test_lazy_fields_are_decoded_once() -> None:
    """Reading a field again returns the same object."""
    decoded = HTTPReqCallReq.decode(HTTPReqCallReq(1, b"1234", "GET", "/path", [("a", "b")], [("c", "d")], 2).encode())
    assert decoded.path is decoded.path
    assert decoded.args is decoded.args
    assert decoded.headers is decoded.headers
    assert decoded.src_ip is decoded.src_ip
    assert decoded.headers.decoded() is decoded.headers.decoded()


def test_an_action_without_its_table() -> None:
    """A reply that has the number of an action but no table is refused."""
    payload = HTTPReqCallResp(9, Stop()).encode()
    assert payload[20:30] == pack("<5H", 10, 16, 4, 8, 12)
    with pytest.raises(RemoteProtocolError, match="has the action 1"):
        HTTPReqCallResp.decode(payload[:28] + b"\0\0" + payload[30:])


def _put(fields: tuple[Field, ...]) -> bytes:
    out = bytearray()
    flatbuf.put_table(out, fields)
    return bytes(out)


@given(CONTENTS[HTTPReqCallResp])
def test_actions_with_their_own_put(content: dict[str, Any]) -> None:
    """`put` of Stop and Rewrite writes the same bytes as `put_table`."""
    if content["action"] is not None:
        name, fields = content["action"]
        kind = VARIANTS[name]
        out = bytearray()
        message(kind, fields).put(out)
        values = [TextEntries(fields[field]) if isinstance(fields[field], list) else fields[field] for field in kind.FIELDS]
        assert out == _put((*values[:-1], values[-1] or None))


@given(CONTENTS[HTTPRespCallResp])
def test_replies_with_their_own_put(content: dict[str, Any]) -> None:
    """`put` of HTTPRespCallResp writes the same bytes as `put_table`."""
    resp = HTTPRespCallResp(**content)
    payload = b"\4\0\0\0" + _put((resp.id, resp.status, resp.headers, resp.body or None))
    assert (resp.encode(), bytes(resp.encode_frame()[4:])) == (payload, payload)


@pytest.mark.parametrize("number", [-1, 2**32, 2**64])
def test_an_id_has_thirty_two_bits(number: int) -> None:
    """An id that does not fit into its field raises an error and is not truncated."""
    with pytest.raises(LocalProtocolError, match="does not fit its field of 32 bits"):
        HTTPRespCallResp(number).encode()
