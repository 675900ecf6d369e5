# SPDX-License-Identifier: Apache-2.0
"""The gateway: from a request to its response, through the phases in APISIX's order."""

import asyncio
from collections.abc import Callable, Iterator

from multidict import CIMultiDict

from apisix.gateway.display.report import EffectSource, NoEffects, PhaseReport, RequestReport
from apisix.gateway.http import pages
from apisix.gateway.http.headers import grouped, replace
from apisix.gateway.http.upstream import ConnectFailed, UpstreamFailed, UpstreamResponse, send_request
from apisix.gateway.phases import proxy_rewrite
from apisix.gateway.phases.edits import read_client_body
from apisix.gateway.phases.exchange import Answer, Exchange, page_answer
from apisix.gateway.phases.phases import ExtPlugins
from apisix.gateway.routing import admin
from apisix.gateway.routing.routes import Node, Upstream
from apisix.gateway.routing.store import Store
from apisix.runner.http.phase import Phase

# nginx does not pass these on to an upstream: it writes its own, or none. Source: nginx, proxy_set_header.
_NOT_FORWARDED = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive", "te", "expect", "upgrade"})
_FORWARDED_BY_NGINX = ("x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port")
# nginx does not pass these on to a client. Source: nginx, proxy_hide_header.
_HIDDEN = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "server", "x-pad"})
# Source: gateway contract, 7; the upstream's view in `resp-*` of tests/golden/behaviour.jsonl.
_FETCHER = "lua-resty-http/0.16.1 (Lua) ngx_lua/10031"

# Source: gateway contract, 7 (observed).
_CHUNKED_UPLOAD = (
    "on APISIX this call hangs for 60 s and ends with 502: ext-plugin-post-resp announces chunks to the upstream and sends none. "
    "To avoid it, call request.headers.popall('transfer-encoding', None) in ext-plugin-pre-req or ext-plugin-post-req"
)

# Source: gateway contract, 9 (observed).
_SMUGGLED = (
    "a runner set or deleted content-length before the body was read, and APISIX takes the last {} bytes of the body for another request "
    "of this client: request smuggling"
)


class Gateway:
    """
    Answers requests as APISIX would.

    Args:
        store: the routes.
        plugins: the runner's phases.
        admin_api: handles requests under /apisix/admin; None for a gateway without an admin API.
        on_report: called with the report of each request when it has finished.
        effects: the source of the effects of each plugin.
    """

    def __init__(
        self,
        store: Store,
        plugins: ExtPlugins,
        admin_api: admin.AdminApi | None = None,
        on_report: Callable[[RequestReport], None] = lambda _: None,
        effects: EffectSource | None = None,
    ) -> None:
        self._store = store
        self._plugins = plugins
        self._admin = admin_api
        self._on_report = on_report
        self._effects = effects or NoEffects()
        self._told = asyncio.Event()  # of the request that was answered last
        self._told.set()

    async def answer(self, exchange: Exchange) -> tuple[Answer, RequestReport]:
        """Return the answer to a request, and the report to pass to `finish` when the answer has been sent."""
        report = RequestReport(exchange.method, exchange.target)
        if self._admin is not None and f"{exchange.uri}/".startswith(f"{admin.PREFIX}/"):
            answer = self._admin.answer(exchange)
        else:
            try:
                answer = await self._proxied(exchange, report)
            except UpstreamFailed as error:
                report.error = str(error)
                answer = page_answer(exchange, error.status)
        exchange.obey_length()  # nginx reads and discards this much of the body if it was not needed
        if exchange.rest:
            report.error = _SMUGGLED.format(len(exchange.rest)) + (f"; {report.error}" if report.error else "")
        report.status = answer.status
        return answer, report

    async def finish(self, report: RequestReport) -> None:
        """Complete the report of a request and pass it on, in the order of the calls of this method. Some effects never arrive."""
        before, told = self._told, asyncio.Event()
        self._told = told
        try:
            for phase in report.phases:
                if phase.call_id is not None:
                    phase.effects = await self._effects.take(phase.call_id)
                if phase.key is not None and not phase.effects:
                    phase.refusal = self._effects.refusal(phase.key)
            await before.wait()
            self._on_report(report)
        finally:
            told.set()

    async def _proxied(self, exchange: Exchange, report: RequestReport) -> Answer:
        match = self._store.router.match(exchange.method, exchange.host, exchange.uri, exchange.remote_addr)
        if match is None:
            answer = admin.json_answer(404, {"error_msg": "404 Route Not Found"})
            answer.headers["Content-Type"] = "text/plain; charset=utf-8"
            return answer
        route = exchange.route = match.route
        exchange.uri_params = match.params
        report.route_id = route.id
        _set_forwarded_headers(exchange)

        for phase in (Phase.PRE_REQ, None, Phase.POST_REQ):
            if phase is None:
                if proxy_rewrite.NAME in route.plugins:
                    proxy_rewrite.apply(exchange, route.plugins[proxy_rewrite.NAME])
            elif phase in route.plugins:
                stopped = await self._plugins.on_request(exchange, phase, route.plugins[phase], _phase_report(exchange, phase, report))
                if stopped is not None:
                    return stopped

        if route.upstream is None or (node := route.upstream.balancer.pick()) is None:
            report.error = f"route {route.id} has no upstream" if route.upstream is None else "no node of the upstream has a weight"
            return page_answer(exchange, 503)
        exchange.node = node
        read_client_body(exchange)
        _set_upstream_host(exchange, route.upstream, node)

        if Phase.POST_RESP in route.plugins:
            if exchange.body and "transfer-encoding" in exchange.headers:
                # The gateway and the upstream would wait for each other until a timeout, which is of no use here.
                raise UpstreamFailed(502, _CHUNKED_UPLOAD)
            try:
                response = await self._send(exchange, route.upstream, report, _headers_by_fetcher(exchange))
            except UpstreamFailed as error:
                # APISIX answers 502 to any failure in this phase, including a timeout.
                raise UpstreamFailed(502, str(error)) from error
            conf = route.plugins[Phase.POST_RESP]
            shown = await self._plugins.on_response(exchange, response, conf, _phase_report(exchange, Phase.POST_RESP, report))
            if shown is not None:
                return shown
            # Without a body, nginx proxies the request a second time (observed for 204, 304 and HEAD).
            report.asked_twice = True
        response = await self._send(exchange, route.upstream, report, _headers_by_nginx(exchange))
        return _pass_on(exchange, response)

    async def _send(
        self, exchange: Exchange, upstream: Upstream, report: RequestReport, headers: Iterator[tuple[str, str]]
    ) -> UpstreamResponse:
        """Send the request. If a node can't be reached, try the next one; each is tried once."""
        fields = list(headers)
        target = exchange.upstream_target()
        tried: list[Node] = []
        while (node := exchange.node) is not None:
            report.upstream = str(node)
            tried.append(node)
            try:
                return await send_request(upstream, node, exchange.method, target, fields, exchange.body)
            except ConnectFailed:
                exchange.node = upstream.balancer.pick(tried)
                if exchange.node is None:
                    raise
        raise UpstreamFailed(503, "the upstream has no node")


