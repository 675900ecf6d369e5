# SPDX-License-Identifier: Apache-2.0
"""What the gateway does if a runner is slow, wrong or missing, and how it numbers calls and opens connections."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.http.body.transfer import MAX_BODY_BYTES
from apisix.runner.wire.frames import encode_frame
from apisix.runner.wire.messages import PrepareConfResp
from tests.gateway.bed import TestBed

PRE_REQ = "ext-plugin-pre-req"
POST_RESP = "ext-plugin-post-resp"


def scripted(does: dict[str, Any], phase: str = PRE_REQ, **more: Any) -> dict[str, Any]:
    """Return the plugins of a route: one scripted call in a phase."""
    return {phase: {"conf": [{"name": "scripted", "value": json.dumps(does)}], **more}}


async def test_ids_count_from_zero(tmp_path: Path) -> None:
    """The first call has id 0, as on worker 0 of a real gateway."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({}))
        await bed.request("GET", "/a")
        await bed.request("GET", "/b")

    assert [entry["id"] for entry in bed.runner.seen if entry["rpc"] == "call"] == [0, 1]


async def test_prepare_on_a_second_connection(tmp_path: Path) -> None:
    """During PrepareConf, the connection of the call is open and silent. Both connections are kept afterwards."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({}))
        await bed.request("GET", "/a")
        assert (bed.runner.connections, bed.pool.idle_count) == (2, 2)
        await bed.request("GET", "/b")
        assert (bed.runner.connections, bed.pool.idle_count) == (2, 2)


async def test_key_names_route_phase_and_version(tmp_path: Path) -> None:
    """The key of PrepareConf is route#id#plugin#version."""
    async with TestBed(tmp_path) as bed:
        bed.route("7", plugins=scripted({}, POST_RESP))
        await bed.request("GET", "/a")

    assert bed.runner.seen[0]["key"] == f"route#7#{POST_RESP}#1"


async def test_failed_prepare_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PrepareConf without a reply fails the request, and the next request sends another one."""
    async with TestBed(tmp_path, read_timeout_s=0.1) as bed:
        bed.runner.prepare_gate = asyncio.Event()
        bed.route(plugins=scripted({}))
        first = await bed.request("GET", "/a")
        bed.runner.prepare_gate.set()
        second = await bed.request("GET", "/a")

    assert (first.status, second.status) == (503, 200)


async def test_no_runner(tmp_path: Path) -> None:
    """Without a runner, the client gets nginx's 503 page, and the report contains the reason."""
    async with TestBed(tmp_path, start_runner=False) as bed:
        bed.route(plugins=scripted({}))
        response = await bed.request("GET", "/a")

    assert response.status == 503
    assert b"503 Service Temporarily Unavailable" in response.body
    assert bed.reports[0].phases[0].error == f"can't connect to {bed.socket}: No such file or directory"


async def test_no_runner_with_degradation(tmp_path: Path) -> None:
    """Without a runner, a route with `allow_degradation` serves its upstream."""
    async with TestBed(tmp_path, start_runner=False) as bed:
        bed.route(plugins=scripted({}, allow_degradation=True))
        response = await bed.request("GET", "/a")

    assert response.body == b"upstream says hello"


async def test_silent_runner(tmp_path: Path) -> None:
    """If a runner does not reply in time, the status is 503."""
    async with TestBed(tmp_path, read_timeout_s=0.1) as bed:
        bed.route(plugins=scripted({"silent": 1}))
        response = await bed.request("GET", "/a")

    assert response.status == 503
    assert bed.reports[0].phases[0].error == "the runner sent nothing for 0.1 s"


@pytest.mark.parametrize("phase", [PRE_REQ, POST_RESP])
@pytest.mark.parametrize("payload", ["000000", "00000400000000"], ids=["empty", "garbage"])
async def test_garbage(tmp_path: Path, payload: str, phase: str) -> None:
    """A reply that is not a message causes an error in APISIX's Lua code: the status is 500, even if the route degrades."""
    kind = "02" if phase == PRE_REQ else "04"
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"raw": kind + payload}, phase, allow_degradation=True))
        response = await bed.request("GET", "/a")

    assert response.status == 500
    assert b"500 Internal Server Error" in response.body


@pytest.mark.parametrize("phase", [PRE_REQ, POST_RESP])
@pytest.mark.parametrize(
    "frame",
    [encode_frame(1, b"\0" * 8), PrepareConfResp(1).encode_frame(), encode_frame(9, b"abcd"), encode_frame(1, b"")],
    ids=["malformed", "well-formed", "unknown type", "empty"],
)
async def test_a_frame_that_is_not_due(tmp_path: Path, frame: bytes, phase: str) -> None:
    """A reply of another type than the call's is an ordinary failure, whatever it contains: the status is 503, or the route degrades."""
    async with TestBed(tmp_path) as bed:
        bed.route("1", "/strict", scripted({"raw": frame.hex()}, phase))
        bed.route("2", "/lax", scripted({"raw": frame.hex()}, phase, allow_degradation=True))
        statuses = [(await bed.request("GET", path)).status for path in ("/strict", "/lax")]

    assert statuses == [503, 200]
    assert bed.reports[0].phases[0].error == f"the runner answered with an unexpected frame of type {frame[0]}"


