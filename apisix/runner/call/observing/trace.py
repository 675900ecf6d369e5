# SPDX-License-Identifier: Apache-2.0
"""
Trace a call while it runs, for listeners: the development gateway, the test kit, the recorder, and spans.

The engine reports to a `CallObserver`, which asks its listeners whether they want the call. A listener that wants a sample of the calls
sets `skip`, so that it is not even asked for the others. If no listener wants a call, it is not traced. A `CallTrace` contains only
references and copies. `making.py` makes a record of it, which can be done later, or in another thread.
"""

import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from apisix.runner import primitives
from apisix.runner.errors import CallCancelled, RemoteProtocolError
from apisix.runner.http.info_requests import CallIO, Info
from apisix.runner.http.metadata import Metadata
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.logging.call_fields import current_call
from apisix.runner.logging.setup import handlers_of_output
from apisix.runner.logging.tracebacks import describe_error, source_frames
from apisix.runner.plugin.chain.chain import COROUTINE, INLINE, PROCESS, SUSPENDABLE, THREAD, Chain, ChainStep
from apisix.runner.records.format import ErrorRecord, Mode, SourceFrame, printable
from apisix.runner.wire.call_messages import CallReq, HTTPReqCallResp, HTTPRespCallResp
from apisix.runner.wire.messages import ErrResp, ExtraInfoReq

trace_logger = logging.getLogger("apisix.runner.call.observing.trace")

RUNS: Final[dict[int, Mode]] = {
    INLINE: "inline",
    SUSPENDABLE: "suspendable",
    COROUTINE: "coroutine",
    THREAD: "thread",
    PROCESS: "process",
}
MAX_LOG_LINES: Final = 100
"""How many log lines of one call are kept."""
NOT_BY_PLUGIN: Final = (CallCancelled, RemoteProtocolError)
"""Exceptions that end a plugin, but that it has not caused."""


class InfoTrace(NamedTuple):
    """An info request and its reply. Times are of the clock."""

    info: Info
    reply: bytes | None
    began_s: float
    ended_s: float
    plugin: str | None


class LogTrace(NamedTuple):
    """
    A log line. `plugin` is None between two plugins.

    It has its text from the beginning, because a plugin may change the arguments before a record is made.
    """

    at_s: float
    level: str
    logger: str
    message: str
    plugin: str | None


class StepTrace:
    """
    What one plugin did.

    Attributes:
        step: the step of the chain.
        began_s: when it began, a time of the clock.
        took_s: how long it took.
        before: a copy of the request or response from before it ran.
        after: its state afterwards: the copy that the next step began with, or the final state.
        metadata_before, metadata_after: the metadata of the client's request before and after it ran, as JSON. None if no plugin had used
            metadata yet.
        stopped: the status of the plugin's reply, None if there was none.
        error: what the plugin raised, None if it raised nothing.
        span_id: the id of its span, in hexadecimal, if spans of the call are exported; otherwise None.
    """

    __slots__ = ("after", "before", "began_s", "error", "metadata_after", "metadata_before", "span_id", "step", "stopped", "took_s")

    def __init__(self, step: ChainStep, began_s: float, before: Request | Response, metadata: bytes | None) -> None:
        self.step = step
        self.began_s = began_s
        self.before = self.after = before
        self.took_s = 0.0
        self.stopped: int | None = None
        self.error: ErrorRecord | None = None
        self.span_id: str | None = None
        self.metadata_before = metadata
        self.metadata_after: bytes | None = None


