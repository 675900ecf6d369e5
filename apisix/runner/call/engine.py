# SPDX-License-Identifier: Apache-2.0
"""
How a call runs, from the message of the gateway to the reply.

Theory of operation
===================

Each connection of the gateway has one `CallRunner`, which runs its calls one after the other. A call is one `Call`, which owns its state:

    RECEIVED ----> RUNNING ----> FINISHED
                   ^     |
        resumed    |     |  has to wait
                   |     v
                  SUSPENDED

`Call.advance` runs what comes next until the call is finished or has to wait. Whoever calls it does not need to know which. It first
acquires the chain behind the call's token, and waits for its build if need be (`_acquire_chain`). Then it runs the steps of the chain
(`_run_step`): the `setup` of the plugin, what it `needs` from the gateway, and its hook. At the end it encodes the edits or the plugin's
Reply (`_encode_reply`), and `CallRunner` sends that.

How a hook runs depends on its step (`plugin/chain.py`):

- INLINE: it is called right here, in the hub, the greenlet of the event loop. It cannot suspend.
- SUSPENDABLE: it may wait in the middle, so it is called in the greenlet of the connection. If the call is not there yet, its state becomes
  NEEDS_GREENLET, and `advance` continues it there. The rest of the chain runs in the greenlet, until the call waits for something else.
- COROUTINE: it runs as a task. If the task is not done at once, the call is SUSPENDED until it is.
- THREAD: it runs in a thread of its plugin, and the call is SUSPENDED until it is done.

`waiting.py` suspends and resumes calls, and sets their deadlines. What the call waits for is the only thing that can resume it. A call that
fails while it waits (a deadline, the gateway hangs up) is resumed with that error.

Every call ends with exactly one reply, unless the gateway has hung up. Whatever a hook, a task, a thread or the engine itself raises is
caught in `Call.run` and goes to `Call._handle_failure`, the one place that decides what it means: the call continues without the plugin's
edits, or it is refused, or it ends without a reply. Nothing that a plugin raises can reach the event loop. If a reply cannot be encoded or
sent, `CallRunner` sends a refusal instead, and if that fails too, it closes the connection.
"""

import contextvars
import logging
from collections.abc import Awaitable
from typing import Any, Final, cast

from apisix.runner import primitives
from apisix.runner.call.blocking.detector import HOLD_S
from apisix.runner.call.chain_cache import CachedChain
from apisix.runner.call.observing.meter import outcome_of
from apisix.runner.call.observing.trace import CallTrace, traced_io
from apisix.runner.call.observing.watching import HookWatch, WatchedRequest, WatchedResponse
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import Job
from apisix.runner.call.waiting import (
    FINISHED,
    NEEDS_GREENLET,
    RECEIVED,
    RUNNING,
    CallGreenlet,
    Hub,
    InfoChannel,
    WaitingCall,
)
from apisix.runner.errors import (
    CallCancelled,
    ChainRefused,
    DeadlineExceeded,
    ErrCode,
    LocalProtocolError,
    Overloaded,
    RemoteProtocolError,
    UnknownToken,
)
from apisix.runner.http.info_requests import described, hang_up
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.logging.call_fields import current_call
from apisix.runner.plugin.chain.chain import ChainStep
from apisix.runner.plugin.forked import end_forked
from apisix.runner.wire.call_messages import CallReq, HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, HTTPRespCallResp
from apisix.runner.wire.messages import ErrResp

engine_logger = logging.getLogger("apisix.runner.call.engine")

AnyReply = HTTPReqCallResp | HTTPRespCallResp | ErrResp

_POST_RESP: Final = Phase.POST_RESP  # a module's variable is found faster than a member of an enum
UNAVAILABLE_BODY: Final = b"503 Service Unavailable\n"
UNAVAILABLE_HEADERS: Final = (("content-type", "text/plain; charset=utf-8"),)
STATUSES_WITHOUT_BODY: Final = frozenset({204, 304})
"""Statuses of responses after which the gateway requests the upstream a second time. Source: gateway contract, 7."""


