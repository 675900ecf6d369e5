# SPDX-License-Identifier: Apache-2.0
"""A scripted gateway of an old release of APISIX. Source: gateway contract, 5, 7 and 10."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

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
    RespBody,
    Rewrite,
    Stop,
    Var,
)
from tests.peer import HungUp, Peer

Release = tuple[int, ...]
Conf = Sequence[tuple[str, str]]
Pairs = list[tuple[str, str]]

# The first release that has each of these. It is written down here again, so that the scripted gateway and `dev` check each other.
LONG_TIMEOUTS = OPTIONAL_STATUS = HEADERS_WITHOUT_VALUE = (2, 8)
KEYS = VARIABLES = (2, 9)
CURRENT_ARGS = (2, 10, 2)
SHARED_TOKENS = (2, 10, 3)
BODIES = DEGRADATION = (2, 12)
RESPONSE_HEADERS = ALL_HEADERS = (2, 13)
RESPONSE_PHASE = REPEATED_HEADERS = (2, 14)
INFO_IN_RESPONSES = (3, 0)
ALL_RESPONSE_HEADERS = (3, 2)
NEW_BODIES = (3, 6)
AT_MOST_100_HEADERS = (3, 9)
QUERY_KEPT = (3, 16)

PROTECTED: Final = frozenset(
    {"connection", "content-length", "transfer-encoding", "location", "server"}
    | {"www-authenticate", "content-encoding", "content-type", "content-location", "content-language"}
)
BODY: Final = b"body of the client"


class Sent(NamedTuple):
    """The request that the upstream gets."""

    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What the client gets. `upstream` is None if the upstream gets no request."""

    status: int
    headers: Pairs = field(default_factory=list)
    body: bytes = b""
    upstream: Sent | None = None

    def values(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key.lower() == name]


