# SPDX-License-Identifier: Apache-2.0
"""The kinds of calls that the load makes, and the expected reply of each."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from apisix.runner.wire.messages import (
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    ReqBody,
    RespBody,
    Rewrite,
    Stop,
    Var,
)

PRE_REQ = "ext-plugin-pre-req"
POST_RESP = "ext-plugin-post-resp"


@dataclass(frozen=True)
class Facts:
    """The facts of one call, on which its reply may depend."""

    id: int
    nonce: str
    route: str

    @property
    def body(self) -> bytes:
        """Return the body that the client or the upstream sent."""
        return f"a secret of {self.nonce}".encode() * 20


class Wrong(Exception):
    """Raised if a reply does not belong to the call."""


@dataclass(frozen=True)
class Kind:
    """
    One kind of call.

    Attributes:
        plugin: its name in the route.
        phase: where it runs.
        build: makes the message from the facts and a token.
        check: returns the headers with which the plugin identifies itself. Raises: Wrong: the content is not correct.
    """

    plugin: str
    phase: str
    build: Callable[[Facts, int], Any]
    check: Callable[[Facts, Any], dict[str, str]]


def answer_to(facts: Facts, info: object) -> bytes | None:
    """Return the gateway's reply to an info request."""
    if isinstance(info, Var):
        if info.name == "upstream_uri":
            return b""  # nothing has rewritten the path
        return f"{info.name} of {facts.nonce}".encode()
    if isinstance(info, (ReqBody, RespBody)):
        return facts.body
    raise Wrong(f"the runner asks for {info}")


def _request(facts: Facts, token: int) -> HTTPReqCallReq:
    headers = [("host", "example.com"), ("user-agent", "soak"), ("accept", "*/*"), ("x-nonce", facts.nonce), ("cookie", "a=1; b=2")]
    args = [("nonce", facts.nonce), ("flag", None)]
    return HTTPReqCallReq(facts.id, b"\x7f\0\0\1", "POST", f"/call/{facts.nonce}", args, headers, token)


def _response(facts: Facts, token: int) -> HTTPRespCallReq:
    return HTTPRespCallReq(facts.id, 200, [("Content-Type", "text/plain"), ("X-Nonce", facts.nonce)], token)


def _expect(expected: object, actual: object, what: str) -> None:
    if expected != actual:
        raise Wrong(f"{what}: expected {expected!r}, got {actual!r}")


def _pairs(entries: Any) -> dict[str, str]:
    return {name.lower(): value or "" for name, value in entries}


def _action(facts: Facts, reply: Any, kind: type[Any]) -> Any:
    if not isinstance(reply, HTTPReqCallResp) or not isinstance(reply.action, kind):
        raise Wrong(f"expected {kind.__name__}, got {reply!r}")
    _expect(facts.id, reply.id, "id")
    return reply.action


def _check_answer(facts: Facts, reply: Any) -> dict[str, str]:
    stop = _action(facts, reply, Stop)
    _expect(200, stop.status, "status")
    told = {"id": facts.id, "path": f"/call/{facts.nonce}", "nonce": facts.nonce, "arg": facts.nonce, "route": facts.route}
    _expect(told, json.loads(bytes(stop.body)), "body")
    return _pairs(stop.headers)


def _check_digest(facts: Facts, reply: Any) -> dict[str, str]:
    rewrite = _action(facts, reply, Rewrite)
    _expect({"x-digest": hashlib.sha256(facts.body).hexdigest()}, _pairs(rewrite.headers), "headers")
    _expect([("route", facts.route)], list(rewrite.args), "args")
    _expect(None, rewrite.path, "path")
    return _pairs(rewrite.resp_headers)


def _check_waits(facts: Facts, reply: Any) -> dict[str, str]:
    rewrite = _action(facts, reply, Rewrite)
    _expect({"x-request-id": f"request_id of {facts.nonce}"}, _pairs(rewrite.headers), "headers")
    _expect(f"/{facts.route}/call/{facts.nonce}", rewrite.path, "path")
    return _pairs(rewrite.resp_headers)


def _check_redact(facts: Facts, reply: Any) -> dict[str, str]:
    if not isinstance(reply, HTTPRespCallResp):
        raise Wrong(f"expected HTTPRespCallResp, got {reply!r}")
    _expect(facts.id, reply.id, "id")
    _expect(facts.body.replace(b"secret", facts.route.encode()), bytes(reply.body), "body")
    headers = _pairs(reply.headers)
    _expect(facts.nonce, headers.get("x-nonce"), "x-nonce")
    return headers


KINDS: Sequence[Kind] = (
    Kind("answer", PRE_REQ, _request, _check_answer),
    Kind("digest", PRE_REQ, _request, _check_digest),
    Kind("waits", PRE_REQ, _request, _check_waits),
    Kind("redact", POST_RESP, _response, _check_redact),
)