class CallTrace:
    """
    What happened in one call.

    Attributes:
        call_id, message: the number and the message of the gateway.
        chain: the chain of the call.
        time_s: when it began, seconds since the epoch.
        began_s, ended_s: when it began and ended, times of the clock.
        http_message: the request or the response, with all edits; None if the chain is refused.
        steps, info, logs: what happened, in order.
        metadata: the metadata of the client's request, None if no plugin has used it.
        reply: the reply that is sent; None if the gateway has hung up.
        error: the error because of which the call is refused.
        trace_id: the id of its trace, in hexadecimal, if spans of the call are exported; otherwise None.
        watches_hooks: true to look for mistakes in plugins while they run (`watching.py`).
    """

    __slots__ = (
        "_listeners",
        "began_s",
        "call_id",
        "chain",
        "ended_s",
        "error",
        "http_message",
        "info",
        "logs",
        "message",
        "metadata",
        "reply",
        "steps",
        "time_s",
        "trace_id",
        "watches_hooks",
    )

    def __init__(self, listeners: "list[CallListener]", message: CallReq, chain: Chain, began_s: float, watches_hooks: bool) -> None:
        self._listeners = listeners
        self.watches_hooks = watches_hooks
        self.call_id = message.id
        self.message = message
        self.chain = chain
        self.began_s = self.ended_s = began_s
        self.time_s = time.time() - (primitives.now_s() - began_s)
        self.http_message: Request | Response | None = None
        self.steps: list[StepTrace] = []
        self.info: list[InfoTrace] = []
        self.logs: list[LogTrace] = []
        self.metadata: Metadata | None = None
        self.reply: HTTPReqCallResp | HTTPRespCallResp | ErrResp | None = None
        self.error: ErrorRecord | None = None
        self.trace_id: str | None = None

    # Called by the engine.

    def step_begins(self, step: ChainStep, http_message: Request | Response, before: Request | Response, now_s: float) -> None:
        """Called before a plugin runs. Args: before: a copy of `http_message` that nobody edits."""
        if self.steps:
            self.steps[-1].after = before
        self.http_message = http_message
        trace = StepTrace(step, now_s, before, self._metadata_now())
        self.steps.append(trace)
        for listener in self._listeners:
            try:
                listener.step_begins(self, trace)
            except Exception:  # a listener must not disturb the call
                trace_logger.exception("the beginning of a plugin could not be recorded")

    def step_ended(self, reply: Reply | None, error: BaseException | None, took_s: float) -> None:
        """Called when a plugin has returned or failed."""
        if not self.steps:
            return
        raised = error
        if isinstance(error, NOT_BY_PLUGIN):
            error = None
        trace = self.steps[-1]
        trace.took_s = took_s
        trace.metadata_after = self._metadata_now()
        trace.stopped = None if reply is None else reply.status
        trace.error = None if error is None else error_record(error)
        if self.http_message is not None:
            trace.after = trace.before if error is not None else self.http_message
        for listener in self._listeners:
            try:
                listener.step_ended(self, trace, raised)
            except Exception:  # a listener must not disturb the call
                trace_logger.exception("the end of a plugin could not be recorded")

    def _metadata_now(self) -> bytes | None:
        return None if self.metadata is None else self.metadata.snapshot()

    def span_of_step(self) -> tuple[str, str] | None:
        """Return the ids of the trace and the span of the last plugin, if they are exported."""
        span_id = self.steps[-1].span_id if self.steps else None
        return None if self.trace_id is None or span_id is None else (self.trace_id, span_id)

    def failed(self, error: BaseException) -> None:
        """Called with the error because of which the call is refused, which may be that of a plugin."""
        if not self.steps or self.steps[-1].error is None:
            self.error = error_record(error)

    def ended(self, reply: HTTPReqCallResp | HTTPRespCallResp | ErrResp | None) -> None:
        """Called when the reply is decided, before it is sent. Raises nothing."""
        self.reply = reply
        self.ended_s = primitives.now_s()
        for listener in self._listeners:
            try:
                listener.ended(self)
            except Exception:  # an error of a listener must not affect the call
                trace_logger.exception("a call could not be recorded")
        self._listeners = []


class CallListener:
    """
    Is told what happens in calls. The methods are called in the event loop's thread, in the context of the call.

    Attributes:
        skip: for how many of the next calls `call_begins` is not called, because the listener does not want them. The observer counts it
            down.
    """

    def __init__(self) -> None:
        self.skip = 0

    def call_begins(self, message: CallReq, chain: Chain) -> bool:
        """Called when the chain of a call is known. Return True if the other methods are to be called for this call too."""
        return True

    def step_begins(self, trace: CallTrace, step: StepTrace) -> None:
        """Called before a plugin runs."""

    def step_ended(self, trace: CallTrace, step: StepTrace, error: BaseException | None) -> None:
        """Called when a plugin has returned or failed. Args: error: the exception that it raised, even if the plugin is not the cause."""

    def ended(self, trace: CallTrace) -> None:
        """Called before the reply is sent."""


