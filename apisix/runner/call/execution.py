# SPDX-License-Identifier: Apache-2.0
"""Run the plugins of one call and decide what the gateway is told, also when they fail. Source: design, 4 and 5."""

import logging
from collections.abc import Awaitable
from time import perf_counter
from typing import cast

from apisix.runner.call.call import Call
from apisix.runner.call.chains import Chains, PreparedChain, Setup
from apisix.runner.call.effects import Effect, effect_of
from apisix.runner.call.meter import Meter, outcome_of
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.stalls import STALL_S
from apisix.runner.errors import CallCancelled, DeadlineExceeded, ErrCode, Overloaded, RemoteProtocolError, UnknownToken
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.chain import Link
from apisix.runner.wire.calls import HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, HTTPRespCallResp
from apisix.runner.wire.messages import ErrResp

logger = logging.getLogger(__name__)

Outcome = HTTPReqCallResp | HTTPRespCallResp | ErrResp

UNAVAILABLE_BODY = b"503 Service Unavailable\n"
UNAVAILABLE_HEADERS = (("content-type", "text/plain; charset=utf-8"),)
WITHOUT_BODY = frozenset({204, 304})
"""Statuses after which the gateway asks the upstream a second time. Source: gateway contract, 7."""


def execute(call: Call, runtime: Runtime, message: HTTPReqCallReq | HTTPRespCallReq) -> Outcome:
    """
    Run the chain that `message` names and return the reply.

    Raises:
        CallCancelled: nobody waits for a reply any more.
        RemoteProtocolError: a plugin touched a part of `message` that is malformed.
    """
    chains: Chains = runtime.chains
    try:
        prepared = chains.acquire(message.conf_token, type(message) is HTTPRespCallReq)
    except UnknownToken as error:
        runtime.unknown_tokens += 1
        return ErrResp(error.err_code)
    call.route_key = prepared.chain.key
    try:
        if prepared.chain.refusal is not None:  # logged when the chain was built
            runtime.refusals += 1
            return refuse(message, runtime.on_error)
        return _run_chain(call, runtime, prepared, message)
    finally:
        chains.release(prepared)


def refuse(message: HTTPReqCallReq | HTTPRespCallReq, on_error: str) -> Outcome:
    """
    Return the reply of a call that failed.

    An error frame lets the route's `allow_degradation` decide. In the response phase it would also let the
    upstream's body through, which the plugin that failed may have been there to hide: so unless `on_error` is
    "degrade", a response is replaced. Source: design, 5; gateway contract, 7.
    """
    if isinstance(message, HTTPRespCallReq) and on_error != "degrade":
        return HTTPRespCallResp(message.id, 503, UNAVAILABLE_HEADERS, UNAVAILABLE_BODY)
    return ErrResp(ErrCode.SERVICE_UNAVAILABLE)


def _run_chain(call: Call, runtime: Runtime, prepared: PreparedChain, message: HTTPReqCallReq | HTTPRespCallReq) -> Outcome:
    exchange: Request | Response
    if isinstance(message, HTTPReqCallReq):
        exchange = Request(message, call, phase=prepared.chain.phase, route_key=prepared.chain.key)
    else:
        if message.status in WITHOUT_BODY:
            _warn_of_second_request(prepared, message.status)
        exchange = Response(message, call, route_key=prepared.chain.key, max_decompressed_bytes=runtime.max_decompressed_bytes)
    meter = runtime.meter
    observed = runtime.observer is not None
    effects: list[Effect] = []
    reply: Reply | None = None
    try:
        for link, setup in prepared.steps:
            call.plugin = link.name
            on_error = link.on_error or runtime.on_error
            before = exchange.copy() if observed or on_error == "pass" else None
            began_s = perf_counter() if observed else 0.0
            failure: BaseException | None = None
            try:
                if meter is None:
                    reply = _run_link(call, runtime, link, setup, exchange)
                else:
                    reply = _run_measured(meter, call, runtime, link, setup, exchange)
            except (CallCancelled, RemoteProtocolError):
                raise
            except BaseException as error:  # a plugin may raise anything, SystemExit included, and costs only its own call
                failure = error
            if observed and before is not None:
                effects.append(effect_of(link.name, perf_counter() - began_s, before, exchange, reply, failure))
            if failure is not None:
                passes = on_error == "pass" and not isinstance(failure, Overloaded)
                _log_failure(link, failure, passes=passes)
                if not passes or before is None:
                    runtime.failed(call.id, failure)
                    return refuse(message, on_error)
                # The copy, not the original: a thread that was abandoned may still edit that.
                exchange = before
            if reply is not None:
                break
    finally:
        if runtime.observer is not None:
            runtime.observer(exchange, effects)
    call.plugin = None
    return exchange.to_message(reply)


def _run_link(call: Call, runtime: Runtime, link: Link, setup: Setup | None, exchange: Request | Response) -> Reply | None:
    call.gave_up = False
    if setup is not None and not setup.done:
        call.wait_for(setup.ensure())
    if link.needs:
        exchange.prefetch(link.needs)
    result: object
    try:
        if link.is_coroutine:
            result = call.wait_for(cast("Awaitable[object]", link.hook(exchange)))
        elif link.plugin_type.blocking:
            result = call.run_in_thread(link.hook, exchange)
        else:
            result = _run_inline(call, runtime, link, exchange)
        if result is not None and type(result) is not Reply and isinstance(result, Awaitable):  # a decorator hid the `async`
            result = call.wait_for(result)
    except Reply as reply:
        result = reply
    call.check_swallowed()
    if result is not None and not isinstance(result, Reply):
        raise TypeError(f"a hook returns None or a Reply, but {link.name} returned {type(result).__name__}")
    return result


def _run_measured(
    meter: Meter, call: Call, runtime: Runtime, link: Link, setup: Setup | None, exchange: Request | Response
) -> Reply | None:
    mark = exchange.mark()
    began_s = perf_counter()
    try:
        reply = _run_link(call, runtime, link, setup, exchange)
    except BaseException as error:  # it goes on to whom it concerns
        meter.count(link.name, exchange.phase, outcome_of(error), perf_counter() - began_s)
        raise
    took_s = perf_counter() - began_s
    outcome = "stop" if reply is not None else "continue" if exchange.mark() == mark else "rewrite"
    meter.count(link.name, exchange.phase, outcome, took_s)
    return reply


def _run_inline(call: Call, runtime: Runtime, link: Link, exchange: Request | Response) -> object:
    stalls = runtime.stalls
    suspended_s = call.suspended_s
    began_s = perf_counter()
    stalls.running = (link.plugin_type, began_s)
    try:
        return link.hook(exchange)
    finally:
        stalls.running = None
        now_s = perf_counter()
        held_s = now_s - began_s - (call.suspended_s - suspended_s)
        if held_s >= STALL_S:
            stalls.record(link.plugin_type, held_s, now_s)


def _log_failure(link: Link, error: BaseException, *, passes: bool) -> None:
    consequence = "the call goes on without its edits (on_error: pass)" if passes else "the call is refused"
    if isinstance(error, DeadlineExceeded | Overloaded):  # where it stood says nothing
        logger.error("plugin %s could not run to its end, %s: %s", link.name, consequence, error)
    else:
        logger.error("plugin %s failed, %s", link.name, consequence, exc_info=error)


def _warn_of_second_request(prepared: PreparedChain, status: int) -> None:
    if not prepared.warned:
        prepared.warned = True
        logger.warning(
            "%s: the upstream answered %d, which has no body, and then the gateway asks it a second time. "
            "Keep ext-plugin-post-resp off routes that answer so",
            prepared.chain.key,
            status,
        )
