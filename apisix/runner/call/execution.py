# SPDX-License-Identifier: Apache-2.0
"""Run the plugins of one call and decide what the gateway is told, also when they fail. Source: design, 4 and 5."""

import logging
from collections.abc import Awaitable
from typing import Any, Final, cast

from apisix.runner import primitives
from apisix.runner.call.blocking.detector import HOLD_S
from apisix.runner.call.call import Call
from apisix.runner.call.chain_cache import CachedChain
from apisix.runner.call.observing.effects import Effect, effect_of
from apisix.runner.call.observing.meter import Meter, outcome_of
from apisix.runner.call.observing.watching import HookWatch, WatchedRequest, WatchedResponse, watched
from apisix.runner.call.runtime import Runtime
from apisix.runner.errors import CallCancelled, DeadlineExceeded, ErrCode, Overloaded, RemoteProtocolError, UnknownToken
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.plugin.chain import COROUTINE, INLINE, ChainStep
from apisix.runner.plugin.forked import end_forked
from apisix.runner.wire.call_messages import CallReq, HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, HTTPRespCallResp
from apisix.runner.wire.messages import ErrResp

execution_logger = logging.getLogger("apisix.runner.call.execution")

Outcome = HTTPReqCallResp | HTTPRespCallResp | ErrResp

_POST_RESP: Final = Phase.POST_RESP  # to look into an enum costs 0.2 us
UNAVAILABLE_BODY = b"503 Service Unavailable\n"
UNAVAILABLE_HEADERS = (("content-type", "text/plain; charset=utf-8"),)
WITHOUT_BODY = frozenset({204, 304})
"""Statuses after which the gateway asks the upstream a second time. Source: gateway contract, 7."""


def execute(call: Call, runtime: Runtime, can_wait: bool) -> Outcome | None:
    """
    Run the chain that the call's message names and return the reply.

    Args: can_wait: whether this is the greenlet in which a call waits. Where it is not and the call might have to, return None: to be
        called again from there, which goes on where this ended.
    Raises:
        CallCancelled: nobody waits for a reply any more.
        RemoteProtocolError: a plugin touched a part of the message that is malformed.
    """
    if call.prepared is None:
        message = call.message
        is_response = type(message) is HTTPRespCallReq
        prepared = runtime.chains.acquire(message.conf_token, is_response, call.began_s)
        if prepared is None and not can_wait:
            return None
        try:
            while prepared is None:
                call.wait_for(runtime.chains.build(message.conf_token, is_response))
                prepared = runtime.chains.acquire(message.conf_token, is_response, call.began_s)
        except UnknownToken as error:
            runtime.unknown_tokens += 1
            return ErrResp(error.err_code)
        except (DeadlineExceeded, Overloaded) as error:
            execution_logger.error("the call is refused while its plugins are made (__init__ and validation): %s", error)
            runtime.failed(call.id, error)
            return refuse(message, runtime.on_error)
        call.prepared = prepared
        call.route_key = prepared.chain.key
        if prepared.chain.refusal is not None:  # logged when the chain was built
            runtime.refusals += 1
            return refuse(message, runtime.on_error)
        if isinstance(message, HTTPReqCallReq):
            request_class = Request if runtime.observer is None else WatchedRequest
            call.exchange = request_class(message, call, prepared.chain.phase, prepared.chain.key, runtime.pre_req_first)
        elif isinstance(message, HTTPRespCallReq):
            if message.status in WITHOUT_BODY:
                _warn_of_second_request(prepared, message.status)
            response_class = Response if runtime.observer is None else WatchedResponse
            call.exchange = response_class(message, call, prepared.chain.key, _POST_RESP, runtime.max_decompressed_bytes)
    if runtime.observer is None:
        return _run_chain(call, runtime, can_wait, None)
    if not can_wait:
        return None
    effects: list[Effect] = []
    try:
        return _run_chain(call, runtime, can_wait, effects)
    finally:
        runtime.observer(cast("Request | Response", call.exchange), effects)


