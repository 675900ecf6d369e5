# SPDX-License-Identifier: Apache-2.0
"""The gateway: from a request to its response, through the phases in APISIX's order."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from multidict import CIMultiDict

from apisix.gateway.http import pages
from apisix.gateway.http.answer import Answer, StreamFailed, json_answer, page_answer
from apisix.gateway.http.headers import grouped, replace
from apisix.gateway.phases import proxy_rewrite, variables
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.edits import read_client_body
from apisix.gateway.phases.phases import ExtPlugins
from apisix.gateway.phases.plugins import (
    EMULATED,
    REQUEST_PHASES,
    RESPONSE_REWRITE,
    PluginPhase,
    PluginSet,
    rewrite_response,
    with_error_response,
)
from apisix.gateway.report import CapturedMessage, NoRecords, PhaseReport, RecordSource, RequestReport, UpstreamReport, effects_of
from apisix.gateway.resources import admin
from apisix.gateway.resources.store import Store
from apisix.gateway.routing.balancing import Node
from apisix.gateway.routing.routes import STANDARD_PORTS, Consumer, Route, Upstream
from apisix.gateway.routing.upstream_client import (
    ConnectFailed,
    NoAnswer,
    RecordedResponse,
    UpstreamFailed,
    UpstreamResponse,
    send_request,
)
from apisix.runner.http.phase import Phase
from apisix.testing.results.response_headers import HIDDEN

# nginx does not pass these on to an upstream: it writes its own, or none. Source: nginx, proxy_set_header.
_NOT_FORWARDED = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive", "te", "expect", "upgrade"})
_FORWARDED_BY_NGINX = ("x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")
# Source: gateway contract, 7; the upstream's view in `resp-*` of tests/golden/behaviour.jsonl.
_FETCHER = "lua-resty-http/0.16.1 (Lua) ngx_lua/10031"

# Source: gateway contract, 7 (observed).
_CHUNKED_UPLOAD = (
    "on APISIX this call hangs for 60 s and ends with 502: ext-plugin-post-resp announces chunks to the upstream and sends none. "
    "To avoid it, call request.headers.popall('transfer-encoding', None) in ext-plugin-pre-req or ext-plugin-post-req"
)

# Source: apisix/plugins/ext-plugin-post-resp.lua.
_NO_TUNNEL = "ext-plugin-post-resp reads whole responses, so WebSockets do not work on its routes"

# Source: gateway contract, 9 (observed).
_SMUGGLED = (
    "a runner set or deleted content-length before the body was read, and APISIX takes the last {} bytes of the body for another request "
    "of this client: request smuggling"
)


BuildHeaders = Callable[[RequestContext], Iterator[tuple[str, str]]]
"""Returns the headers for the upstream."""

_NOT_IDEMPOTENT = frozenset({"POST", "LOCK", "PATCH"})
"""nginx does not send these requests to a second node once they have been sent. Source: nginx, proxy_next_upstream."""

UPSTREAM_STATUS = "X-APISIX-Upstream-Status"
"""Set by APISIX on responses for which the upstream has answered with a status of 500 or more, or not at all."""


class InvalidTarget(UpstreamFailed):
    """nginx does not connect to the upstream, because the path of the request is invalid."""


class Gateway:
    """
    Answers requests as APISIX would.

    Args:
        store: the routes.
        plugins: the runner's phases.
        admin_api: handles requests under /apisix/admin; None for a gateway without an admin API.
        on_report: called with the report of each request when it has finished.
        records: the source of the records of calls.
    Attributes: on_received: called with the report of each request before it is processed.
    """

    def __init__(
        self,
        store: Store,
        plugins: ExtPlugins,
        admin_api: admin.AdminApi | None = None,
        on_report: Callable[[RequestReport], None] = lambda _: None,
        records: RecordSource | None = None,
    ) -> None:
        self._store = store
        self._plugins = plugins
        self._admin = admin_api
        self._on_report = on_report
        self.on_received: Callable[[RequestReport], None] = lambda _: None
        self._records = records or NoRecords()
        self._finished = asyncio.Event()  # of the request that was answered last
        self._finished.set()

    async def answer(self, context: RequestContext) -> tuple[Answer, RequestReport]:
        """Return the answer to a request, and the report to pass to `finish` when the answer has been sent."""
        report = RequestReport(
            context.method, context.target, time_s=context.started, protocol=context.protocol, remote_addr=context.remote_addr
        )
        report.received = CapturedMessage(tuple(context.headers.items()))
        report.received.add(context.body)
        self.on_received(report)
        if self._admin is not None and f"{context.uri}/".startswith(f"{admin.PREFIX}/"):
            answer = self._admin.answer(context)
        else:
            try:
                answer = await self._proxied(context, report)
            except UpstreamFailed as error:
                report.error = str(error)
                answer = page_answer(error.status, context.response_headers)
        context.obey_length()  # nginx reads and discards this much of the body if it was not needed
        if context.rest:
            report.error = _SMUGGLED.format(len(context.rest)) + (f"; {report.error}" if report.error else "")
        report.status = answer.status
        report.sent = CapturedMessage(tuple(answer.headers.items()))
        if isinstance(answer.body, bytes):
            report.sent.add(answer.body)
        else:
            answer.body = _captured(answer.body, report.sent)
        return answer, report

    async def complete(self, report: RequestReport) -> None:
        """Add the runner's records of its calls to the report of a request. Some records never arrive."""
        for phase in report.phases:
            if phase.call_id is not None:
                phase.record = await self._records.take(phase.call_id)
            if phase.record is not None:
                phase.effects = effects_of(phase.record)
            if phase.key is not None and not phase.effects:
                phase.refusal = self._records.refusal(phase.key)

    async def finish(self, report: RequestReport) -> None:
        """Complete the report of a request and pass it on, in the order of the calls of this method."""
        before, finished = self._finished, asyncio.Event()
        self._finished = finished
        try:
            await self.complete(report)
            await before.wait()
            self._on_report(report)
        finally:
            finished.set()

    async def _proxied(self, context: RequestContext, report: RequestReport) -> Answer:
        def look_up(name: str) -> str | None:
            return variables.look_up(context, name)

        match = self._store.router.match(context.method, context.host, context.uri, context.remote_addr, look_up)
        if match is not None:
            context.route = match.route
            context.uri_params = match.params
            report.route_id = match.route.id
        _set_forwarded_headers(context)
        answer = await self._through_plugins(context, report)
        context.response_status = answer.status
        for plugins in self._plugin_sets(context):
            for name, conf in plugins.in_phase("header_filter", context):
                if name == RESPONSE_REWRITE:
                    received, answer = answer.body, rewrite_response(answer, context, conf)
                    if answer.body is not received:
                        await _discard(received)
        return answer

    def _plugin_sets(self, context: RequestContext) -> list[PluginSet]:
        """Return the plugins that run for a request: those of global rules, then those of its route and consumer."""
        sets = [rule for rule, _ in self._store.global_rules]
        if context.route is None:
            return sets
        plugins, source = context.route.plugins, context.route.source
        if context.consumer is not None:
            plugins = {**plugins, **context.consumer.plugins}
            source = context.consumer.merged_into(source)
        return [*sets, PluginSet(source, plugins)]

    async def _through_plugins(self, context: RequestContext, report: RequestReport) -> Answer:
        """Run the plugins of a request in APISIX's order, and send it to the upstream unless one of them answers it."""
        route = context.route
        guards = [guard for _, guard in self._store.global_rules] + ([] if route is None else [route.guard])
        for guard in filter(None, guards):
            return _refuse_unguarded(context, guard, report)
        for rule, _ in self._store.global_rules:
            for phase in REQUEST_PHASES:
                if (answer := await self._run(context, rule, phase, report)) is not None:
                    return answer
        if route is None:
            return _not_found()
        if (answer := await self._run(context, self._plugin_sets(context)[-1], "rewrite", report)) is not None:
            return answer
        if (
            context.consumer is not None
            and (answer := await self._rewrite_in_consumer(context, context.consumer, route, report)) is not None
        ):
            return answer
        if (answer := await self._run(context, self._plugin_sets(context)[-1], "access", report)) is not None:
            return answer
        return await self._from_upstream(context, route, report)

    async def _rewrite_in_consumer(self, context: RequestContext, consumer: Consumer, route: Route, report: RequestReport) -> Answer | None:
        """
        Run the plugins that the consumer adds to those of the route, after the consumer has been found in the phase `rewrite`.

        Source: apisix/plugin.lua, `rewrite_in_consumer`.
        """
        if consumer.guard is not None:
            return _refuse_unguarded(context, consumer.guard, report)
        source = self._plugin_sets(context)[-1].source
        added = {name: conf for name, conf in consumer.plugins.items() if name not in route.plugins}
        return await self._run(context, PluginSet(source, added), "rewrite", report)

    async def _run(self, context: RequestContext, plugins: PluginSet, phase: PluginPhase, report: RequestReport) -> Answer | None:
        """Run the plugins of one phase, and return the answer of the first one that has one."""
        context.source = plugins.source
        for name, conf in plugins.in_phase(phase, context):
            if (run := EMULATED[name].run) is not None:
                answer = run(context, conf, lambda: self._store.consumers)
            else:
                answer = await self._plugins.on_request(context, Phase(name), conf, _phase_report(context, Phase(name), conf, report))
            if answer is not None:
                return with_error_response(answer, conf)
        return None

    async def _from_upstream(self, context: RequestContext, route: Route, report: RequestReport) -> Answer:
        if route.missing_upstream is not None:
            report.error = f"there is no upstream [{route.missing_upstream}]"
            return page_answer(502, context.response_headers)
        upstream = route.upstream
        if upstream is None or (node := upstream.balancer.pick(hashed=_hashed(context, upstream))) is None:
            report.error = f"route {route.id} has no upstream" if upstream is None else "the upstream has no nodes"
            return page_answer(503, context.response_headers)
        context.node = node
        context.upstream_scheme = upstream.scheme
        read_client_body(context)
        set_upstream_host(context, upstream, node)
        for plugins in self._plugin_sets(context):
            context.source = plugins.source
            for _, conf in plugins.in_phase("before_proxy", context):
                if (answer := await self._fetched(context, upstream, conf, report)) is not None:
                    return answer
                # Without a body, nginx proxies the request a second time (observed for 204, 304 and HEAD).
                report.asked_twice = True
        try:
            response = await self._send(context, upstream, report, _headers_by_nginx, retries=_retries(upstream))
        except InvalidTarget:
            raise
        except UpstreamFailed as error:
            report.error = str(error)
            answer = page_answer(error.status, context.response_headers)
            answer.headers[UPSTREAM_STATUS] = str(error.status)
            return answer
        if response.values("x-accel-redirect"):
            response.close()
            return _redirected_internally(response)
        return _pass_on(context, response)

    async def _fetched(self, context: RequestContext, upstream: Upstream, conf: Mapping[str, Any], report: RequestReport) -> Answer | None:
        """Send the request as ext-plugin-post-resp does, and return the answer; None if there is no body to send."""
        if context.body and "transfer-encoding" in context.headers:
            # The gateway and the upstream would wait for each other until a timeout, which is of no use here.
            raise UpstreamFailed(502, _CHUNKED_UPLOAD)
        try:
            # In this phase APISIX uses neither the timeouts of the upstream nor its other nodes (observed).
            without = upstream.without_timeouts()
            response = await self._send(context, without, report, _headers_by_fetcher, retries=0)
        except UpstreamFailed as error:
            # APISIX answers 502 to any failure in this phase, including a timeout.
            raise UpstreamFailed(502, str(error)) from error
        if response.tunnel() is not None:
            response.close()
            raise UpstreamFailed(502, _NO_TUNNEL)
        answer = await self._plugins.on_response(context, response, conf, _phase_report(context, Phase.POST_RESP, conf, report))
        return None if answer is None else with_error_response(answer, conf)

    async def _send(
        self, context: RequestContext, upstream: Upstream, report: RequestReport, headers: BuildHeaders, *, retries: int
    ) -> UpstreamResponse:
        """Send the request. If a node can't be reached or does not answer, try up to `retries` further ones, as nginx does."""
        target = context.upstream_target()
        if not target.startswith("/"):
            raise InvalidTarget(502, f"the path {target!r} does not begin with a slash")
        tried: list[Node] = []
        while (node := context.node) is not None:
            report.upstream = str(node)
            if tried:
                set_upstream_host(context, upstream, node)
            tried.append(node)
            fields = list(headers(context))
            sent = UpstreamReport(str(node), context.method, target, time.time() - context.started, CapturedMessage(tuple(fields)))
            sent.request.add(context.body)
            report.upstreams.append(sent)
            try:
                upgrades = any(name.lower() == "upgrade" for name, _ in fields)
                if context.recorded_upstreams is None:
                    with upstream.balancer.sending(node):
                        response = await send_request(upstream, node, context.method, target, fields, context.body, upgrades=upgrades)
                    upstream.balancer.receiving(node, response.connection)
                else:
                    response = _recorded_response(context.recorded_upstreams)
                sent.status, sent.response = response.status, CapturedMessage(tuple(response.headers))
                response.body = _captured(response.body, sent.response)
                return response
            except UpstreamFailed as error:
                sent.error = str(error)
                may_repeat = isinstance(error, NoAnswer) and context.method not in _NOT_IDEMPOTENT
                if not (may_repeat or isinstance(error, ConnectFailed)):
                    raise
                context.node = upstream.balancer.pick(tried) if len(tried) <= retries else None
                if context.node is None:
                    raise
            finally:
                sent.duration_s = time.time() - context.started - sent.began_s
        raise UpstreamFailed(503, "the upstream has no node")