class CallRunner:
    """
    Run the calls of one connection, one after the other. The methods must be called in the hub.

    Args:
        runtime: what all calls of the worker share.
        sink: where replies and info requests are sent.
        hub: what a greenlet that waits switches to, by default the greenlet of the caller.
    Attributes:
        busy: True while a call has no reply yet.
    """

    __slots__ = ("_call", "_channel", "_closed", "_context", "_greenlet", "_runtime", "_sink", "busy")

    def __init__(self, runtime: Runtime, sink: ReplySink, hub: Hub | None = None) -> None:
        self._runtime = runtime
        self._sink = sink
        self._greenlet = CallGreenlet(hub)
        self._channel = InfoChannel(sink)
        self._context = contextvars.copy_context()
        self._call: Call | None = None
        self._closed = False
        self.busy = False

    def start(self, message: CallReq) -> None:
        """Run a call. Returns when its reply is sent, or when it has to wait."""
        self.busy = True
        call = self._call = new_call(self, self._runtime, message)
        call.advance()

    def receive_info(self, result: bytes | None) -> None:
        """Take the reply to the oldest open info request, and continue the call if it waits for that."""
        self._channel.receive(result)

    def close(self, reason: str) -> None:
        """End a call that runs, and send nothing more. `reason` is for the log."""
        self._closed = True
        self._channel.clear()
        if self._call is not None:
            self._call.fail(CallCancelled(reason))
        self._greenlet.close()

    def log_hang_up(self) -> None:
        """Log that the gateway hung up on an info request, most likely because it is too old. Must be followed by `close`."""
        call = self._call
        request = self._channel.oldest()
        if call is None or request is None:
            return
        meaning = hang_up(request.info, in_response=type(call.message) is HTTPRespCallReq)
        # In a copy of the call's context, so that the line has its fields. The call itself may be inside the original.
        context = cast("contextvars.Context", call.context).copy()
        context.run(
            engine_logger.warning,
            "the gateway hung up instead of answering an info request, for %s. %s",
            described(request.info),
            meaning,
        )

    def finish(self, call: "Call", reply: AnyReply | None) -> None:
        """Called once when a call is finished. Send its reply, if it has one and the connection is open."""
        self._call = None
        self.busy = False
        self._runtime.calls += 1
        if reply is None or self._closed:
            return
        try:
            self._sink.send(reply)
        except BaseException as error:  # nothing of the reply was sent: it is a whole frame before any of it leaves
            self._refuse_reply(call, error)

    def break_connection(self, error: RemoteProtocolError) -> None:
        """Called when a call found out that its message is malformed, after the reply to it."""
        if not self._closed:
            self._sink.broken(error)

    def _refuse_reply(self, call: "Call", error: BaseException) -> None:
        """Reply to a call whose own reply could not be sent, whatever the reason. Otherwise the gateway would wait for a minute."""
        if isinstance(error, LocalProtocolError):
            engine_logger.error("the reply is refused: %s", error)  # too large, or with a value that the schema can't express
        else:
            engine_logger.error("the reply is refused, it can't be encoded", exc_info=error)
        try:
            self._runtime.failed(call.id, error)
            self._sink.send(refusal(call.message, self._runtime.on_error))
        except BaseException:  # nothing may reach the event loop
            engine_logger.exception("a call could not be answered, its connection is closed")
            self._sink.give_up("a call could not be answered")


