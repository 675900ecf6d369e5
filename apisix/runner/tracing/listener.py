# SPDX-License-Identifier: Apache-2.0
"""
Make the spans of a call: one for the call, and one for each of its plugins.

The span of a call starts in `call_begins`, which runs in the context of the call, and so does everything else here. The context of a call
is a copy that only this call uses. So a span is made current by setting the context variable of OpenTelemetry, and it is never reset: when
a plugin ends, the span of its call is made current again. Tasks and threads of a plugin copy the context when they start, so the plugin's
span is current in them too.

A call that is not sampled is not observed any further. Its span, which records nothing, is still current, so that the plugin's own
requests tell other services not to record the trace either.
"""

import logging
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final, cast

from opentelemetry import propagate
from opentelemetry.context import Context, attach
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer, get_current_span, set_span_in_context

from apisix.runner import primitives
from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.call.observing.meter import outcome_of
from apisix.runner.call.observing.trace import CallListener, CallTrace, InfoTrace, StepTrace
from apisix.runner.http.request import Request
from apisix.runner.logging.call_fields import current_call
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.records.format import ErrorRecord, printable
from apisix.runner.records.redaction import Redactor
from apisix.runner.tracing import attributes
from apisix.runner.wire.call_messages import CallReq, HTTPReqCallReq, HTTPRespCallReq
from apisix.runner.wire.messages import ReqBody, Var

logger = logging.getLogger(__name__)

NS_PER_S: Final = 1_000_000_000


class CallSpans:
    """
    The spans of one call.

    Attributes:
        span: the span of the call.
        context: what is current between two plugins: the span of the call, and the baggage.
        step: the span of the plugin that runs, None between two plugins.
        info_seen: how many info requests are events of spans already.
    """

    __slots__ = ("context", "info_seen", "span", "step")

    def __init__(self, span: Span, context: Context) -> None:
        self.span = span
        self.context = context
        self.step: Span | None = None
        self.info_seen = 0


_call_spans: ContextVar[CallSpans | None] = ContextVar("call_spans", default=None)