class OldGateway:
    """
    One nginx worker of an old gateway, which has routes and calls a runner for them.

    Before 2.9, it sends no key and answers no info request: a frame of type 3 ends the call. Before 2.8, a runner that is silent for 5 s
    ends it too.

    Args: tokens: the tokens that all workers share, since 2.10.3.
    Attributes:
        asked: the info requests of the runner, in order, with or without a reply.
        prepared: the keys that this worker has sent in PrepareConf, None for those without a key.
        timeout_s: how long a read or write takes at most.
    """

    def __init__(self, socket: Path, release: Release = (2, 7), tokens: dict[str, int] | None = None) -> None:
        self._socket = socket
        self._release = release
        self.timeout_s = 60.0 if release >= LONG_TIMEOUTS else 5.0
        self._tokens = tokens if tokens is not None and release >= SHARED_TOKENS else {}
        self._idle: list[Peer] = []
        self.asked: list[object] = []
        self.prepared: list[str | None] = []
        self.variables: dict[str, bytes] = {}

    def close(self) -> None:
        """Hang up."""
        while self._idle:
            self._idle.pop().close()

    def get(
        self,
        route: str,
        conf: Conf,
        target: str,
        headers: dict[str, str] | None = None,
        *,
        rewritten: str = "",
        allow_degradation: bool = False,
    ) -> Answer:
        """
        Serve `GET target`, which has a body, on a route with the plugins `conf` under ext-plugin-pre-req.

        Args: rewritten: the path and query to which a global rule has rewritten the request before.
        """
        self.variables["upstream_uri"] = rewritten.encode()
        raw_path, query = uris.split_target(rewritten or target)
        # A rewritten path arrives unchanged, percent-encoded.
        path = raw_path if rewritten else uris.normalise_path(raw_path)
        args = uris.parse_args(query or "")
        sent = {"host": "gw.example.com", **(headers or {})}
        limit = None if ALL_HEADERS <= self._release < AT_MOST_100_HEADERS else 100
        shown = list(islice(sent.items(), limit))
        call = self._call(route, conf, "ext-plugin-pre-req", lambda token: _request(path, uris.flatten(args), shown, token))
        if not isinstance(call, HTTPReqCallResp):
            if not (allow_degradation and self._release >= DEGRADATION):
                return Answer(503)
            call = HTTPReqCallResp(0, None)
        if isinstance(call.action, Stop):
            return self._stopped(call.action)
        rewrite = call.action or Rewrite()
        for name, value in rewrite.headers:
            if value:
                sent[name] = value
            else:
                sent.pop(name, None)
        loses_args = bool(rewritten) and rewrite.path is not None and self._release < CURRENT_ARGS
        edits = [] if loses_args else list(rewrite.args)
        for name in dict(edits):
            args.pop(name, None)
        for name, value in edits:
            if value is not None:
                args.setdefault(name, []).append(value)
        body = bytes(rewrite.body) if self._release >= NEW_BODIES else b""
        target = self._target(path, query, rewrite, uris.build_query(args), rewritten)
        added = self._sendable(entry for entry in rewrite.resp_headers if self._release >= RESPONSE_HEADERS and entry[0] not in PROTECTED)
        return Answer(200, added, b"", Sent(target, sent, body or BODY))

    def respond(self, route: str, conf: Conf, body: bytes, headers: Pairs | None = None, *, allow_degradation: bool = False) -> Answer:
        """Serve a route with the plugins `conf` under ext-plugin-post-resp, whose upstream answers with these headers and this body."""
        entries = [("Content-Type", "text/plain")] if headers is None else headers
        if self._release < RESPONSE_PHASE:  # APISIX refuses such a route, because it does not know the plugin
            return Answer(200, entries, body)
        call = self._call(route, conf, "ext-plugin-post-resp", lambda token: HTTPRespCallReq(0, 200, entries, token), body)
        if isinstance(call, HTTPReqCallResp | ErrResp | None):
            return Answer(200 if allow_degradation else 503, body=body)
        protected = PROTECTED if self._release < ALL_RESPONSE_HEADERS or not len(call.headers) else frozenset()
        entries = [(name, value or "") for name, value in call.headers] or entries
        return Answer(call.status or 200, [entry for entry in entries if entry[0].lower() not in protected], bytes(call.body) or body)

    def _stopped(self, stop: Stop) -> Answer:
        if (not stop.status and self._release < OPTIONAL_STATUS) or (
            any(value is None for _, value in stop.headers) and self._release < HEADERS_WITHOUT_VALUE
        ):
            return Answer(500)
        return Answer(stop.status or 200, self._sendable(stop.headers), bytes(stop.body))

    def _sendable(self, entries: Iterable[tuple[str, str | None]]) -> Pairs:
        """Return the headers that the client gets: before 2.14, the last one of each name."""
        pairs = [(name, value) for name, value in entries if value is not None]
        return pairs if self._release >= REPEATED_HEADERS else list(dict(pairs).items())

    def _target(self, path: str, query: str | None, rewrite: Rewrite, changed: str, rewritten: str) -> str:
        """Return the target that the upstream gets. Source: gateway contract, 5.1 and 10."""
        if rewrite.path is not None:
            kept = changed if len(rewrite.args) else (query or "") if self._release >= QUERY_KEPT else ""
            return uris.escape_path(rewrite.path) + (f"?{kept}" if kept else "")
        if rewritten:
            return rewritten
        query = changed if len(rewrite.args) else query
        return uris.escape_path(path) + (f"?{query}" if query else "")

    def _call(self, route: str, conf: Conf, phase: str, build: Callable[[int], Any], response: bytes | None = None) -> Any:
        """
        Return the runner's reply, or None if the call failed.

        Args: response: the body of the response, or None in a request phase.
        """
        peer = self._idle.pop() if self._idle else Peer(self._socket, self.timeout_s)
        with suppress(HungUp, TimeoutError, ConnectionError):
            peer.send(build(self._token(f"{route}#{phase}", conf)))
            while isinstance(reply := peer.receive(), ExtraInfoReq):
                self.asked.append(reply.info)
                if self._release < _since(reply.info, in_response=response is not None):
                    peer.close()  # "unexpected type 3"
                    return None
                bodies = {ReqBody: BODY, RespBody: response}
                result = self.variables.get(reply.info.name) if isinstance(reply.info, Var) else bodies[type(reply.info)]
                peer.send(ExtraInfoResp(result))
            self._idle.append(peer)
            return reply
        peer.close()
        return None

    def _token(self, key: str, conf: Conf) -> int:
        if key not in self._tokens:
            with Peer(self._socket, self.timeout_s) as peer:
                self.prepared.append(f"route#{key}#1" if self._release >= KEYS else None)
                peer.send(PrepareConfReq(conf, self.prepared[-1]))
                prepared = peer.receive()
            assert isinstance(prepared, PrepareConfResp), prepared
            self._tokens[key] = prepared.conf_token
        return self._tokens[key]


def _since(info: object, *, in_response: bool) -> Release:
    """Return the first release that answers an info request."""
    return INFO_IN_RESPONSES if in_response else BODIES if isinstance(info, ReqBody) else VARIABLES


def _request(path: str, args: Any, headers: Pairs, token: int) -> HTTPReqCallReq:
    return HTTPReqCallReq(id=0, src_ip=b"\x7f\0\0\1", method="GET", path=path, args=list(args), headers=headers, conf_token=token)