class Call(WaitingCall):
    """
    One call of the gateway: a request or a response on its way through the plugins of its chain.

    Attributes:
        exchange: the request or the response, None before its chain is known and after the call is finished.
        request_id: the variable `request_id` of the gateway, for log lines; None if it is not known.
        trace: what happened in the call so far; None if no listener wants the call.
    """

    __slots__ = (
        "_awaited",
        "_before",
        "_cached",
        "_hook_began",
        "_mark",
        "_position",
        "_reply",
        "_runner",
        "_step",
        "_step_began_s",
        "_steps",
        "_watch",
        "exchange",
        "request_id",
        "trace",
    )

    exchange: Request | Response | None
    request_id: str | None
    trace: CallTrace | None
    _runner: CallRunner
    _cached: CachedChain | None
    _steps: tuple[ChainStep, ...]
    _position: int
    """Which step comes next, or runs."""
    _step: ChainStep | None
    """The step that runs, None between two steps."""
    _awaited: Any
    """The task or the job for which the call was suspended."""
    _reply: Reply | None
    """The reply of the plugin that ended the chain."""
    _before: Request | Response | None
    """A copy of the request or response from before the step that runs, if it is needed."""
    _step_began_s: float
    _mark: tuple[Any, ...]
    _hook_began: bool
    """True once the hook of the step has been called."""
    _watch: HookWatch | None

    # Running.

    def advance(self) -> None:
        """Run what comes next until the call is finished or has to wait. Must be called in the hub. Raises nothing."""
        self.run_in_context()
        if self.state == NEEDS_GREENLET:
            self._greenlet.run(self)

    def run(self) -> None:
        """Run what comes next, in the hub or in the greenlet, until the call is finished or has to wait. Raises nothing."""
        self.state = RUNNING
        while self.state == RUNNING:
            try:
                self._run_chain()
            except BaseException as error:  # plugins may raise anything, SystemExit and GreenletExit included
                self._handle_failure(error)

    def _run_chain(self) -> None:
        """Run what comes next until the state is no longer RUNNING. Whatever fails is raised."""
        if self._awaited is not None:
            self._take_result()
        while self.state == RUNNING:
            if self._cached is None:
                self._acquire_chain()
            elif self._position < len(self._steps):
                self._run_step(self._steps[self._position])
            else:
                self._encode_reply()

    def _take_result(self) -> None:
        """Take the result of what the call was suspended for."""
        awaited, self._awaited = self._awaited, None
        is_task = not isinstance(awaited, Job)
        try:
            result = self.result_of(awaited)
        except Reply as reply:
            result = reply
        finally:
            del awaited  # it refers to its exception, and that by its traceback to this frame
        step = self._step
        if step is None or not self._hook_began:  # the chain is built, or the plugin is set up
            return
        if is_task:
            self._end_hook(step, result)
        else:
            self._hook_returned(step, result)

    def _await(self, awaitable: Any) -> None:
        """Start a task. The call is suspended until it is done, unless that is at once."""
        task = self.start_task(awaitable)
        self._awaited = task
        if task.done():
            del task
            self._take_result()
        else:
            self.suspend_for_task(task)

    def _acquire_chain(self) -> None:
        """Acquire the chain behind the token, and create the request or response. Wait first if the chain has to be built."""
        runtime = self._runtime
        primitives.set_variable(current_call, self)  # for the fields of log lines
        message = self.message
        is_response = type(message) is HTTPRespCallReq
        cached = runtime.chains.acquire(message.conf_token, is_response, self.began_s)
        if cached is None:
            self._await(runtime.chains.build(message.conf_token, is_response))
            return
        self._cached = cached
        chain = cached.chain
        self._steps = chain.steps
        self.route_key = chain.key
        observer = runtime.observer
        trace = self.trace = None if observer is None else observer.begin(message, chain, self.began_s)
        if chain.refusal is not None:  # logged when the chain was built
            runtime.refusals += 1
            if trace is not None:
                trace.failed(ChainRefused(chain.refusal))
            self._finish(refusal(message, runtime.on_error))
            return
        io = self if trace is None else traced_io(self, trace)
        is_watched = observer is not None and observer.watch_hooks
        if isinstance(message, HTTPReqCallReq):
            request_class = WatchedRequest if is_watched else Request
            self.exchange = request_class(message, io, chain.phase, chain.key, runtime.pre_req_first)
        elif isinstance(message, HTTPRespCallReq):
            if message.status in STATUSES_WITHOUT_BODY:
                cached.warn_of_second_request(message.status)
            response_class = WatchedResponse if is_watched else Response
            self.exchange = response_class(message, io, chain.key, _POST_RESP, runtime.max_decompressed_bytes)

    # One step.

    def _run_step(self, step: ChainStep) -> None:
        """Run a step of the chain, or what is left of it, until its hook has returned or the call has to wait."""
        if self._step is None:
            self._begin_step(step)
        if step.setup is not None and not step.setup.done:
            self._await(step.setup.ensure())
            return
        is_blocking = not step.is_coroutine and step.plugin_type.blocking
        may_wait_inside = not (step.is_inline or step.is_coroutine or is_blocking) or step.needs
        if may_wait_inside and not self._greenlet.active:
            self.state = NEEDS_GREENLET
            return
        exchange: Any = self.exchange
        if step.needs:
            exchange.prefetch(step.needs)
        if self.trace is not None and self.trace.watches_hooks:
            self._watch = HookWatch(step.hook)
        self._hook_began = True
        if is_blocking:
            self._awaited = self.suspend_for_thread(step.hook, exchange)
        elif step.is_coroutine:
            self._await(step.hook(exchange))
        else:
            self._hook_returned(step, self._call_hook(step, exchange))

    def _begin_step(self, step: ChainStep) -> None:
        """Called once for each step, before anything of it runs."""
        self._step = step
        self.plugin = step.name
        self._failure_raised = False
        self._hook_began = False
        exchange: Any = self.exchange
        if step.passes or self.trace is not None:
            self._before = exchange.copy()
        if self.trace is not None or self._runtime.meter is not None:
            self._mark = exchange.mark()
            self._step_began_s = primitives.now_s()
        if self.trace is not None:
            self.trace.step_begins(step, exchange, cast("Request", self._before), self._step_began_s)

    def _call_hook(self, step: ChainStep, exchange: Request | Response | None) -> object:
        """Call a plain hook, here, and record for how long it held up the event loop. Return its result, or the Reply that it raised."""
        detector = self._runtime.blocking_detector
        suspended_s = self.suspended_s
        began_s = detector.since_s = primitives.now_s()
        detector.running = step.plugin_type
        try:
            return step.hook(exchange)
        except Reply as reply:
            return reply
        finally:
            detector.running = None
            now_s = primitives.now_s()
            held_s = now_s - began_s - (self.suspended_s - suspended_s)
            if held_s >= HOLD_S:
                detector.record(step.plugin_type, held_s, now_s)

    def _hook_returned(self, step: ChainStep, result: Any) -> None:
        """Take the result of a plain hook. It can be something to await, if a decorator has hidden the `async` of the hook."""
        if self._runtime.forked:
            end_forked(None)
        if result is not None and type(result) is not Reply and isinstance(result, Awaitable):
            self._await(result)
        else:
            self._end_hook(step, result)

    def _end_hook(self, step: ChainStep, result: Any) -> None:
        """End a step with the result of its hook, which must be None or a Reply."""
        runtime = self._runtime
        if result is not None and type(result) is not Reply and not isinstance(result, Reply):
            raise TypeError(f"a hook returns None or a Reply, but {step.name} returned {type(result).__name__}")
        if self._failure_raised and self._failure is not None:  # the plugin has caught it
            raise self._failure
        if self._watch is not None:
            self._watch.check()
        if runtime.meter is not None or self.trace is not None:
            self._record(step, result, None)
        self._step = None
        self.plugin = None
        self._before = None
        self._reply = result
        self._position = self._position + 1 if result is None else len(self._steps)

    def _record(self, step: ChainStep, reply: Reply | None, failure: BaseException | None) -> None:
        """Record what a step did: for the metrics, and in the trace."""
        exchange: Any = self.exchange
        took_s = primitives.now_s() - self._step_began_s
        meter = self._runtime.meter
        if meter is not None:
            if failure is not None:
                outcome = outcome_of(failure)
            else:
                outcome = "stop" if reply is not None else "continue" if exchange.mark() == self._mark else "rewrite"
            meter.count(step.name, exchange.phase, outcome, took_s)
        if self.trace is not None:
            if self._watch is not None:
                self._watch.end()
                self._watch = None
            self.trace.step_ended(reply, failure, took_s)

    # The end.

    def _encode_reply(self) -> None:
        """Encode the plugin's Reply, or the edits. It may take an info request to find out whether something has rewritten the path."""
        exchange: Any = self.exchange
        if self._reply is None and not self._greenlet.active and exchange.reply_may_need_info():
            self.state = NEEDS_GREENLET
        else:
            self._finish(exchange.to_message(self._reply))

    def _finish(self, reply: AnyReply | None) -> None:
        """Finish the call. From here on its accessors raise. The reply, if there is one, is sent."""
        runtime = self._runtime
        if self.trace is not None:
            trace, self.trace = self.trace, None
            trace.ended(reply)
        self.stop_waiting()
        self.exchange = self._before = self._step = self._reply = None  # they refer to the call
        self._runner.finish(self, reply)
        if self._cached is not None:
            runtime.chains.release(self._cached)

    def _handle_failure(self, error: BaseException) -> None:
        """
        Decide what becomes of a call in which something was raised. Raises nothing.

        An error of a plugin costs its own call and nothing else. Source: design, 5.
        """
        try:
            self._decide(error)
        except BaseException as another:
            engine_logger.exception("a call failed in the runner itself")
            if self.state != FINISHED:
                self._refuse(another, self._runtime.on_error)

    def _decide(self, error: BaseException) -> None:
        runtime = self._runtime
        step = self._step
        if step is not None:
            if runtime.forked:
                end_forked(error)
            if runtime.meter is not None or self.trace is not None:
                self._record(step, None, error)
        if self.state == FINISHED:  # the reply is sent
            engine_logger.error("a call failed in the runner itself, after its reply", exc_info=error)
        elif isinstance(error, CallCancelled):  # the gateway has hung up
            engine_logger.debug("a call was cancelled: %s", error)
            self._finish(None)
        elif isinstance(error, RemoteProtocolError):  # a plugin has read a part of the message that is malformed
            self._finish(ErrResp(error.err_code))
            self._runner.break_connection(error)
        elif step is not None:
            self._fail_step(step, error)
        elif isinstance(error, UnknownToken) and self._cached is None:
            runtime.unknown_tokens += 1
            self._finish(ErrResp(error.err_code))
        elif isinstance(error, DeadlineExceeded | Overloaded):
            if self._cached is None:
                engine_logger.error("the call is refused while its plugins are made (__init__ and validation): %s", error)
            else:
                engine_logger.error("the edits of path or arguments could not be sent, the call is refused: %s", error)
            self._refuse(error, runtime.on_error)
        else:
            engine_logger.error("a call failed in the runner itself", exc_info=error)
            self._refuse(error, runtime.on_error)

    def _fail_step(self, step: ChainStep, error: BaseException) -> None:
        """Called when a plugin failed: continue without its edits, or refuse the call."""
        passes = step.passes and self._before is not None and not isinstance(error, Overloaded)
        consequence = "the call continues without its edits (on_error: pass)" if passes else "the call is refused"
        if isinstance(error, DeadlineExceeded | Overloaded):  # a traceback would show nothing but the runner
            engine_logger.error("plugin %s could not run to its end, %s: %s", step.name, consequence, error)
        else:
            engine_logger.error("plugin %s failed, %s", step.name, consequence, exc_info=error)
        if not step.is_coroutine:
            self._runtime.blocking_detector.failed(step.plugin_type, error)
        if not passes:
            self._refuse(error, step.on_error)
            return
        # The copy, not the original: an abandoned thread can still edit the original.
        self.exchange = self._before
        self._before = self._step = self.plugin = None
        self._position += 1

    def _refuse(self, error: BaseException, on_error: str) -> None:
        """Finish the call with a refusal. Args: on_error: the policy that applies."""
        self._runtime.failed(self.id, error)
        if self.trace is not None:
            self.trace.failed(error)
        self._finish(refusal(self.message, on_error))

    def place_before_hooks(self) -> str | None:
        """Return which plugin is being made while the call waits for its chain, and in which line; None if none is."""
        if self._cached is not None:
            return None
        return self._runtime.chains.place(self.message.conf_token, isinstance(self.message, HTTPRespCallReq))


