# SPDX-License-Identifier: Apache-2.0
"""Tests of what all messages have in common: frames, comparison and representation."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given

from apisix.runner.errors import MessageTooLarge
from apisix.runner.wire.frames import MAX_PAYLOAD_BYTES, encode_frame
from apisix.runner.wire.messages import (
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Message,
    PrepareConfResp,
    ReqBody,
    Rewrite,
    Stop,
)
from tests.wire.subjects import contents_of_any, message

MIB = 2**20


@given(contents_of_any)
def test_a_frame_is_header_and_payload(subject: tuple[type[Message], dict[str, Any]]) -> None:
    """`encode_frame` returns the header and the payload that `encode` returns. Its length is a multiple of four."""
    kind, values = subject
    built: Message = message(kind, values)
    payload = built.encode()
    assert len(payload) % 4 == 0
    assert built.encode_frame() == encode_frame(kind.TYPE, payload)


def test_subclasses_of_str_and_bytes() -> None:
    """Subclasses of str, such as multidict's keys, and of bytes are written like str and bytes."""

    class Key(str):
        __slots__ = ()

    class Body(bytes):
        pass

    expected = HTTPReqCallResp(0, Rewrite("/a", [("x", "1")], body=b"b")).encode()
    assert HTTPReqCallResp(0, Rewrite(Key("/a"), [(Key("x"), Key("1"))], body=Body(b"b"))).encode() == expected


def test_messages_are_not_hashable() -> None:
    """A message is compared by content, so it can't be a key of a dict."""
    with pytest.raises(TypeError, match="Stop"):
        hash(Stop())


def test_messages_of_different_kinds_differ() -> None:
    """Messages of different classes differ, and a message differs from any other object."""
    assert PrepareConfResp(1) != HTTPReqCallResp(1)
    assert PrepareConfResp(1) != 1
    assert ExtraInfoReq(ReqBody()) != ReqBody()


def test_repr_shows_the_content() -> None:
    """The representation shows the content, so that a failed comparison explains itself."""
    decoded = HTTPRespCallReq.decode(HTTPRespCallReq(1, 200, [("a", None)], 2).encode())
    assert repr(decoded) == "HTTPRespCallReq(id=1, status=200, headers=[('a', None)], conf_token=2)"


@pytest.mark.parametrize("too_large", [ExtraInfoResp(bytes(MAX_PAYLOAD_BYTES)), HTTPReqCallResp(0, Stop(body=bytes(MAX_PAYLOAD_BYTES)))])
def test_a_payload_over_the_limit(too_large: Message) -> None:
    """A message that does not fit into a frame raises MessageTooLarge."""
    with pytest.raises(MessageTooLarge, match="at most 16777215 bytes"):
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