def _recorded_response(upstreams: Sequence[UpstreamReport]) -> UpstreamResponse:
    """Return the response that an upstream has sent before, for a request that is only run through the plugins again."""
    found = upstreams[-1] if upstreams else None
    if found is None:
        raise UpstreamFailed(502, "the request was not sent to an upstream before, so there is no response to use")
    if found.status is None:
        raise UpstreamFailed(502, found.error or "the upstream sent no response before")
    if found.response.is_truncated:
        raise UpstreamFailed(502, f"only the first {len(found.response.body)} bytes of the upstream's response were kept")
    return RecordedResponse(found.status, list(found.response.headers), found.response.body)


async def _discard(body: bytes | AsyncGenerator[bytes, None]) -> None:
    """Read a body that a plugin has replaced, to its end, as nginx does."""
    if not isinstance(body, bytes):
        with suppress(StreamFailed):
            async for _ in body:
                pass


def _refuse_unguarded(context: RequestContext, guard: str, report: RequestReport) -> Answer:
    report.error = f"{guard} is not supported by the development gateway, and requests must not pass without it"
    return page_answer(503, context.response_headers)


def _retries(upstream: Upstream) -> int:
    return len(upstream.nodes) - 1 if upstream.retries is None else upstream.retries


def _not_found() -> Answer:
    answer = json_answer(404, {"error_msg": "404 Route Not Found"})
    answer.headers["Content-Type"] = "text/plain; charset=utf-8"
    return answer