async def test_method_without_a_name(tmp_path: Path) -> None:
    """PURGE has no number in the schema, so the gateway answers 500, after PrepareConf."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({}))
        response = await bed.request("PURGE", "/a")

    assert (response.status, [entry["rpc"] for entry in bed.runner.seen]) == (500, ["prepare"])


async def test_method_without_a_name_in_the_response_phase(tmp_path: Path) -> None:
    """The response phase sends no method, so any method is possible."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({}, POST_RESP))
        response = await bed.request("PURGE", "/a")

    assert response.status == 200


async def test_request_body_is_answered(tmp_path: Path) -> None:
    """The reply to ReqBody contains the bytes of the body, each time. Without a body, there is no result."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"ask": [["reqbody", None], ["reqbody", None]]}))
        await bed.request("POST", "/a", body=b"\x00\xff")
        await bed.request("GET", "/a")

    asked = [entry["asked"] for entry in bed.runner.seen if entry["rpc"] == "call"]
    assert [answer[1:] for answer in asked[0]] == [["\x00\xff", 2], ["\x00\xff", 2]]
    assert [answer[1:] for answer in asked[1]] == [[None, None], [None, None]]


async def test_body_over_the_limit(tmp_path: Path) -> None:
    """A body that does not fit into a frame with the other fields fails the call that requests it."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"ask": [["reqbody", None]]}))
        response = await bed.request("POST", "/a", body=bytes(MAX_BODY_BYTES + 1))
        longest = await bed.request("POST", "/a", body=bytes(MAX_BODY_BYTES))

    assert (response.status, longest.status) == (503, 200)
    assert "can't send ExtraInfoResp" in str(bed.reports[0].phases[0].error)


async def test_response_headers_survive_into_the_response_phase(tmp_path: Path) -> None:
    """Response headers that a Rewrite sets reach the client together with those that the response phase returns."""
    plugins = scripted({"rewrite": {"resp_headers": [["X-Early", "1"]]}}) | scripted({"resp": {"headers": [["X-Late", "2"]]}}, POST_RESP)
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=plugins)
        response = await bed.request("GET", "/a")

    assert (response.values("x-early"), response.values("x-late")) == (["1"], ["2"])


async def test_second_phase_sees_the_rewritten_path(tmp_path: Path) -> None:
    """After a rewrite in pre-req, post-req gets the new path, percent-encoded, and the arguments."""
    plugins = scripted({"rewrite": {"path": "/new path"}}) | scripted({}, "ext-plugin-post-req")
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=plugins)
        await bed.request("GET", "/a?x=1")

    calls = [entry for entry in bed.runner.seen if entry["rpc"] == "call"]
    assert (calls[1]["path"], calls[1]["args"]) == ("/new%20path", [["x", "1"]])


async def test_report_names_what_changed(tmp_path: Path) -> None:
    """The report of a request has one entry for each phase, with a description of its changes."""
    does = {"rewrite": {"path": "/new", "headers": [["x-a", "1"], ["user-agent", None]], "args": [["q", "1"]], "body": "12345"}}
    plugins = scripted(does) | scripted({"resp": {"status": 418, "headers": [["X-Upstream", "other"]], "body": "b"}}, POST_RESP)
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=plugins)
        await bed.request("GET", "/a", ["User-Agent: t"])

    pre_req, post_resp = bed.reports[0].phases
    assert pre_req.changes == (
        "path /a -> /new",
        "header x-a added",
        "header user-agent removed",
        "argument q added",
        "body 0 B -> 5 B",
    )
    assert post_resp.changes[:2] == ("status 200 -> 418", "response header x-upstream changed")
    assert "response header content-type removed" in post_resp.changes
    assert post_resp.changes[-1] == "body 19 B -> 1 B"


@pytest.mark.parametrize(("degrades", "status"), [(False, 503), (True, 404)])
async def test_error_in_the_response_phase(tmp_path: Path, degrades: bool, status: int) -> None:
    """The client gets the upstream's body without its headers. The status is 503, or that of the upstream if the route degrades."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"error": 1}, POST_RESP, allow_degradation=degrades))
        response = await bed.request("GET", "/a", ["X-Up: up_status=404"])

    assert (status, b"upstream says hello") == (response.status, response.body)
    assert (response.values("x-upstream"), response.values("content-type")) == ([], ["text/plain; charset=utf-8"])


@pytest.mark.parametrize("degrades", [False, True])
@pytest.mark.parametrize(("method", "wish", "status"), [("GET", "up_status=204", 204), ("HEAD", "up_status=404", 404)])
async def test_error_in_the_response_phase_without_a_body(tmp_path: Path, method: str, wish: str, status: int, degrades: bool) -> None:
    """After an error on a 204 or a HEAD, the request is sent to the upstream again, and the second response is passed on completely."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"error": 1}, POST_RESP, allow_degradation=degrades))
        response = await bed.request(method, "/a", [f"X-Up: {wish}"])

    assert (response.status, response.values("x-upstream"), response.values("set-cookie")) == (status, ["echo"], ["u1=1", "u2=2"])
    assert (len(bed.upstream.seen), bed.reports[0].asked_twice) == (2, True)