class SpanListener(CallListener):
    """
    Makes spans.

    Args:
        tracer: creates the spans.
        propagates: True to send the span of the call to the upstream, in the header traceparent.
        redact: further names whose values are secret.
    """

    def __init__(self, tracer: Tracer, *, propagates: bool = False, redact: Iterable[str] = ()) -> None:
        super().__init__()
        self._tracer = tracer
        self._propagates = propagates
        self._fields = frozenset(name.lower() for name in propagate.get_global_textmap().fields)
        self._maker = RecordMaker(redact=redact)

    def call_begins(self, message: CallReq, chain: Chain) -> bool:
        """Start the span of a call. Return True if it is sampled."""
        try:
            return self._start(message, chain)
        except Exception:
            logger.exception("a call can't be traced")
            return False

    def step_begins(self, trace: CallTrace, step: StepTrace) -> None:
        """Start the span of a plugin, and make it current."""
        spans = _call_spans.get()
        if spans is None:
            return
        if len(trace.steps) == 1:
            self._begin_first(trace, step, spans)
        name, values = attributes.of_step(step)
        spans.step = self._tracer.start_span(name, spans.context, attributes=values, start_time=_ns(trace, step.began_s))
        if trace.trace_id is not None:
            step.span_id = f"{spans.step.get_span_context().span_id:016x}"
        attach(set_span_in_context(spans.step, spans.context))

    def step_ended(self, trace: CallTrace, step: StepTrace, error: BaseException | None) -> None:
        """End the span of a plugin, and make the span of the call current again."""
        spans = _call_spans.get()
        span = None if spans is None else spans.step
        if spans is None or span is None:
            return
        spans.step = None
        attach(spans.context)
        self._add_info_requests(trace, spans, span)
        outcome = outcome_of(error) if error is not None else "continue" if step.stopped is None else "stop"
        span.set_attribute(attributes.OUTCOME, outcome)
        if step.stopped is not None:
            span.set_attribute(attributes.RESPONSE_STATUS, step.stopped)
        if step.error is not None:
            self._record_error(trace, span, step.error, _ns(trace, step.began_s + step.took_s))
        span.end(_ns(trace, step.began_s + step.took_s))

    def ended(self, trace: CallTrace) -> None:
        """End the span of a call."""
        spans = _call_spans.get()
        if spans is None:
            return
        _call_spans.set(None)
        span = spans.span
        self._add_info_requests(trace, spans, span)
        values = attributes.of_result(trace)
        span.set_attributes(values)
        if trace.error is not None:
            self._record_error(trace, span, trace.error, _ns(trace, trace.ended_s))
        elif values[attributes.OUTCOME] == "refused":
            failed = next((step for step in reversed(trace.steps) if step.error is not None), None)
            if failed is not None and failed.error is not None:
                span.set_attribute(attributes.ERROR_TYPE, failed.error.kind)
            span.set_status(StatusCode.ERROR, "the call is refused" if failed is None else f"plugin {failed.step.name} failed")
        elif int(values.get(attributes.RESPONSE_STATUS, 0)) >= 500:
            span.set_attribute(attributes.ERROR_TYPE, str(values[attributes.RESPONSE_STATUS]))
            span.set_status(StatusCode.ERROR)
        span.end(_ns(trace, trace.ended_s))

    def _start(self, message: CallReq, chain: Chain) -> bool:
        carrier = self._carrier(message) if isinstance(message, HTTPReqCallReq) else None
        parent = propagate.extract(carrier, Context(), _HEADERS) if carrier else Context()
        name, values = attributes.of_call(message, chain)
        now_s = primitives.now_s()
        began_s = getattr(current_call.get(), "began_s", now_s)
        start_ns = time.time_ns() - int((now_s - began_s) * NS_PER_S)
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, values, start_time=start_ns)
        context = set_span_in_context(span, parent)
        attach(context)
        if not span.is_recording():
            return False
        _call_spans.set(CallSpans(span, context))
        return True

    def _carrier(self, message: HTTPReqCallReq) -> dict[str, list[str]]:
        """Return the headers that propagators read. Most requests of a client have none, so the others are not decoded."""
        carrier: dict[str, list[str]] = {}
        headers = message.received_headers()
        for name in self._fields:
            index = headers.find(name, 0, True)
            while index >= 0:
                if (value := headers.value(index)) is not None:
                    carrier.setdefault(name, []).append(value)
                index = headers.find(name, index + 1, True)
        return carrier

    def _begin_first(self, trace: CallTrace, step: StepTrace, spans: CallSpans) -> None:
        if spans.span.get_span_context().trace_flags.sampled:
            trace.trace_id = f"{spans.span.get_span_context().trace_id:032x}"
        if self._propagates and isinstance(trace.http_message, Request):
            # In the copy too: with `on_error = "pass"`, it replaces the request if the plugin fails.
            for request in (trace.http_message, step.before):
                propagate.inject(request, spans.context, _SET_HEADERS)

    def _add_info_requests(self, trace: CallTrace, spans: CallSpans, span: Span) -> None:
        for info in trace.info[spans.info_seen :]:
            values: attributes.Attributes = {
                attributes.INFO_NAME: _name_of(info),
                attributes.INFO_DURATION: round(info.ended_s - info.began_s, 6),
            }
            span.add_event(attributes.INFO_REQUEST, values, _ns(trace, info.began_s))
        spans.info_seen = len(trace.info)

    def _record_error(self, trace: CallTrace, span: Span, error: ErrorRecord, at_ns: int) -> None:
        redactor = self._maker.redactor(trace.chain, cast("HTTPReqCallReq | HTTPRespCallReq", trace.message))
        _learn(redactor, trace)
        message, traceback = (redactor.text(text) for text in (error.message, error.traceback))
        values: attributes.Attributes = {
            attributes.EXCEPTION_TYPE: error.kind,
            attributes.EXCEPTION_MESSAGE: message,
            attributes.EXCEPTION_STACKTRACE: traceback,
        }
        span.add_event(attributes.EXCEPTION, values, at_ns)
        span.set_attribute(attributes.ERROR_TYPE, error.kind)
        span.set_status(StatusCode.ERROR, f"{error.kind}: {message}")


def current_ids() -> tuple[str, str] | None:
    """Return the ids of the current trace and span, in hexadecimal, for log lines. Return None if there is no span."""
    span = get_current_span()
    if span is INVALID_SPAN:
        return None
    context = span.get_span_context()
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else None


def _learn(redactor: Redactor, trace: CallTrace) -> None:
    """Let a redactor find the secrets of a call's info replies."""
    message: Any = trace.message
    content_type = next((value for name, value in message.headers if name.lower() == "content-type"), "") or ""
    for info in trace.info:
        if info.reply is None:
            continue
        if isinstance(info.info, Var):
            redactor.value(info.info.name, info.reply.decode("utf-8", "surrogateescape"))
        else:
            redactor.body(info.reply, content_type)


def _ns(trace: CallTrace, clock_s: float) -> int:
    """Return a time of the clock as nanoseconds since the epoch."""
    return int((trace.time_s + clock_s - trace.began_s) * NS_PER_S)


def _name_of(info: InfoTrace) -> str:
    if isinstance(info.info, Var):
        return printable(info.info.name)
    return "request body" if isinstance(info.info, ReqBody) else "response body"


class _Headers(Getter[dict[str, list[str]]]):
    """Reads the headers of a request, whose names are in lower case."""

    def get(self, carrier: dict[str, list[str]], key: str) -> list[str] | None:
        return carrier.get(key.lower())

    def keys(self, carrier: dict[str, list[str]]) -> list[str]:
        return list(carrier)


class _SetHeaders(Setter[Any]):
    """Sets headers of a request, unless they have the value already."""

    def set(self, carrier: Any, key: str, value: str) -> None:
        if carrier.headers.get(key) != value:
            carrier.headers[key] = value


_HEADERS: Final = _Headers()
_SET_HEADERS: Final = _SetHeaders()