def refuse(message: CallReq, on_error: str) -> Outcome:
    """
    Return the reply of a call that failed.

    An error frame lets the route's `allow_degradation` decide. In the response phase it would also let the
    upstream's body through, which the plugin that failed may have been there to hide: so unless `on_error` is
    "degrade", a response is replaced. Source: design, 5; gateway contract, 7.
    """
    if isinstance(message, HTTPRespCallReq) and on_error != "degrade":
        return HTTPRespCallResp(message.id, 503, UNAVAILABLE_HEADERS, UNAVAILABLE_BODY)
    return ErrResp(ErrCode.SERVICE_UNAVAILABLE)


_WAITS: Final = object()
"""What stands for the result of a hook that the greenlet has to wait for."""


def _run_chain(call: Call, runtime: Runtime, can_wait: bool, effects: list[Effect] | None) -> Outcome | None:
    exchange = call.exchange
    assert exchange is not None  # noqa: S101  for the type checker, as the next one
    assert call.prepared is not None  # noqa: S101
    steps = call.prepared.chain.steps
    reply: Any = None
    while call.position < len(steps):
        step = steps[call.position]
        call.plugin = step.name
        if not can_wait and (
            not _runs_at_once(step) or step.plugin_type.blocking or (step.how_it_runs == COROUTINE and runtime.meter is not None)
        ):
            return None
        before = exchange.copy() if effects is not None or step.passes else None
        began_s = 0.0 if effects is None else primitives.now_s()
        failure: BaseException | None = None
        watch = None if effects is None else HookWatch(step.hook)
        try:
            if runtime.meter is not None:
                reply = _run_measured(runtime.meter, call, runtime, step, exchange, can_wait)
            elif can_wait or step.how_it_runs == COROUTINE:
                reply = _run_step(call, runtime, step, exchange, can_wait)
            else:
                reply = _run_inline(call, runtime, step, exchange)
                if reply is not None:
                    reply = _reply_of(call, step, reply, can_wait)
            if reply is _WAITS:
                return None
            if watch is not None:
                watch.check()
        except (CallCancelled, RemoteProtocolError):
            raise
        except BaseException as error:  # a plugin may raise anything, SystemExit included, and costs only its own call
            failure = error
        if runtime.forked:
            end_forked(failure)
        if effects is not None and before is not None:
            effects.append(effect_of(step.name, primitives.now_s() - began_s, before, exchange, reply, failure))
        if failure is not None:
            passes = step.passes and not isinstance(failure, Overloaded)
            _log_failure(step, failure, passes=passes)
            if step.how_it_runs != COROUTINE:
                runtime.blocking_detector.failed(step.plugin_type, failure)
            if not passes or before is None:
                runtime.failed(call.id, failure)
                failure = None  # its traceback refers to this frame: only the garbage collector would free both
                return refuse(call.message, step.on_error)
            # The copy, not the original: a thread that was abandoned may still edit that.
            exchange = call.exchange = before
        if reply is not None:
            break
        call.position += 1
    call.plugin = None
    if not can_wait and reply is None and exchange.reply_might_ask():
        return None
    try:
        return exchange.to_message(reply)
    except (DeadlineExceeded, Overloaded) as error:  # it has to ask whether something has rewritten the path, and can't
        execution_logger.error("the edits of path or arguments could not be sent, the call is refused: %s", error)
        runtime.failed(call.id, error)
        return refuse(call.message, runtime.on_error)


def _runs_at_once(step: ChainStep) -> bool:
    return step.how_it_runs in (INLINE, COROUTINE) and step.setup is None and not step.needs and not step.passes


