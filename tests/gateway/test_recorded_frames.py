# SPDX-License-Identifier: Apache-2.0
"""Compare the gateway with recorded frames: the same HTTP request causes the same messages to the runner."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.wire.messages import HTTPReqCallReq, HTTPRespCallReq
from tests.gateway.bed import TestBed
from tests.gateway.scenarios import sorted_pairs

FRAMES = Path(__file__).parents[1] / "golden" / "frames.jsonl"
RECORDED_CALLS: list[dict[str, Any]] = [json.loads(line) for line in FRAMES.read_bytes().splitlines()]  # bytes: text also breaks at U+0085

_CONF = {"conf": [{"name": "any", "value": "{}"}]}
# The routes of the recording, by the first segment of their paths.
ROUTES: dict[str, dict[str, Any]] = {
    "pre": {"ext-plugin-pre-req": _CONF},
    "empty": {"ext-plugin-pre-req": {}},
    "post": {"proxy-rewrite": {"uri": "/rewritten/a%20b?from=proxy&x=你"}, "ext-plugin-post-req": _CONF},
    "ask": {"ext-plugin-pre-req": {"conf": [{"name": "any", "value": '{"ask": [["var", "host"], ["reqbody", null]]}'}]}},
    "resp": {"ext-plugin-post-resp": _CONF},
    "resphdr": {"ext-plugin-pre-req": _CONF, "ext-plugin-post-resp": _CONF},
}


@pytest.mark.parametrize("context", RECORDED_CALLS, ids=[context["label"] for context in RECORDED_CALLS])
async def test_same_frames(context: dict[str, Any], tmp_path: Path) -> None:
    """The runner gets method, path, arguments and headers as a real gateway sends them."""
    async with TestBed(tmp_path) as bed:
        for name, plugins in ROUTES.items():
            bed.route(name, f"/{name}/*", plugins)
        await bed.send(_closing(_whole(context)))

    assert [_view(entry) for entry in bed.runner.seen if entry["rpc"] != "prepare"] == _recorded(context)


def _whole(context: dict[str, Any]) -> bytes:
    """Return the request with the part after 400 bytes, which the recording does not contain."""
    request: bytes = context["http_request"].encode("latin-1")
    if context["label"] == "many-headers-120":
        request = request[: request.rindex(b"\r\n")]
        return b"\r\n".join([request, *(b"X-H%03d: v%d" % (number, number) for number in range(26, 120)), b"", b""])
    if context["label"] == "ask-binary-body":
        return request.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + bytes(range(256)) * 4
    return request


def _closing(request: bytes) -> bytes:
    """Return the request with a header that makes the gateway close the connection, because the recorded connection was kept."""
    if b"\r\nConnection: close\r\n" in request or b" HTTP/1.0\r\n" in request:
        return request
    return request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


def _recorded(context: dict[str, Any]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for frame in context["frames"]:
        payload = base64.b64decode(frame["payload"])
        if frame["direction"] == "gateway>runner" and frame["type"] == 2:
            call = HTTPReqCallReq.decode(payload)
            args, headers = [list(pair) for pair in call.args], [list(pair) for pair in call.headers]
            calls.append(_view({"rpc": "call", "method": call.method, "path": call.path, "args": args, "headers": headers}))
        elif frame["direction"] == "gateway>runner" and frame["type"] == 4:
            # The upstream of that recording is another one: its headers are not compared.
            calls.append({"rpc": "resp_call"})
            HTTPRespCallReq.decode(payload)
    return calls


def _view(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["rpc"] == "resp_call":
        return {"rpc": "resp_call"}
    # The recording was made with one curl and its `http_request` written with another.
    headers = [pair for pair in entry["headers"] if pair[0] not in ("connection", "user-agent")]
    return {
        "method": entry["method"],
        "path": entry["path"],
        "args": sorted_pairs(entry["args"]),
        "headers": sorted_pairs(headers),
    }
