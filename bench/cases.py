# SPDX-License-Identifier: Apache-2.0
"""The cases of the table: which plugins run, what they are sent, what they have to answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from apisix.runner.wire.messages import (
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Message,
    PrepareConfReq,
    Rewrite,
    Stop,
)

USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
REQUEST_HEADERS = [
    ("host", "upstream.example.com"),
    ("user-agent", USER_AGENT),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://www.example.com/catalogue/page/4"),
    ("cookie", "session=6b1f0e5cbd964c0e8e43d1e6cbd0a1b7; theme=dark"),
    ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
    ("cache-control", "no-cache"),
]
ARGS = [("page", "4"), ("sort", "price"), ("q", "red shoes")]
RESPONSE_HEADERS = [
    ("Content-Type", "application/json"),
    ("Date", "Mon, 02 Dec 2024 10:00:00 GMT"),
    ("Server", "upstream/1.0"),
    ("Cache-Control", "max-age=60"),
    ("ETag", '"33a64df551425fcc55e4d42a148795d9f25f89d4"'),
    ("Vary", "accept-encoding"),
    ("X-Request-Id", "c2c7e5c6-7a5e-4a0d-9a3b-0f7d6d1f5c11"),
    ("Set-Cookie", "a=1; Path=/"),
    ("Set-Cookie", "b=2; Path=/"),
    ("X-Frame-Options", "DENY"),
    ("Strict-Transport-Security", "max-age=63072000"),
    ("X-Content-Type-Options", "nosniff"),
]
_ITEM = '{"id":1042,"name":"red shoes","price":49.9,"in_stock":true,"tags":["sale","leather"]}'
PASSES = None
REPLIES = Stop(403, [("content-type", "text/plain"), ("x-bench", "stop")], b"refused by the bench")


@dataclass(frozen=True)
class Case:
    """
    One row of the table.

    `reply` is the action that has to be answered: None lets the request pass. The echo answers it too, and the runner's answer is
    compared to it. `target` and `go` are ratios to the floor; a `twin` has to stay below 1.3 times another case's CPU time.
    """

    name: str
    title: str
    plugins: Sequence[tuple[str, str]]
    reply: Rewrite | Stop | None = PASSES
    target: float | None = None
    go: float | None = None
    twin: str | None = None
    response_phase: bool = False
    body_bytes: int = 0
    headers: int = len(REQUEST_HEADERS)
    routes: int = 1

    def prepare(self, route: int = 1) -> PrepareConfReq:
        """Return the configuration of the `route`-th route."""
        phase = "ext-plugin-post-resp" if self.response_phase else "ext-plugin-pre-req"
        return PrepareConfReq(self.plugins, f"route#{route}#{phase}#1")

    def call(self, call_id: int, token: int) -> Message:
        """Return the gateway's call."""
        if self.response_phase:
            return HTTPRespCallReq(call_id, 200, RESPONSE_HEADERS, token)
        more = [(f"x-header-{n}", "some value") for n in range(len(REQUEST_HEADERS), self.headers)]
        headers = REQUEST_HEADERS[: self.headers] + more
        return HTTPReqCallReq(
            call_id, bytes([203, 0, 113, 7]), "POST" if self.body_bytes else "GET", "/catalogue/items", ARGS, headers, token
        )

    def answer(self, call_id: int) -> Message:
        """Return the runner's reply."""
        if self.response_phase:
            return HTTPRespCallResp(call_id, 0, [*RESPONSE_HEADERS, ("x-bench", "1")])
        return HTTPReqCallResp(call_id, self.reply)

    def body(self) -> bytes:
        """Return what the gateway answers when it is asked for the body: JSON text, as most bodies are, of exactly that size."""
        items = ",".join([_ITEM] * ((self.body_bytes - 1) // (len(_ITEM) + 1)))
        return f"[{items}]".ljust(self.body_bytes)[: self.body_bytes].encode()


def _sets(*headers: tuple[str, str]) -> Rewrite:
    return Rewrite(headers=headers)


def _chain(length: int) -> list[tuple[str, str]]:
    return [("bench-set-header", json.dumps({"name": f"x-bench-{n}"})) for n in range(length)]


_COPIED = _sets(("x-bench", USER_AGENT))
BODY_BYTES = 8192

# The targets are what this runner set out to reach; the Go runner's ratios are those of design, 9.
CASES = [
    Case("noop", "no-op", [("bench-noop", "")], target=1.8, go=2.9),
    Case("read-set", "read a header, set one", [("bench-read-set", "")], _COPIED, target=2.3, go=4.9),
    Case("stop", "stop: status, header, body", [("bench-stop", "")], REPLIES, target=2.2, go=3.0),
    Case("body", "read an 8 KiB body", [("bench-read-body", "")], target=2.5, go=4.1, body_bytes=BODY_BYTES),
    Case("iterate-set", "iterate over all headers, set one", [("bench-iterate-set", "")], _sets(("x-bench", "12")), target=3.0, go=4.9),
    Case("base-noop", "no-op, Base", [("BaseNoop", "")], twin="noop"),
    Case("base-read-set", "read and set, Base", [("BaseReadSet", "")], _COPIED, twin="read-set"),
    Case("base-stop", "stop, Base", [("BaseStop", "")], REPLIES, twin="stop"),
    Case("core-noop", "no-op, PluginBase", [("core-noop", "")], twin="noop"),
    Case("core-read-set", "read and set, PluginBase", [("core-read-set", "")], _COPIED, twin="read-set"),
    Case("core-stop", "stop, PluginBase", [("core-stop", "")], REPLIES, twin="stop"),
    Case("core-body", "read an 8 KiB body, PluginBase", [("core-read-body", "")], twin="body", body_bytes=BODY_BYTES),
    Case("async-noop", "async no-op", [("bench-async-noop", "")], target=2.6),
    Case("chain", "chain of five, each sets a header", _chain(5), _sets(*((f"x-bench-{n}", "1") for n in range(5))), target=4.0),
    Case("response", "response phase: keep all headers, set one", [("bench-response-set", "")], target=3.0, response_phase=True),
]
SMOKE = ("noop", "read-set", "stop", "body")
