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

`Call.advance` runs the next steps until the call is finished or has to wait. Its caller does not need to know which. It first acquires the
chain that belongs to the call's token, and waits if the chain has to be built (`_acquire_chain`). Then it runs the steps of the chain
(`_run_step`): the plugin's `setup`, the info requests for its `needs`, and its hook. At the end it encodes the edits or the plugin's Reply
(`_encode_reply`), and `CallRunner` sends the result.

How a hook runs depends on its step (`plugin/chain.py`):

- INLINE: it is called in the hub, which is the greenlet of the event loop. It cannot suspend.
- SUSPENDABLE: it may wait in the middle, so it is called in the greenlet of the connection. If the call does not run there yet, its state
  becomes NEEDS_GREENLET, and `advance` continues it there. The rest of the chain runs in the greenlet, until the call waits for a task or a
  thread.
- COROUTINE: it runs as a task. Unless the task is done at once, the call is SUSPENDED until it is.
- THREAD: it runs in a thread of its plugin, and the call is SUSPENDED until the thread is done.
- PROCESS: it runs in a process of the pool (`process_pool`). For this module, it is a coroutine that waits for the process.

`waiting.py` suspends and resumes calls, and sets their deadlines. Only the object that the call waits for can resume it. If a call fails
while it waits (its deadline has passed, or the gateway hangs up), it is resumed with that error.

Every call gets exactly one reply, unless the gateway has hung up. All exceptions of hooks, tasks, threads and the engine itself are caught
in `Call.run` and passed to `Call._handle_failure`. Only that method decides what follows: the call continues without the plugin's edits,
or it is refused, or it ends without a reply. A call is *refused* if the gateway gets an error, or a response with status 503, instead of
the edits (`failure_reply.py`). Nothing that a plugin raises can reach the event loop. If a reply cannot be encoded or sent, `CallRunner`
refuses the call instead, and if that fails too, it closes the connection.
"""

import contextvars
import logging
from collections.abc import Awaitable
from typing import Any, Final, cast

from apisix.runner import primitives
from apisix.runner.call.blocking.detector import SHORT_BLOCK_S
from apisix.runner.call.chain_cache import CachedChain
from apisix.runner.call.failure_reply import AnyReply, failure_reply
from apisix.runner.call.greenlets import CallGreenlet, Hub
from apisix.runner.call.info_channel import InfoChannel
from apisix.runner.call.observing.recorder import StepRecorder
from apisix.runner.call.observing.trace import CallTrace, traced_io
from apisix.runner.call.observing.watching import WatchedRequest, WatchedResponse
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import Job
from apisix.runner.call.waiting import FINISHED, NEEDS_GREENLET, RUNNING, WaitingCall
from apisix.runner.errors import (
    CallCancelled,
    ChainRefused,
    DeadlineExceeded,
    LocalProtocolError,
    MetadataError,
    Overloaded,
    RemoteProtocolError,
    StoreError,
    UnknownToken,
)
from apisix.runner.http.info_requests import described, hang_up
from apisix.runner.http.phase import Phase
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.logging.call_fields import current_call
from apisix.runner.plugin.chain.chain import PROCESS, Chain, ChainStep
from apisix.runner.plugin.forked import end_forked
from apisix.runner.wire.call_messages import CallReq, HTTPReqCallReq, HTTPRespCallReq
from apisix.runner.wire.messages import ErrResp

engine_logger = logging.getLogger("apisix.runner.call.engine")

_POST_RESP: Final = Phase.POST_RESP  # a module's variable is found faster than a member of an enum
STATUSES_WITHOUT_BODY: Final = frozenset({204, 304})
"""Statuses of responses after which the gateway requests the upstream a second time. Source: gateway contract, 7."""


class CallRunner:
    """
    Run the calls of one connection, one after the other. The methods must be called in the hub.

    Args:
        runtime: the state that all calls of the worker share.
        sink: sends replies and info requests.
        hub: the greenlet to which a waiting greenlet switches, by default the greenlet of the caller.
    Attributes:
        busy: True while a call is running that has no reply yet.
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
        """Run a call. Return when its reply is sent, or when it has to wait."""
        self.busy = True
        call = self._call = new_call(self, self._runtime, message)
        call.advance()

    def receive_info(self, result: bytes | None) -> None:
        """Process the result of the oldest open info request, and continue the call if it waits for this result."""
        self._channel.receive(result)

    def close(self, reason: str) -> None:
        """End the call in progress, and send nothing more. `reason` is for the log."""
        self._closed = True
        self._channel.clear()
        if self._call is not None:
            self._call.fail(CallCancelled(reason))
        self._greenlet.close()

    def log_hang_up(self) -> None:
        """Log why the gateway may have hung up, if an info request is open. `close` must be called next."""
        call = self._call
        request = self._channel.oldest()
        if call is None or request is None:
            return
        meaning = hang_up(request.info, in_response=type(call.message) is HTTPRespCallReq)
        # In a copy of the call's context, for the fields of the log line. The context itself may be in use by the call.
        context = cast("contextvars.Context", call.context).copy()
        context.run(
            engine_logger.warning,
            "the gateway hung up instead of answering an info request, for %s. %s",
            described(request.info),
            meaning,
        )

    def finish(self, call: "Call", reply: AnyReply | None) -> None:
        """Called once when a call is finished. Sends the reply, if there is one and the connection is open."""
        self._call = None
        self.busy = False
        self._runtime.calls += 1
        if reply is None or self._closed:
            return
        try:
            self._sink.send(reply)
        except BaseException as error:  # nothing was sent, because a frame is encoded completely before it is sent
            self._replace_reply(call, error)

    def break_connection(self, error: RemoteProtocolError) -> None:
        """Called after the reply to a message that turned out to be malformed."""
        if not self._closed:
            self._sink.broken(error)

    def _replace_reply(self, call: "Call", error: BaseException) -> None:
        """Refuse a call whose reply could not be sent. Without any reply, the gateway would wait until its timeout."""
        if isinstance(error, LocalProtocolError):
            # The reply is too large, or the schema can't express one of its values.
            engine_logger.error("the reply can't be sent, so the call is refused: %s", error)
        else:
            engine_logger.error("the reply can't be encoded, so the call is refused", exc_info=error)
        try:
            self._runtime.failed(call.id, error)
            self._sink.send(failure_reply(call.message, self._runtime.on_error))
        except BaseException:  # nothing may reach the event loop
            engine_logger.exception("no reply to a call could be sent, so its connection is closed")
            self._sink.give_up("no reply to a call could be sent")


