# SPDX-License-Identifier: Apache-2.0
"""A scripted gateway of an old release of APISIX. Source: gateway contract, 10."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apisix.gateway.http import uris
from apisix.runner.wire.messages import (
    ErrResp,
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    PrepareConfReq,
    PrepareConfResp,
    ReqBody,
    Rewrite,
    Stop,
    Var,
)
from tests.peer import HungUp, Peer

Release = tuple[int, int]
Conf = Sequence[tuple[str, str]]


@dataclass
class Answer:
    """What the client gets. `upstream` is the target and the headers of the request that the upstream gets, or None if it gets none."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    upstream: tuple[str, dict[str, str]] | None = None


class OldGateway:
    """
    One nginx worker of an old gateway, which has routes and calls a runner for them.

    Before 2.9, it sends no key and answers no info request: a frame of type 3 ends the call. A runner that is silent for 5 s ends it too.

    Attributes: asked: the info requests of the runner, in order, with or without a reply.
    """

    def __init__(self, socket: Path, release: Release = (2, 7)) -> None:
        self._socket = socket
        self._release = release
        self._timeout_s = 5.0 if release < (2, 8) else 60.0
        self._tokens: dict[str, int] = {}
        self._idle: list[Peer] = []
        self.asked: list[object] = []
        self.variables: dict[str, bytes] = {}

    def close(self) -> None:
        """Hang up."""
        while self._idle:
            self._idle.pop().close()

    def get(self, route: str, conf: Conf, target: str, headers: dict[str, str] | None = None, *, rewritten: str = "") -> Answer:
        """
        Serve `GET target` on a route with the plugins `conf` under ext-plugin-pre-req.

        Args: rewritten: the path and query to which a global rule has rewritten the request before.
        """
        self.variables["upstream_uri"] = rewritten.encode()
        raw_path, query = uris.split_target(rewritten or target)
        # A rewritten path arrives unchanged, percent-encoded.
        path = raw_path if rewritten else uris.normalise_path(raw_path)
        args = uris.parse_args(query or "")
        sent = {"host": "gw.example.com", **(headers or {})}
        call = self._call(
            route, conf, "ext-plugin-pre-req", lambda token: _request(path, uris.flatten(args), sent, token), in_response=False
        )
        if not isinstance(call, HTTPReqCallResp):
            return Answer(503)
        if isinstance(call.action, Stop):
            # Before 2.10, a status of 0 is not treated as 200.
            assert call.action.status >= 200
            return Answer(call.action.status, {name: value or "" for name, value in call.action.headers}, bytes(call.action.body))
        rewrite = call.action or Rewrite()
        for name, value in rewrite.headers:
            if value:
                sent[name] = value
            else:
                sent.pop(name, None)
        for name in dict(rewrite.args):
            args.pop(name, None)
        for name, value in rewrite.args:
            if value is not None:
                args.setdefault(name, []).append(value)
        return Answer(200, upstream=(self._target(path, query, rewrite, uris.build_query(args), rewritten), sent))

    def respond(self, route: str, conf: Conf, body: bytes) -> Answer:
        """Serve a route with the plugins `conf` under ext-plugin-post-resp, whose upstream answers with `body`."""
        assert self._release >= (2, 14)
        entries = [("Content-Type", "text/plain")]
        call = self._call(route, conf, "ext-plugin-post-resp", lambda token: HTTPRespCallReq(0, 200, entries, token), in_response=True)
        if isinstance(call, HTTPReqCallResp | ErrResp | None):
            return Answer(503, body=body)
        return Answer(call.status or 200, {name: value or "" for name, value in call.headers}, bytes(call.body) or body)

    def _target(self, path: str, query: str | None, rewrite: Rewrite, changed: str, rewritten: str) -> str:
        """Return the target that the upstream gets. Source: gateway contract, 5.1 and 10."""
        if rewrite.path is not None:
            return uris.escape_path(rewrite.path) + (f"?{changed}" if len(rewrite.args) else "")
        if rewritten:
            return rewritten
        query = changed if len(rewrite.args) else query
        return uris.escape_path(path) + (f"?{query}" if query else "")

    def _call(self, route: str, conf: Conf, phase: str, build: Callable[[int], Any], *, in_response: bool) -> Any:
        """Return the runner's reply, or None if the call failed."""
        peer = self._idle.pop() if self._idle else Peer(self._socket, self._timeout_s)
        with suppress(HungUp, TimeoutError, ConnectionError):
            peer.send(build(self._token(f"{route}#{phase}", conf)))
            while isinstance(reply := peer.receive(), ExtraInfoReq):
                self.asked.append(reply.info)
                if not self._answers(reply.info, in_response=in_response):
                    peer.close()  # "unexpected type 3"
                    return None
                peer.send(ExtraInfoResp(self.variables.get(reply.info.name) if isinstance(reply.info, Var) else b"body"))
            self._idle.append(peer)
            return reply
        peer.close()
        return None

    def _answers(self, info: object, *, in_response: bool) -> bool:
        if in_response:
            return self._release >= (3, 0)
        return self._release >= ((2, 12) if isinstance(info, ReqBody) else (2, 9))

    def _token(self, key: str, conf: Conf) -> int:
        if key not in self._tokens:
            with Peer(self._socket, self._timeout_s) as peer:
                peer.send(PrepareConfReq(conf, f"route#{key}#1" if self._release >= (2, 9) else None))
                prepared = peer.receive()
            assert isinstance(prepared, PrepareConfResp), prepared
            self._tokens[key] = prepared.conf_token
        return self._tokens[key]


def _request(path: str, args: Any, headers: dict[str, str], token: int) -> HTTPReqCallReq:
    return HTTPReqCallReq(
        id=0, src_ip=b"\x7f\0\0\1", method="GET", path=path, args=list(args), headers=list(headers.items()), conf_token=token
    )