def _redirected_internally(response: UpstreamResponse) -> Answer:
    """
    Return the answer to a response with X-Accel-Redirect: nginx looks for a route of that path, which is not emulated.

    Source: nginx, proxy_ignore_headers; observed.
    """
    answer = _not_found()
    kept = ("content-type", "set-cookie", "cache-control", "content-disposition", "accept-ranges", "expires")
    answer.headers.popall("content-type")
    answer.headers.extend((name, value) for name, value in response.headers if name.lower() in kept)
    return answer


def _hashed(context: RequestContext, upstream: Upstream) -> str | None:
    """Return the text whose hash selects the node, None if the upstream does not use hashes. Source: apisix/balancer/chash.lua."""
    if upstream.hash_on is None:
        return None
    hash_on, key = upstream.hash_on
    if hash_on == "vars_combinations":
        text = proxy_rewrite.resolve(key, context) if proxy_rewrite.has_value(key, context) else None
    else:
        name = {"header": f"http_{key}", "cookie": f"cookie_{key}", "consumer": "consumer_name"}.get(hash_on, key)
        text = variables.look_up(context, name)
    return context.remote_addr if text is None else text


async def _captured(pieces: AsyncGenerator[bytes, None], message: CapturedMessage) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a body, and keep its beginning."""
    async with aclosing(pieces):
        async for piece in pieces:
            message.add(piece)
            yield piece


def _phase_report(context: RequestContext, phase: Phase, conf: Mapping[str, Any], report: RequestReport) -> PhaseReport:
    entries = conf.get("conf", ())
    names, values = tuple(entry["name"] for entry in entries), tuple(entry["value"] for entry in entries)
    allows = bool(conf.get("allow_degradation"))
    began_s = time.time() - context.started
    report.phases.append(PhaseReport(phase.value, names, began_s=began_s, conf=values, allow_degradation=allows))
    return report.phases[-1]


def _set_forwarded_headers(context: RequestContext) -> None:
    """Set the X-Forwarded headers for plugins and upstream. Those of the client are not trusted."""
    replace(context.headers, "X-Forwarded-Proto", "http")
    replace(context.headers, "X-Forwarded-Host", context.headers.get("host", context.host))
    replace(context.headers, "X-Forwarded-Port", str(context.server_port))
    replace(context.headers, "Forwarded", None)


def set_upstream_host(context: RequestContext, upstream: Upstream, node: Node) -> None:
    """Set the Host that the upstream gets, unless it is the client's. Source: apisix/balancer.lua."""
    if upstream.pass_host == "rewrite" and upstream.upstream_host:  # noqa: S105  # not a password
        context.upstream_host = upstream.upstream_host
    elif upstream.pass_host == "node":  # noqa: S105  # not a password
        context.upstream_host = node.host if node.port == STANDARD_PORTS[upstream.scheme] else str(node)


