# SPDX-License-Identifier: Apache-2.0
"""The phases of ext-plugins for requests and responses. Each of them is one call to the runner. Source: gateway contract, 3 to 7."""

import ipaddress
import logging
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from apisix.gateway.http import uris
from apisix.gateway.http.answer import Answer, page_answer
from apisix.gateway.http.headers import MAX_ENTRIES, grouped, set_all, set_one
from apisix.gateway.phases import describe, variables
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.edits import (
    PROTECTED_RESPONSE_HEADERS,
    apply_rewrite,
    apply_stop,
    finish_content_type,
    invalid_stop,
    not_modified,
    read_client_body,
)
from apisix.gateway.phases.quirks import Quirk, release_text
from apisix.gateway.phases.tokens import Tokens
from apisix.gateway.report import PhaseReport
from apisix.gateway.routing.upstream_client import UpstreamResponse
from apisix.gateway.runner.connection_pool import RunnerFailed, RunnerGarbage, RunnerPool, TokenNotFound
from apisix.runner.http.phase import Phase
from apisix.runner.wire.messages import (
    ExtraInfoReq,
    ExtraInfoResp,
    HTTPReqCallReq,
    HTTPReqCallResp,
    HTTPRespCallReq,
    HTTPRespCallResp,
    Info,
    Message,
    Method,
    ReqBody,
    Rewrite,
    Stop,
    Var,
)

logger = logging.getLogger(__name__)

TRIES = 3
_METHODS = frozenset(Method.__members__)

Answerer = Callable[[Info], bytes | None]


class _LuaError(Exception):
    """APISIX's Lua code raises an error here, and the client gets a 500."""


class ExtPlugins:
    """
    Runs the ext-plugin phases of a request against one runner.

    Args: quirks: the differences of the emulated release of APISIX.
    """

    def __init__(self, pool: RunnerPool, quirks: frozenset[Quirk] = frozenset()) -> None:
        self._pool = pool
        self._quirks = quirks
        self._ids = count()  # from `worker_id << 22`, and this gateway is worker 0
        self.tokens = Tokens(pool, sends_key=Quirk.NO_INFO_REQUESTS not in quirks)

    async def on_request(self, context: RequestContext, phase: Phase, conf: Mapping[str, Any], report: PhaseReport) -> Answer | None:
        """
        Call the runner for a request and apply its reply.

        Returns: the answer for the client if the runner stopped the request, or if it failed and the route does not degrade; else None.
        """
        path, args = _path_and_args(context)

        def build(id: int, token: int) -> Message:
            if context.method not in _METHODS:
                # APISIX's Lua code raises an error, because the schema has no number for the method.
                raise _LuaError(f"the protocol has no method {context.method}")
            limit = len(context.headers) if Quirk.ALL_HEADERS in self._quirks else MAX_ENTRIES
            headers = [(name, context.upstream_host if name == "host" else value) for name, value in _headers_shown(context, limit)]
            address = ipaddress.ip_address(context.remote_addr).packed
            return HTTPReqCallReq(id, address, context.method, path, uris.flatten(args), headers, token)

        def answer(info: Info) -> bytes | None:
            return _answer_in_request(context, info)

        reply = await self._call(context, phase, conf, report, build, answer)
        if isinstance(reply, int):
            return page_answer(reply, context.response_headers)
        if not isinstance(reply, HTTPReqCallResp):
            return None
        report.changes = describe.request_changes(context, path, args, reply.action, self._quirks)
        if isinstance(reply.action, Stop):
            if (reason := invalid_stop(reply.action, self._quirks)) is not None:
                report.error = reason
                return page_answer(500, context.response_headers)
            return apply_stop(context, reply.action, self._quirks)
        if isinstance(reply.action, Rewrite):
            apply_rewrite(context, reply.action, self._quirks, args)
        return None

    async def on_response(
        self, context: RequestContext, response: UpstreamResponse, conf: Mapping[str, Any], report: PhaseReport
    ) -> Answer | None:
        """
        Call the runner for the upstream's response, and build the client's from both.

        Returns: None if there is no body to send; the gateway then sends the request to the upstream a second time.
        """
        context.upstream_status = response.status
        body = await response.read()
        unread = [body or None] if response.has_body else [None]

        def build(id: int, token: int) -> Message:
            return HTTPRespCallReq(id, response.status, _together(response.headers), token)

        def answer(info: Info) -> bytes | None:
            if isinstance(info, Var | ReqBody):
                return _answer_in_request(context, info)
            return unread.pop() if unread else None

        reply = await self._call(context, Phase.POST_RESP, conf, report, build, answer)
        if not isinstance(reply, HTTPRespCallResp):
            if reply == 500:
                return page_answer(500, context.response_headers)
            if not response.has_body:
                return None
            # The original body without its headers, even if a plugin wanted to replace it (observed).
            status = reply if isinstance(reply, int) else response.status
            finish_content_type(context, status)
            return Answer(status, context.response_headers, body)
        report.changes = describe.response_changes(response, body, reply, self._quirks)
        kept = [(name, value) for name, value in _together(response.headers) if name.lower() not in PROTECTED_RESPONSE_HEADERS]
        if len(reply.headers):
            protects = Quirk.PROTECTED_IN_RESPONSES in self._quirks
            set_all(
                context.response_headers,
                (entry for entry in reply.headers if not protects or entry[0].lower() not in PROTECTED_RESPONSE_HEADERS),
            )
        else:
            seen: set[str] = set()
            for name, value in kept:
                set_one(context.response_headers, name, value, adds=name.lower() in seen)
                seen.add(name.lower())
        if not reply.body and not response.has_body:
            return None
        status = reply.status or response.status
        if status < 100:
            status = 200  # observed for 99
        finish_content_type(context, status)
        # Without a new body, the plugin itself sends the response. Source: apisix/plugins/ext-plugin-post-resp.lua.
        return not_modified(context, Answer(status, context.response_headers, reply.body or body, from_upstream=not reply.body))

    def _check_info_request(self, info: Info, phase: Phase) -> None:
        """Raise RunnerFailed if the emulated release does not support an info request: it closes the connection then."""
        if (quirk := _refused_info_request(info, phase, self._quirks)) is not None:
            raise RunnerFailed(f"the runner sent an info request, which APISIX supports since {release_text(quirk.fixed_in)}")

    async def _call(
        self,
        context: RequestContext,
        phase: Phase,
        conf: Mapping[str, Any],
        report: PhaseReport,
        build: Callable[[int, int], Message],
        answer: Answerer,
    ) -> Message | int | None:
        """Return the runner's reply; without a reply, the status for the client, or None if the route degrades."""
        started = time.perf_counter()
        try:
            return await self._with_tries(context, phase, conf, report, build, answer)
        except RunnerGarbage as error:
            report.error = f"the runner sent an invalid message: {error}"
            return 500
        except _LuaError as error:
            report.error = str(error)
            return 500
        except RunnerFailed as error:
            report.error = str(error)
            return None if conf.get("allow_degradation") and Quirk.NO_DEGRADATION not in self._quirks else 503
        finally:
            report.duration_s = time.perf_counter() - started

    async def _with_tries(
        self,
        context: RequestContext,
        phase: Phase,
        conf: Mapping[str, Any],
        report: PhaseReport,
        build: Callable[[int, int], Message],
        answer: Answerer,
    ) -> Message:
        source = context.source
        assert source is not None  # noqa: S101  # set before a plugin runs
        # The version contains a further `#` if the route has a plugin configuration.
        key = report.key = f"{source.type}#{source.id}#{phase}#{source.version}"
        for _ in range(TRIES):
            try:
                # The connection for the call is open while PrepareConf is sent on another one.
                async with self._pool.connection() as connection:
                    token = await self.tokens.get(key, conf)
                    report.call_id = next(self._ids)
                    await connection.send(build(report.call_id, token))
                    while isinstance(reply := await connection.receive(), ExtraInfoReq):
                        self._check_info_request(reply.info, phase)
                        await connection.send(ExtraInfoResp(answer(reply.info)))
                    return reply
            except TokenNotFound as error:
                logger.warning("%s: flushing all tokens", error)
                self.tokens.flush()
        raise RunnerFailed(f"the runner refused the token that it had just issued, {TRIES} times")