class Call(WaitingCall):
    """
    One call of the gateway: a request or a response that the plugins of a chain process.

    Attributes:
        http_message: the Request or Response for the plugins. None until the chain is acquired, and again when the call is finished.
        request_id: the variable `request_id` of the gateway, for log lines; None if it is not known.
        trace: what has happened in the call so far, None if no listener wants the call.
    """

    __slots__ = (
        "_awaited",
        "_before",
        "_cached",
        "_hook_began",
        "_position",
        "_recorder",
        "_reply",
        "_runner",
        "_step",
        "_steps",
        "http_message",
        "request_id",
        "trace",
    )

    http_message: Request | Response | None
    request_id: str | None
    trace: CallTrace | None
    _runner: CallRunner
    _cached: CachedChain | None
    _steps: tuple[ChainStep, ...]
    _position: int
    """The index of the current step, or of the next one."""
    _step: ChainStep | None
    """The current step, None between two steps."""
    _hook_began: bool
    """True if the hook of the current step has been called."""
    _awaited: Any
    """The task or the job for which the call was suspended."""
    _reply: Reply | None
    """The reply of the plugin that ended the chain."""
    _before: Request | Response | None
    """A copy of the request or response, made before the current step ran, if it may be needed."""
    _recorder: StepRecorder | None
    """Records what each plugin does, None if nothing needs that."""

    @property
    def chain(self) -> Chain | None:
        """The chain, None until it is found, and again when the call is finished."""
        return None if self._cached is None else self._cached.chain

    # Running.

    def advance(self) -> None:
        """Run the next steps until the call is finished or has to wait. Must be called in the hub. Raises nothing."""
        self.run_in_context()
        if self.state == NEEDS_GREENLET:
            self._greenlet.run(self)

    def run(self) -> None:
        """Run the next steps, in the hub or in the greenlet, until the call is finished or has to wait. Raises nothing."""
        self.state = RUNNING
        while self.state == RUNNING:
            try:
                self._run_chain()
            except BaseException as error:  # plugins may raise anything, SystemExit and GreenletExit included
                self._handle_failure(error)

    def _run_chain(self) -> None:
        """Run the next steps until the state is no longer RUNNING. All errors are raised."""
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
        """Process the result of the task or thread for which the call was suspended."""
        awaited, self._awaited = self._awaited, None
        is_task = not isinstance(awaited, Job)
        try:
            result = self.result_of(awaited)
        except Reply as reply:
            result = reply
        finally:
            del awaited  # it refers to its exception, whose traceback refers to this frame
        step = self._step
        if step is None or not self._hook_began:  # the call waited for its chain, or for the plugin's setup
            return
        if is_task:
            self._end_hook(step, result)
        else:
            self._hook_returned(step, result)

    def _await(self, awaitable: Any) -> None:
        """Start a task, and suspend the call until the task is done, unless it is done at once."""
        task = self.start_task(awaitable)
        self._awaited = task
        if task.done():
            del task
            self._take_result()
        else:
            self.suspend_for_task(task)

    def _acquire_chain(self) -> None:
        """Acquire the chain of the call's token, and create the request or response. If the chain has to be built, wait for it first."""
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
        if chain.problem is not None:  # it was logged when the chain was built
            runtime.refused += 1
            if trace is not None:
                trace.failed(ChainRefused(chain.problem))
            self._finish(failure_reply(message, runtime.on_error))
            return
        io = self if trace is None else traced_io(self, trace)
        is_watched = observer is not None and observer.watch_hooks
        if isinstance(message, HTTPReqCallReq):
            request_class = WatchedRequest if is_watched else Request
            self.http_message = request_class(message, io, chain.phase, chain.key, runtime.pre_req_first)
        elif isinstance(message, HTTPRespCallReq):
            if message.status in STATUSES_WITHOUT_BODY:
                cached.warn_of_second_request(message.status)
            response_class = WatchedResponse if is_watched else Response
            self.http_message = response_class(message, io, chain.key, _POST_RESP, runtime.max_decompressed_bytes)
        if trace is not None or runtime.meter is not None:
            self._recorder = StepRecorder(runtime.meter, trace)

    # One step.

    def _run_step(self, step: ChainStep) -> None:
        """Run a step of the chain, or continue it, until its hook has returned or the call has to wait."""
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
        http_message: Any = self.http_message
        if step.needs:
            http_message.prefetch(step.needs)
        if self._recorder is not None:
            self._recorder.hook_begins(step)
        self._hook_began = True
        if is_blocking:
            self._awaited = self.suspend_for_thread(step.hook, http_message)
        elif step.is_coroutine:
            self._await(step.hook(http_message))
        else:
            self._hook_returned(step, self._call_hook(step, http_message))

    def _begin_step(self, step: ChainStep) -> None:
        """Called once for each step, before its setup and its hook run."""
        self._step = step
        self.plugin = step.name
        self._failure_raised = self._hook_began = False
        http_message: Any = self.http_message
        if step.passes or self.trace is not None:
            self._before = http_message.copy()
        if self._recorder is not None:
            self._recorder.begin(step, http_message, self._before)

    def _call_hook(self, step: ChainStep, http_message: Request | Response | None) -> object:
        """Call a plain hook and measure for how long it blocks the event loop. Return its result, or the Reply that it raised."""
        detector = self._runtime.blocking_detector
        suspended_s = self.suspended_s
        began_s = detector.since_s = primitives.now_s()
        detector.running = step.plugin_type
        try:
            return step.hook(http_message)
        except Reply as reply:
            return reply
        finally:
            detector.running = None
            now_s = primitives.now_s()
            blocked_s = now_s - began_s - (self.suspended_s - suspended_s)
            if blocked_s >= SHORT_BLOCK_S:
                detector.record(step.plugin_type, blocked_s, now_s)

    def _hook_returned(self, step: ChainStep, result: Any) -> None:
        """Process the result of a plain hook. It may be an awaitable, if a decorator hides that the hook is a coroutine function."""
        if self._runtime.forked:
            end_forked(None)
        if result is not None and type(result) is not Reply and isinstance(result, Awaitable):
            self._await(result)
        else:
            self._end_hook(step, result)

    def _end_hook(self, step: ChainStep, result: Any) -> None:
        """End a step whose hook has returned. Raise TypeError unless the result is None or a Reply."""
        if result is not None and type(result) is not Reply and not isinstance(result, Reply):
            raise TypeError(f"a hook returns None or a Reply, but {step.name} returned {type(result).__name__}")
        if self._failure_raised and self._failure is not None:  # the plugin has caught the error
            raise self._failure
        if self._recorder is not None:
            self._recorder.check()
            self._recorder.end(step, self.http_message, result, None)
        self._step = self.plugin = self._before = None
        self._reply = result
        self._position = self._position + 1 if result is None else len(self._steps)

    # The end.

    def _encode_reply(self) -> None:
        """
        Encode the plugin's Reply, or the edits, and write the metadata of the request.

        Edits of path or arguments may need an info request, so they may need the greenlet.
        """
        http_message: Any = self.http_message
        if self._reply is None and not self._greenlet.active and http_message.reply_may_need_info():
            self.state = NEEDS_GREENLET
        else:
            reply = http_message.to_message(self._reply)
            if self.was_suspended():  # otherwise nothing was fetched, and so no metadata was opened
                http_message.end_metadata(self._reply is not None or isinstance(self.message, HTTPRespCallReq))
            self._finish(reply)

    def _finish(self, reply: AnyReply | None) -> None:
        """Finish the call, and send the reply if there is one. Afterwards, accessors that need an info request raise CallCancelled."""
        if self.trace is not None:
            trace, self.trace = self.trace, None
            trace.ended(reply)
        self.stop_waiting()
        self.http_message = self._before = self._step = self._reply = None  # they refer to the call
        self._runner.finish(self, reply)
        if self._cached is not None:
            self._runtime.chains.release(self._cached)

    def _handle_failure(self, error: BaseException) -> None:
        """
        Decide how a call continues or ends after an error. Raises nothing.

        An error of a plugin affects only its own call. Source: design, 5.
        """
        try:
            self._decide(error)
        except BaseException as another:
            engine_logger.exception("a call failed in the runner itself")
            if self.state != FINISHED:
                self._refuse(another, self._runtime.on_error)

    def _decide(self, error: BaseException) -> None:
        """Same as `_handle_failure`, but may raise, for example what a listener of the trace raises."""
        runtime = self._runtime
        step = self._step
        if step is not None:
            if runtime.forked:
                end_forked(error)
            if self._recorder is not None:
                self._recorder.end(step, self.http_message, None, error)
        if self.state == FINISHED:  # the reply is sent
            engine_logger.error("a call failed in the runner itself, after its reply", exc_info=error)
        elif isinstance(error, CallCancelled):  # the gateway has hung up
            engine_logger.debug("a call was cancelled: %s", error)
            self._finish(None)
        elif isinstance(error, RemoteProtocolError):  # a plugin has read a malformed part of the message
            self._finish(ErrResp(error.err_code))
            self._runner.break_connection(error)
        elif step is not None:
            self._fail_step(step, error)
        elif isinstance(error, UnknownToken) and self._cached is None:
            runtime.unknown_tokens += 1
            self._finish(ErrResp(error.err_code))
        elif isinstance(error, DeadlineExceeded | Overloaded):
            if self._cached is None:
                engine_logger.error("the call is refused while its plugins are created (__init__ and validation): %s", error)
            else:
                engine_logger.error("the edits of path or arguments could not be sent, so the call is refused: %s", error)
            self._refuse(error, runtime.on_error)
        elif isinstance(error, MetadataError | StoreError):
            self._fail_metadata(error)
        else:
            engine_logger.error("a call failed in the runner itself", exc_info=error)
            self._refuse(error, runtime.on_error)

    def _fail_step(self, step: ChainStep, error: BaseException) -> None:
        """Called when a plugin has failed. Continues the call without the plugin's edits, or refuses it."""
        passes = step.passes and self._before is not None and not isinstance(error, Overloaded)
        consequence = "the call continues without its edits (on_error: pass)" if passes else "the call is refused"
        if isinstance(error, DeadlineExceeded | Overloaded):  # a traceback would only show frames of the runner
            engine_logger.error("plugin %s could not run to its end, %s: %s", step.name, consequence, error)
        else:
            engine_logger.error("plugin %s failed, %s", step.name, consequence, exc_info=error)
        if not step.is_coroutine:
            self._runtime.blocking_detector.failed(step.plugin_type, error)
        if not passes:
            self._refuse(error, step.on_error)
            return
        # Use the copy, because an abandoned thread can still edit the original.
        self.http_message = self._before
        self._before = self._step = self.plugin = None
        self._position += 1

    def _fail_metadata(self, error: BaseException) -> None:
        """Called when the metadata of the request can't be written. Refuses the call, because its later phases rely on the metadata."""
        engine_logger.error("the metadata of the request can't be written, so the call is refused: %s", error)
        runtime = self._runtime
        if runtime.meter is not None and isinstance(error, MetadataError):
            for plugin in error.plugins:
                runtime.meter.count_late_error(plugin, cast("Any", self.http_message).phase)
        self._refuse(error, runtime.on_error)

    def _refuse(self, error: BaseException, on_error: str) -> None:
        """Refuse the call. Args: on_error: the policy that applies."""
        self._runtime.failed(self.id, error)
        if self.trace is not None:
            self.trace.failed(error)
        self._finish(failure_reply(self.message, on_error))

    def place_outside(self) -> str | None:
        """Return which plugin is being created while the call waits for its chain, or that it waits for a process. Otherwise, None."""
        if self._cached is not None:
            return "a process of the pool, or the queue for it" if self._step is not None and self._step.mode == PROCESS else None
        return self._runtime.chains.place(self.message.conf_token, isinstance(self.message, HTTPRespCallReq))


def new_call(runner: CallRunner, runtime: Runtime, message: CallReq) -> Call:
    """Create a call. This is a function, because calling a C class is more expensive."""
    self = Call.__new__(Call)
    # Each call has its own context, so that variables that a plugin sets in one call are not seen in the next.
    self.begin(message, runner._context.copy(), runtime, runner._greenlet, runner._channel)
    self._runner = runner
    self._cached = self._step = self._awaited = self._reply = self._before = self._recorder = None
    self.http_message = self.request_id = self.trace = None
    self._steps = ()
    self._position = 0
    self._hook_began = False
    return self