def _headers_by_nginx(context: RequestContext) -> Iterator[tuple[str, str]]:
    """Yield the headers that nginx sends: its own first, then the client's in their order."""
    if context.upstream_host:
        yield "Host", context.upstream_host
    if context.route is not None and context.route.enable_websocket:
        for name in ("Upgrade", "Connection"):
            if value := context.headers.get(name):
                yield name, value
    yield "X-Real-IP", context.remote_addr
    yield "X-Forwarded-For", ", ".join([*context.headers.getall("x-forwarded-for", []), context.remote_addr])
    for name in ("X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"):
        if name in context.headers:
            yield name, context.headers[name]
    if context.body or "content-length" in context.headers:
        yield "Content-Length", str(len(context.body))
    for name, value in context.headers.items():
        if name.lower() not in _NOT_FORWARDED and name.lower() not in _FORWARDED_BY_NGINX:
            yield name, value


def _headers_by_fetcher(context: RequestContext) -> Iterator[tuple[str, str]]:
    """Yield the headers of the request as the gateway's own HTTP client sends them for ext-plugin-post-resp, from a Lua table."""
    if "user-agent" not in context.headers:
        yield "User-Agent", _FETCHER
    names = set()
    for name, value in grouped(context.headers):
        if name not in ("transfer-encoding", "content-length"):
            names.add(name)
            yield name, value
    if "host" not in names:
        yield "Host", context.upstream_host
    if context.body or "content-length" in context.headers:
        yield "content-length", str(len(context.body))


def _pass_on(context: RequestContext, response: UpstreamResponse) -> Answer:
    """Build the response for the client: nginx's own fields, those that plugins set, then the upstream's."""
    context.upstream_status = response.status
    headers: CIMultiDict[str] = CIMultiDict()
    for name in ("Content-Type", "Content-Length"):
        for value in filter(None, response.values(name.lower())):
            headers.add(name, pages.with_charset(value, response.status) if name == "Content-Type" else value)
    if response.status >= 500:
        headers.add(UPSTREAM_STATUS, str(response.status))
    headers.extend([(name, value) for name, value in context.response_headers.items() if name not in headers])
    headers.extend(
        (name, value)
        for name, value in response.headers
        if name.lower() not in HIDDEN and name.lower() not in ("content-type", "content-length") and not name.lower().startswith("x-accel-")
    )
    has_date = bool(response.values("date"))
    tunnel = response.tunnel()
    if tunnel is None and not response.has_body:
        response.close()
    body = response.body if response.has_body else b""
    return Answer(response.status, headers, body, has_date=has_date, tunnel=tunnel, from_upstream=True)