def _refused_info_request(info: Info, phase: Phase, quirks: frozenset[Quirk]) -> Quirk | None:
    if Quirk.NO_INFO_REQUESTS in quirks:
        return Quirk.NO_INFO_REQUESTS
    if phase is Phase.POST_RESP and Quirk.NO_INFO_REQUESTS_IN_RESPONSES in quirks:
        return Quirk.NO_INFO_REQUESTS_IN_RESPONSES
    return Quirk.NO_BODY_REQUESTS if not isinstance(info, Var) and Quirk.NO_BODY_REQUESTS in quirks else None


def _path_and_args(context: RequestContext) -> tuple[str, uris.Args]:
    """Return the path and the arguments for the runner. If something has rewritten the path, return the rewritten one, encoded."""
    if not context.upstream_uri:
        return context.uri, uris.parse_args(context.args or "")
    path, mark, query = context.upstream_uri.partition("?")
    if mark:
        context.set_args(query)
    return path, uris.parse_args(context.args or "")


def _headers_shown(context: RequestContext, limit: int) -> list[tuple[str, str]]:
    entries = grouped(context.headers, limit)
    if not context.stale_headers:
        return entries
    fresh = [(name, value) for name, value in entries if name not in context.stale_headers]
    return fresh + [(name, value) for name, values in context.stale_headers.items() for value in values]


def _answer_in_request(context: RequestContext, info: Info) -> bytes | None:
    if isinstance(info, Var):
        value = variables.look_up(context, info.name)
        context.args_read = context.args_read or (info.name == "args" and value is not None)
        return None if value is None else uris.encode(value)
    if isinstance(info, ReqBody):
        read_client_body(context)
        context.body_read = True
        return context.body or None
    return None


def _together(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return headers with the values of one name grouped, in the case of its first occurrence."""
    groups: dict[str, tuple[str, list[str]]] = {}
    for name, value in headers:
        groups.setdefault(name.lower(), (name, []))[1].append(value)
    return [(name, value) for name, values in groups.values() for value in values]