def _run_step(call: Call, runtime: Runtime, step: ChainStep, exchange: Request | Response, can_wait: bool) -> Any:
    call.gave_up = False
    if step.setup is not None and not step.setup.done:
        watch = watched.get()
        watched.set(None)  # it is no hook: what it assigns is meant for all calls
        try:
            call.wait_for(step.setup.ensure())
        finally:
            watched.set(watch)
    if step.needs:
        exchange.prefetch(step.needs)
    result: object
    try:
        if call.pending is not None:
            result = _pending_result(call)
        elif step.how_it_runs == COROUTINE:
            result = step.hook(exchange)
        elif step.plugin_type.blocking:
            result = call.run_in_thread(step.hook, exchange)
        else:
            result = _run_inline(call, runtime, step, exchange)
        result = _reply_of(call, step, result, can_wait)
    except Reply as reply:
        result = reply
    call.check_swallowed()
    return result


def _pending_result(call: Call) -> Any:
    task, call.pending = call.pending, None
    assert task is not None  # noqa: S101  the caller has looked
    try:
        return call.result_of(task)
    finally:
        del task  # as in `_reply_of`


def _reply_of(call: Call, step: ChainStep, result: Any, can_wait: bool) -> Any:
    """
    Return the Reply that a hook has given, or None; `_WAITS` where the greenlet has to wait for it.

    What is to be awaited comes from a hook that is a coroutine, or where a decorator hid the `async`.
    """
    if result is None or type(result) is Reply:
        return result
    if isinstance(result, Awaitable):
        task = call.begin(result)
        if not can_wait and not task.done():
            call.pending = task
            return _WAITS
        try:
            result = call.result_of(task)
        finally:
            del task  # it refers to its exception, and that by its traceback to this frame
    if result is not None and not isinstance(result, Reply):
        raise TypeError(f"a hook returns None or a Reply, but {step.name} returned {type(result).__name__}")
    return result


def _run_measured(meter: Meter, call: Call, runtime: Runtime, step: ChainStep, exchange: Request | Response, can_wait: bool) -> Any:
    mark = exchange.mark()
    began_s = primitives.now_s()
    try:
        reply = _run_step(call, runtime, step, exchange, can_wait)
    except BaseException as error:  # it goes on to whom it concerns
        meter.count(step.name, exchange.phase, outcome_of(error), primitives.now_s() - began_s)
        raise
    if reply is not _WAITS:
        took_s = primitives.now_s() - began_s
        outcome = "stop" if reply is not None else "continue" if exchange.mark() == mark else "rewrite"
        meter.count(step.name, exchange.phase, outcome, took_s)
    return reply


def _run_inline(call: Call, runtime: Runtime, step: ChainStep, exchange: Request | Response) -> object:
    blocking_detector = runtime.blocking_detector
    plugin_type = step.plugin_type
    suspended_s = call.suspended_s
    began_s = blocking_detector.since_s = primitives.now_s()
    blocking_detector.running = plugin_type
    try:
        return step.hook(exchange)
    except Reply as reply:
        return reply
    finally:
        blocking_detector.running = None
        now_s = primitives.now_s()
        held_s = now_s - began_s - (call.suspended_s - suspended_s)
        if held_s >= HOLD_S:
            blocking_detector.record(plugin_type, held_s, now_s)


def _log_failure(step: ChainStep, error: BaseException, *, passes: bool) -> None:
    consequence = "the call goes on without its edits (on_error: pass)" if passes else "the call is refused"
    if isinstance(error, DeadlineExceeded | Overloaded):  # where it stood says nothing
        execution_logger.error("plugin %s could not run to its end, %s: %s", step.name, consequence, error)
    else:
        execution_logger.error("plugin %s failed, %s", step.name, consequence, exc_info=error)


def _warn_of_second_request(prepared: CachedChain, status: int) -> None:
    if not prepared.warned:
        prepared.warned = True
        execution_logger.warning(
            "%s: the upstream answered %d, which has no body, and then the gateway asks it a second time. "
            "Keep ext-plugin-post-resp off routes that answer so",
            prepared.chain.key,
            status,
        )
