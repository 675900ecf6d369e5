# SPDX-License-Identifier: Apache-2.0
"""The cases of the table: the plugins that run, the messages that they receive, and the expected replies."""

import json
from collections.abc import Iterable, Sequence
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
RESPONSE_MARK = [("x-bench", "1")]
_ITEM = '{"id":1042,"name":"red shoes","price":49.9,"in_stock":true,"tags":["sale","leather"]}'
PASSES = None
REPLIES = Stop(403, [("content-type", "text/plain"), ("x-bench", "stop")], b"refused by the bench")


@dataclass(frozen=True)
class Case:
    """
    One row of the table.

    Attributes:
        name: what `--case` calls it.
        plugins: name and configuration of each plugin of the chain.
        reply: the action that the runner has to reply; None lets the request pass. The baseline sends it, and the runner's reply is
            compared with it.
        target: the most CPU time per call that the compiled runner may take, as a multiple of the baseline's.
        target_alone: the same with one connection.
        compared_with: the case of which a plugin of a legacy API may take 1.3 times the CPU time.
        eager: whether the target applies only to a Python that starts coroutines eagerly, which is 3.12 or later.
    """

    name: str
    title: str
    plugins: Sequence[tuple[str, str]]
    reply: Rewrite | Stop | None = PASSES
    target: float | None = None
    target_alone: float | None = None
    compared_with: str | None = None
    eager: bool = False
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
            return HTTPRespCallResp(call_id, 0, [*RESPONSE_HEADERS, *RESPONSE_MARK])
        return HTTPReqCallResp(call_id, self.reply)

    def headers_set(self) -> Iterable[tuple[str, str | None]]:
        """Return the headers that the plugins set."""
        if self.response_phase:
            return RESPONSE_MARK
        return [] if self.reply is None else self.reply.headers

    def body(self) -> bytes:
        """Return the gateway's reply to an info request for the body: JSON text, as most bodies are, of exactly that size."""
        items = ",".join([_ITEM] * ((self.body_bytes - 1) // (len(_ITEM) + 1)))
        return f"[{items}]".ljust(self.body_bytes)[: self.body_bytes].encode()


def _sets(*headers: tuple[str, str]) -> Rewrite:
    return Rewrite(headers=headers)


def _chain(length: int) -> list[tuple[str, str]]:
    return [("bench-set-header", json.dumps({"name": f"x-bench-{n}"})) for n in range(length)]


_COPIED = _sets(("x-bench", USER_AGENT))
BODY_BYTES = 8192

CASES = [
    Case("noop", "no-op", [("bench-noop", "")], target=1.5, target_alone=1.9),
    Case("read-set", "read a header, set one", [("bench-read-set", "")], _COPIED, target=1.7),
    Case("iterate-set", "iterate over all headers, set one", [("bench-iterate-set", "")], _sets(("x-bench", "12")), target=2.0),
    Case("stop", "stop: status, header, body", [("bench-stop", "")], REPLIES, target=1.7),
    Case("body", "read an 8 KiB body", [("bench-read-body", "")], target=2.0, body_bytes=BODY_BYTES),
    Case("response", "response phase: keep all headers, set one", [("bench-response-set", "")], target=1.9, response_phase=True),
    Case("async-noop", "async def, no-op", [("bench-async-noop", "")], target=1.8, eager=True),
    Case("chain", "chain of five, each sets a header", _chain(5), _sets(*((f"x-bench-{n}", "1") for n in range(5))), target=2.1),
    Case("base-noop", "no-op, Base", [("BaseNoop", "")], compared_with="noop"),
    Case("base-read-set", "read and set, Base", [("BaseReadSet", "")], _COPIED, compared_with="read-set"),
    Case("base-stop", "stop, Base", [("BaseStop", "")], REPLIES, compared_with="stop"),
    Case("core-noop", "no-op, PluginBase", [("core-noop", "")], compared_with="noop"),
    Case("core-read-set", "read and set, PluginBase", [("core-read-set", "")], _COPIED, compared_with="read-set"),
    Case("core-stop", "stop, PluginBase", [("core-stop", "")], REPLIES, compared_with="stop"),
    Case("core-body", "read an 8 KiB body, PluginBase", [("core-read-body", "")], compared_with="body", body_bytes=BODY_BYTES),
]
SMOKE = ("noop", "read-set", "stop", "body")
