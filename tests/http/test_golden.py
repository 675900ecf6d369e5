# SPDX-License-Identifier: Apache-2.0
"""Tests with recorded messages of a real gateway. Source: tests/golden/frames.jsonl."""

import base64
import json
from pathlib import Path

import pytest

from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPRespCallReq
from tests.http.calls import FakeGateway, answered, rewrite, sent

FRAMES = Path(__file__).parent.parent / "golden" / "frames.jsonl"


def payloads(frame_type: FrameType) -> list[object]:
    """Return the payloads of one type that the gateway sent, each with the label of its recording."""
    found: list[object] = []
    for line in FRAMES.read_text("utf-8").strip().split("\n"):
        recorded = json.loads(line)
        for frame in recorded["frames"]:
            if frame["direction"] == "gateway>runner" and frame["type"] == frame_type:
                found.append(pytest.param(base64.b64decode(frame["payload"]), id=f"{recorded['label']}-{len(found)}"))
    return found


@pytest.mark.parametrize("payload", payloads(FrameType.HTTP_REQ_CALL))
def test_requests(payload: bytes) -> None:
    """Everything can be read, and reading is not an edit. Only the one edit is sent."""
    message = HTTPReqCallReq.decode(payload)
    request = Request(message, FakeGateway())
    assert list(request.headers.items()) == [(name, value or "") for name, value in message.headers]
    assert list(request.args.items()) == [(name, value or "") for name, value in message.args]
    assert request.path.startswith("/")
    assert request.remote_addr
    assert request.headers["HOST"]
    assert (sent(request).id, sent(request).action) == (message.id, None)
    request.headers["X-New"] = "1"
    assert list(rewrite(request).headers) == [("x-new", "1")]


@pytest.mark.parametrize("payload", payloads(FrameType.HTTP_RESP_CALL))
def test_responses(payload: bytes) -> None:
    """All headers of the upstream are sent back, except those of the connection."""
    message = HTTPRespCallReq.decode(payload)
    reply = answered(Response(message, FakeGateway()))
    kept = [(name, value) for name, value in message.headers if name.lower() not in ("connection", "keep-alive", "transfer-encoding")]
    assert (reply.id, reply.status, list(reply.headers), reply.body) == (message.id, 0, kept, b"")
    assert kept
