# SPDX-License-Identifier: Apache-2.0
"""Compute what the client and the upstream get, from the runner's reply. Source: gateway contract, 5 and 7."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from multidict import CIMultiDict, MultiDict

from apisix.runner.http.header_rules import REWRITE_IGNORES
from apisix.runner.wire.messages import ErrResp, HTTPReqCallResp, HTTPRespCallResp, Pair, Rewrite, Stop
from apisix.testing.results.response_headers import HIDDEN, SINGLE
from apisix.testing.results.result import ClientResponse, Result, UpstreamRequest
from apisix.testing.running.engine import Outcome
from apisix.testing.sending.messages import SentRequest, SentResponse
from apisix.testing.sending.query import decoded, written_query

UNAVAILABLE = 503

# nginx sends these headers of the upstream, and ignores values that plugins have set.
_ONCE = frozenset({"content-type", "content-length"})


def result_of(sent: SentRequest | SentResponse, outcome: Outcome, *, allow_degradation: bool) -> Result:
    """Return the result of a call: what the client and the upstream get."""
    reply: Any = outcome.reply
    result = Result(asked=outcome.asked, error=outcome.error, _trace=outcome.trace, _sent=sent)
    if isinstance(sent, SentResponse):
        response = response_of(sent, reply, allow_degradation=allow_degradation)
        return replace(result, _response=response, upstream_asked_twice=_is_asked_twice(sent, reply))
    stopped = stopped_by(reply, allow_degradation=allow_degradation)
    if stopped is not None:
        return replace(result, _reply=stopped)
    rewrite = None if outcome.is_error else reply.action
    return replace(result, _upstream=upstream_of(sent, rewrite), client_headers=client_headers_of(rewrite))


def request_of(result: Result) -> SentRequest:
    """
    Return the request whose outcome is `result`, with all edits, as later phases see it. Its `request_id` is the same.

    Raises: TypeError: the result is that of a response. AssertionError: the request was stopped, so it has no later phase.
    """
    __tracebackhide__ = True
    sent = result._sent
    if not isinstance(sent, SentRequest):
        raise TypeError("of must be the result of a request, such as client.get(...)")
    upstream = result.upstream
    return replace(sent, path=upstream.path, headers=tuple(upstream.headers.items()), body=upstream.body)


def stopped_by(reply: HTTPReqCallResp | ErrResp, *, allow_degradation: bool) -> ClientResponse | None:
    """
    Return the response to the client if the request was stopped, or None if it continues.

    After an error, it continues only if the route allows degradation.
    """
    if isinstance(reply, ErrResp):
        return None if allow_degradation else ClientResponse(UNAVAILABLE)
    if not isinstance(reply.action, Stop):
        return None
    return ClientResponse(reply.action.status or 200, _headers(reply.action.headers), reply.action.body)


def upstream_of(sent: SentRequest, rewrite: Rewrite | None) -> UpstreamRequest:
    """Return the request as the upstream receives it."""
    rewrite = rewrite or Rewrite()
    # If another plugin has rewritten the path, the gateway has sent it percent-encoded, and edits of arguments alone have no effect
    # (gateway contract, 5.1).
    was_rewritten = bool(sent.variables.get("upstream_uri"))
    path = rewrite.path
    args = list(sent.args) if was_rewritten and path is None else _edited_args(sent.args, rewrite.args)
    if path is None:
        path = decoded(sent.path) if was_rewritten else sent.path
    headers = CIMultiDict(sent.headers)
    for name, value in rewrite.headers:
        if value:
            headers[name] = value
        else:  # an empty value deletes too
            headers.popall(name, None)
    if rewrite.body:
        headers.popall("transfer-encoding", None)
        headers["content-length"] = str(len(rewrite.body))
    shown: MultiDict[str] = MultiDict((name, value or "") for name, value in args)
    return UpstreamRequest(sent.method, path, shown, written_query(args), headers, rewrite.body or sent.body)


def client_headers_of(rewrite: Rewrite | None) -> CIMultiDict[str]:
    """Return the headers that are set on the client's response, without those that the gateway ignores."""
    if rewrite is None:
        return CIMultiDict()
    return _headers((name, value) for name, value in rewrite.resp_headers if name.lower() not in REWRITE_IGNORES)


def response_of(sent: SentResponse, reply: HTTPRespCallResp | ErrResp, *, allow_degradation: bool) -> ClientResponse:
    """
    Return the response as the client receives it.

    After an error, the client gets the upstream's body without its headers. If the response has no body, the gateway sends the request
    again, and the client gets the second response.
    """
    if isinstance(reply, ErrResp):
        if _is_asked_twice(sent, reply):
            return ClientResponse(sent.status, _headers_after_second_request(sent, CIMultiDict()))
        return ClientResponse(sent.status if allow_degradation else UNAVAILABLE, CIMultiDict(), sent.body)
    if len(reply.headers):
        headers = _headers(reply.headers)
    else:
        headers = CIMultiDict((name, value) for name, value in sent.headers if name.lower() not in REWRITE_IGNORES)
    if _is_asked_twice(sent, reply):
        return ClientResponse(sent.status, _headers_after_second_request(sent, headers))
    return ClientResponse(reply.status or sent.status, headers, reply.body or sent.body)


def _is_asked_twice(sent: SentResponse, reply: HTTPRespCallResp | ErrResp) -> bool:
    """Return True if there is no body to send to the client. The gateway then sends the request to the upstream again."""
    return sent.never_has_body and (isinstance(reply, ErrResp) or not reply.body)


def _headers_after_second_request(sent: SentResponse, headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """
    Return the headers after a second request: those that plugins have set, followed by those of the upstream.

    The upstream is assumed to send the same response again. Source: gateway contract, 7.
    """
    plain: CIMultiDict[str] = CIMultiDict((name, value) for name, value in sent.headers if name.lower() in _ONCE)
    plain.extend([(name, value) for name, value in headers.items() if name.lower() not in _ONCE])
    plain.extend([(name, value) for name, value in sent.headers if name.lower() not in _ONCE | HIDDEN])
    return plain


def _edited_args(args: Iterable[Pair], edits: Iterable[Pair]) -> list[Pair]:
    """Return arguments with edits. The first value of a name replaces the old ones, later values are added, and None deletes the name."""
    values: dict[str, list[str | None]] = {}
    for name, value in args:
        values.setdefault(name, []).append(value)
    replaced: set[str] = set()
    for name, value in edits:
        if value is None:
            values.pop(name, None)
        elif name in replaced:
            values.setdefault(name, []).append(value)
        else:
            values[name] = [value]
            replaced.add(name)
    return [(name, value) for name, each in values.items() for value in each]


def _headers(pairs: Iterable[Pair]) -> CIMultiDict[str]:
    """
    Return response headers as the client receives them: names are lower case, and an entry without a value, or an empty one, has no effect.

    nginx stores only one value of some headers, the last. Source: gateway contract, 9.
    """
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in pairs:
        if value and name.lower() in SINGLE:
            headers[name.lower()] = value
        elif value:
            headers.add(name.lower(), value)
    return headers