def _phase_report(exchange: Exchange, phase: Phase, report: RequestReport) -> PhaseReport:
    assert exchange.route is not None  # noqa: S101  # only called for a matched route
    plugins = tuple(entry["name"] for entry in exchange.route.plugins[phase].get("conf", ()))
    report.phases.append(PhaseReport(phase.value, plugins))
    return report.phases[-1]


def _set_forwarded_headers(exchange: Exchange) -> None:
    """Set the X-Forwarded headers for plugins and upstream. Those of the client are not trusted."""
    replace(exchange.headers, "X-Forwarded-Proto", "http")
    replace(exchange.headers, "X-Forwarded-Host", exchange.headers.get("host", exchange.host))
    replace(exchange.headers, "X-Forwarded-Port", str(exchange.server_port))


def _set_upstream_host(exchange: Exchange, upstream: Upstream, node: Node) -> None:
    if upstream.pass_host == "rewrite" and upstream.upstream_host:  # noqa: S105  # not a password
        exchange.upstream_host = upstream.upstream_host
    elif upstream.pass_host == "node":  # noqa: S105  # not a password
        exchange.upstream_host = node.host if node.port == 80 else str(node)


def _headers_by_nginx(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """Yield the headers that nginx sends: its own first, then the client's in their order."""
    if exchange.upstream_host:
        yield "Host", exchange.upstream_host
    yield "X-Real-IP", exchange.remote_addr
    yield "X-Forwarded-For", ", ".join([*exchange.headers.getall("x-forwarded-for", []), exchange.remote_addr])
    for name in ("X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"):
        if name in exchange.headers:
            yield name, exchange.headers[name]
    if exchange.body or "content-length" in exchange.headers:
        yield "Content-Length", str(len(exchange.body))
    for name, value in exchange.headers.items():
        if name.lower() not in _NOT_FORWARDED and name.lower() not in _FORWARDED_BY_NGINX:
            yield name, value


def _headers_by_fetcher(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """Yield the headers that the gateway's own HTTP client sends for ext-plugin-post-resp: the request's headers from a Lua table."""
    if "user-agent" not in exchange.headers:
        yield "User-Agent", _FETCHER
    names = set()
    for name, value in grouped(exchange.headers):
        if name not in ("transfer-encoding", "content-length"):
            names.add(name)
            yield name, value
    if "host" not in names:
        yield "Host", exchange.upstream_host
    if exchange.body or "content-length" in exchange.headers:
        yield "content-length", str(len(exchange.body))


def _pass_on(exchange: Exchange, response: UpstreamResponse) -> Answer:
    """Build the response for the client: nginx's own fields, those that plugins set, then the upstream's."""
    exchange.upstream_status = response.status
    encoded = bool(response.values("content-encoding"))
    headers: CIMultiDict[str] = CIMultiDict()
    for name in ("Content-Type", "Content-Length"):
        for value in response.values(name.lower()):
            headers.add(name, pages.with_charset(value, response.status, encoded=encoded) if name == "Content-Type" else value)
    headers.extend([(name, value) for name, value in exchange.response_headers.items() if name not in headers])
    headers.extend(
        (name, value)
        for name, value in response.headers
        if name.lower() not in _HIDDEN
        and name.lower() not in ("content-type", "content-length")
        and not name.lower().startswith("x-accel-")
    )
    if not response.has_body:
        response.close()
        return Answer(response.status, headers)
    return Answer(response.status, headers, response.body)
