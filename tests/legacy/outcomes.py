# SPDX-License-Identifier: Apache-2.0
"""The outcomes of calls as a client or an upstream would get them. They can be compared even if two runners send different frames."""

from collections.abc import Callable
from itertools import count
from typing import Any

from apisix.runner.wire.messages import HTTPReqCallReq, HTTPReqCallResp, PrepareConfReq, PrepareConfResp, Rewrite, Stop
from tests.legacy.cases import Call, Case
from tests.peer import PRE_REQ, HungUp, Peer

Outcome = dict[str, Any]
REFUSED: Outcome = {"refused": True}
"""An error frame, no reply, or a closed connection: the client gets 503."""


def outcomes(case: Case, connect: Callable[[], Peer]) -> list[Outcome]:
    """Send the calls of a case to a runner, each on a new connection, and return their outcomes."""
    with connect() as peer:
        peer.send(PrepareConfReq(case.conf, PRE_REQ))
        prepared = peer.reply()
    assert isinstance(prepared, PrepareConfResp), prepared
    ids = count(1)
    found = []
    for call in case.calls:
        with connect() as peer:
            peer.answers.update(call.answers)
            peer.send(message(call, next(ids), prepared.conf_token))
            try:
                found.append(outcome(call, peer.reply()))
            except (HungUp, TimeoutError, ConnectionError):
                found.append(REFUSED)
    return found


def message(call: Call, call_id: int, token: int) -> HTTPReqCallReq:
    """Return the message of a call."""
    call_id = call_id if call.id is None else call.id
    return HTTPReqCallReq(call_id, call.src_ip, call.method, call.path, call.args, call.headers, token)


def outcome(call: Call, reply: object) -> Outcome:
    """Return what the client or the upstream would get."""
    if not isinstance(reply, HTTPReqCallResp):
        return REFUSED
    if isinstance(reply.action, Stop):
        headers = {str(name).lower(): value for name, value in reply.action.headers}
        if headers.get("content-type") == "text/plain; charset=utf-8":  # this runner adds it to text; the releases left it to nginx
            del headers["content-type"]
        return {"status": reply.action.status, "headers": headers, "body": bytes(reply.action.body).decode("latin-1")}
    return _upstream(call, reply.action)


def _upstream(call: Call, action: Any) -> Outcome:
    """Apply a Rewrite as the gateway does. Source: gateway contract, 5."""
    path, headers, args = call.path, dict(call.headers), dict(call.args)
    body = None
    if isinstance(action, Rewrite):
        path = action.path or path
        for name, value in action.headers:
            if value:
                headers[str(name).lower()] = value
            else:
                headers.pop(str(name).lower(), None)
        for name, value in action.args:
            if value is None:
                args.pop(name, None)
            else:
                args[name] = value
        body = bytes(action.body).decode("latin-1") if action.body else None
    return {"path": path, "headers": headers, "args": args, "body": body}