class CallObserver:
    """
    Traces the calls that at least one listener wants.

    Args:
        listeners: the listeners that are asked.
        watch_hooks: true to look for mistakes in plugins while they run (`watching.py`).
    """

    def __init__(self, listeners: Sequence[CallListener], *, watch_hooks: bool = False) -> None:
        self.listeners = tuple(listeners)
        self.watch_hooks = watch_hooks
        LogCapture.install()

    def begin(self, message: CallReq, chain: Chain, began_s: float) -> CallTrace | None:
        """Called when the chain of a call is known. Return its trace, or None if no listener wants it."""
        wanted: list[CallListener] | None = None
        for listener in self.listeners:
            if listener.skip > 0:
                listener.skip -= 1
            elif listener.call_begins(message, chain):
                if wanted is None:
                    wanted = [listener]
                else:
                    wanted.append(listener)
        return None if wanted is None else CallTrace(wanted, message, chain, began_s, self.watch_hooks)


class TracedIO:
    """
    The I/O of a call that is traced: adds info requests and metadata to the trace. It is a `CallIO`.

    Args: call: the call. trace: its trace.
    """

    __slots__ = ("_call", "_trace")

    def __init__(self, call: Any, trace: CallTrace) -> None:
        self._call = call
        self._trace = trace

    def offload(self, work: Callable[[], Any]) -> Any:
        """Run `work` in a thread, wait, and return its result."""
        return self._call.offload(work)

    def aoffload(self, work: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        """Same as `offload`, but for coroutines."""
        awaitable: Coroutine[Any, Any, Any] = self._call.aoffload(work)
        return awaitable

    def open_metadata(self, request_id: str) -> Metadata:
        """Return the metadata of a client's request."""
        metadata: Metadata = self._call.open_metadata(request_id)
        self._trace.metadata = metadata
        return metadata

    def request_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """Send info requests and wait for the replies."""
        began_s, plugin = primitives.now_s(), self._call.plugin
        replies: list[bytes | None] = self._call.request_info(requests)
        self._note(requests, replies, began_s, plugin)
        return replies

    async def arequest_info(self, requests: Sequence[ExtraInfoReq]) -> list[bytes | None]:
        """Same as `request_info`, but for coroutines."""
        began_s, plugin = primitives.now_s(), self._call.plugin
        replies: list[bytes | None] = await self._call.arequest_info(requests)
        self._note(requests, replies, began_s, plugin)
        return replies

    def _note(self, requests: Sequence[ExtraInfoReq], replies: Sequence[bytes | None], began_s: float, plugin: str | None) -> None:
        ended_s = primitives.now_s()
        self._trace.info += [
            InfoTrace(request.info, reply, began_s, ended_s, plugin) for request, reply in zip(requests, replies, strict=True)
        ]


def traced_io(call: Any, trace: CallTrace) -> CallIO:
    """Return the I/O of a call, which notes info requests and metadata in a trace."""
    return TracedIO(call, trace)


class LogCapture(logging.Handler):
    """Adds log lines to the trace of the call in whose context they are written."""

    _installed: "LogCapture | None" = None

    @classmethod
    def install(cls) -> None:
        """Add the handler to the root logger and to the handlers of printed lines, once in a process."""
        if cls._installed is None:
            cls._installed = cls()
            logging.getLogger().addHandler(cls._installed)
            handlers_of_output.append(cls._installed)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line to the trace of the call that is running."""
        call = current_call.get()
        trace = getattr(call, "trace", None)
        if call is None or trace is None or len(trace.logs) >= MAX_LOG_LINES:
            return
        try:
            message = record.getMessage()
        except Exception:  # the arguments do not fit, which logging itself reports
            message = str(record.msg)
        level = logging.getLevelName(record.levelno).lower()
        trace.logs.append(LogTrace(primitives.now_s(), level, record.name, message, call.plugin))


def error_record(error: BaseException) -> ErrorRecord:
    """Return the record of an exception. Values of variables are not in it."""
    return ErrorRecord(
        kind=type(error).__name__,
        message=printable(str(error)),
        traceback=printable(describe_error(error)),
        frames=[
            SourceFrame(file=file, line=line, function=function, source=source, is_author=is_author)
            for file, line, function, source, is_author in source_frames(error)
        ],
    )