def refusal(message: CallReq, on_error: str) -> AnyReply:
    """
    Return the reply to a call that failed.

    After an error frame, the route's `allow_degradation` decides. In the response phase, the upstream's body would be sent too, and the
    plugin that failed may have been there to hide it. So a response is replaced, unless `on_error` is "degrade". Source: design, 5;
    gateway contract, 7.
    """
    if isinstance(message, HTTPRespCallReq) and on_error != "degrade":
        return HTTPRespCallResp(message.id, 503, UNAVAILABLE_HEADERS, UNAVAILABLE_BODY)
    return ErrResp(ErrCode.SERVICE_UNAVAILABLE)


def new_call(runner: CallRunner, runtime: Runtime, message: CallReq) -> Call:
    """Create a call. A function, because the constructor of a class in C is more expensive."""
    self = Call.__new__(Call)
    self.state = RECEIVED
    self.id = message.id
    self.message = message
    # Each call has a context of its own, so that what a plugin sets in one call is not seen in the next.
    self.context = runner._context.copy()
    self.route_key = self.plugin = self.request_id = None
    self.began_s = primitives.now_s()
    self.suspended_s = 0.0
    self.exchange = None
    self._runtime = runtime
    self._greenlet = runner._greenlet
    self._channel = runner._channel
    self._runner = runner
    self._counted = False
    self._failure = None
    self._failure_raised = False
    self._waits_for = None
    self._in_greenlet = False
    self._job = None
    self._thread_wakeup = None
    self._open_info_requests = 0
    self._info_since_s = 0.0
    self._info_s = 0.0
    self._cached = None
    self._steps = ()
    self._position = 0
    self._step = None
    self._hook_began = False
    self._awaited = None
    self._reply = None
    self._before = None
    self.trace = None
    self._step_began_s = 0.0
    self._mark = ()
    self._watch = None
    return self
