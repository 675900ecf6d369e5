# SPDX-License-Identifier: Apache-2.0
"""What docs/guides/trace.md recommends, to link the span of the response phase to that of the request phase."""

from opentelemetry.trace import SpanContext, TraceFlags, get_current_span

from apisix import Plugin, Request, Response


class LinkPhases(Plugin):
    """Links the span of this plugin in the response phase to its span in the request phase."""

    async def on_request(self, request: Request) -> None:
        span = get_current_span().get_span_context()
        if span.trace_flags.sampled:
            (await request.ametadata())["span"] = [f"{span.trace_id:032x}", f"{span.span_id:016x}"]

    async def on_response(self, response: Response) -> None:
        if get_current_span().is_recording() and (found := (await response.ametadata()).get("span")):
            trace_id, span_id = (int(number, 16) for number in found)
            get_current_span().add_link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