CHUNKED = b"POST /a HTTP/1.1\r\nHost: gw.example.com\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


async def test_chunked_upload_in_the_response_phase(tmp_path: Path) -> None:
    """
    APISIX hangs here. The development gateway ends the request at once with APISIX's final status, and the report says why and what to
    do.
    """
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"resp": {}}, POST_RESP))
        response = await bed.send(CHUNKED)

    assert (response.status, bed.upstream.seen) == (502, [])
    assert "on APISIX this call hangs for 60 s" in str(bed.reports[0].error)
    assert "request.headers.popall('transfer-encoding', None)" in str(bed.reports[0].error)


@pytest.mark.parametrize("rewrite", [{"headers": [["transfer-encoding", None]]}, {"body": "new"}])
async def test_the_way_round_a_chunked_upload(tmp_path: Path, rewrite: dict[str, Any]) -> None:
    """If transfer-encoding is deleted in a request phase, or the body is replaced, the upload reaches the upstream."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"rewrite": rewrite}) | scripted({"resp": {}}, POST_RESP))
        response = await bed.send(CHUNKED)

    assert (200, rewrite.get("body", "abc")) == (response.status, bed.upstream.seen[0]["body"])


BODY = b"hello" + b"GET /admin HTTP/1.1\r\nHost: gw.example.com\r\nX-Inner: yes\r\nConnection: close\r\n\r\n"
"""A body that contains a request from its sixth byte."""


def _posted(body: bytes) -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: gw.example.com\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _seen(bed: TestBed) -> list[tuple[str, str]]:
    return [(seen["target"], seen["body"]) for seen in bed.upstream.seen]


@pytest.mark.parametrize("new_body", [{}, {"body": "HELLO"}])
async def test_length_that_is_too_short(tmp_path: Path, new_body: dict[str, str]) -> None:
    """If a runner sets a shorter content-length, the rest of the body becomes a second request, even if the body was replaced."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"rewrite": {"headers": [["content-length", "5"]], **new_body}}))
        bed.route("admin", "/admin")
        await bed.send(_posted(BODY))

    assert _seen(bed) == [("/a", new_body.get("body", "hello")), ("/admin", "")]
    assert "request smuggling" in str(bed.reports[0].error)


async def test_length_that_is_deleted(tmp_path: Path) -> None:
    """Without content-length, the upstream gets no body, and the whole body is parsed as a request: the status is 400."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"rewrite": {"headers": [["content-length", None]]}}))
        await bed.send(_posted(b"no request at all\r\n"))

    assert _seen(bed) == [("/a", "")]
    assert sorted(report.status for report in bed.reports) == [200, 400]


async def test_length_that_is_too_long(tmp_path: Path) -> None:
    """With a longer content-length, APISIX waits for the rest until a timeout. The development gateway reports it at once."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"rewrite": {"headers": [["content-length", "9"]]}}))
        response = await bed.request("POST", "/a", body=b"hello")

    assert (response.status, _seen(bed)) == (408, [])
    assert "4 bytes more" in str(bed.reports[0].error)


@pytest.mark.parametrize("length", ["2", "9", None])
async def test_length_after_the_body_was_read(tmp_path: Path, length: str | None) -> None:
    """If the runner requested the body before, a changed length has no effect."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"ask": [["body", None]], "rewrite": {"headers": [["content-length", length]]}}))
        response = await bed.request("POST", "/a", body=b"hello")

    assert (response.status, _seen(bed)) == (200, [("/a", "hello")])


async def test_length_of_a_chunked_body(tmp_path: Path) -> None:
    """A chunked body contains its own end."""
    chunked = b"POST /a HTTP/1.1\r\nHost: gw.example.com\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"rewrite": {"headers": [["content-length", "2"]]}}))
        await bed.send(chunked)

    assert _seen(bed) == [("/a", "hello")]


async def test_host_that_is_deleted(tmp_path: Path) -> None:
    """The upstream gets no Host."""
    async with TestBed(tmp_path) as bed:
        bed.route(plugins=scripted({"rewrite": {"headers": [["host", None]]}}))
        await bed.request("GET", "/a")

    assert "host" not in {name.lower() for name, _ in bed.upstream.seen[0]["headers"]}


async def test_a_runner_that_closes_after_each_reply(tmp_path: Path) -> None:
    """If the runner has closed a connection, the gateway does not use it again: all three phases of all requests work."""
    plugins = scripted({}) | scripted({}, "ext-plugin-post-req") | scripted({}, POST_RESP)
    async with TestBed(tmp_path) as bed:
        bed.runner.closes_after_each_reply = True
        bed.route(plugins=plugins)
        statuses = [(await bed.request("GET", "/a")).status for _ in range(20)]

    assert statuses == [200] * 20
