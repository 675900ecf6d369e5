# SPDX-License-Identifier: Apache-2.0
"""
What tracing costs: instructions per call with tracing off, with 1 % of the calls sampled, and with all of them.

Each call has the header traceparent, as if the gateway had begun the trace and decided whether it is sampled. A thread of the worker
exports the spans to a server that accepts everything. Its instructions are counted apart, because calls do not wait for it.
"""

import gzip
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from apisix.runner.wire.messages import HTTPReqCallReq
from bench.caller import Caller
from bench.cases import CASES, Case
from bench.files import CannotMeasure
from bench.instructions import CALLS, HANDLER, WARMUP_CALLS, counted_runner
from bench.modes import COMPILED, Mode, modes
from bench.part import Scale, Target, note
from bench.processes import scratch

CHOSEN: Final = ("noop", "read-set", "chain")
SAMPLES: Final[Mapping[str, int | None]] = {"off": None, "1 %": 100, "100 %": 1}
"""One of how many calls is sampled. None if tracing is off."""
EXPORT_TIMEOUT_S: Final = 120.0
TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"


def measure(scale: Scale) -> dict[str, Any]:
    """
    Count the instructions of each case with each way of sampling.

    Raises: CannotMeasure: the engine is not compiled, valgrind or OpenTelemetry is not installed, or a runner does not reply.
    """
    cases = [case for case in CASES if case.name in (CHOSEN[:1] if scale.smoke else CHOSEN)]
    (mode,) = modes((COMPILED,))
    found: dict[str, dict[str, dict[str, int]]] = {case.name: {} for case in cases}
    for sample, every in SAMPLES.items():
        with _collector() as collector:
            for case, number in _count(cases, every, mode, collector, HANDLER):
                found[case.name][sample] = {"handler": number}
            # Callgrind counts in the connection handler or in all threads.
            for case, number in _count(cases, every, mode, collector, "--separate-threads=yes") if every is not None else ():
                found[case.name][sample]["export"] = number
                note(f"{case.title}, tracing {sample}: {found[case.name][sample]}")
    return {"titles": {case.name: case.title for case in cases}, "cases": found}


class _Collector:
    """Counts the spans that arrive."""

    def __init__(self) -> None:
        self.port = 0
        self.spans = 0

    def wait_for(self, spans: int) -> None:
        """Return when so many spans have arrived since the last call."""
        deadline_s = time.monotonic() + EXPORT_TIMEOUT_S
        while self.spans < spans:
            if time.monotonic() > deadline_s:
                raise CannotMeasure(f"{spans} spans were expected within {EXPORT_TIMEOUT_S:g} s, and {self.spans} arrived.")
            time.sleep(0.05)
        self.spans -= spans


@contextmanager
def _collector() -> Iterator[_Collector]:
    """Run a collector in threads of this process."""
    try:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError as error:
        raise CannotMeasure("Tracing needs OpenTelemetry: pip install '.[tracing]'") from error
    collector = _Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()
            collector.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _count(cases: Sequence[Case], every: int | None, mode: Mode, collector: _Collector, option: str) -> Iterator[tuple[Case, int]]:
    """Yield the instructions per call of each case: those in the connection handler, or those of the threads, as `option` selects."""
    if every is not None:
        variables = {
            "APISIX_RUNNER_TRACING_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100000",  # no span may be lost, because the export is slow under callgrind
        }
        mode = replace(mode, environment={**mode.environment, **variables})
    with scratch() as directory, counted_runner(directory, mode, option) as (path, worker):
        for case in cases:
            caller = Caller(path)
            token = caller.prepare(case.prepare())
            sampled, other = (_traced(case, token, flags) for flags in ("01", "00"))
            for number in (WARMUP_CALLS, CALLS):
                worker.instructions()
                for index in range(number):
                    caller.call(sampled if every is not None and index % every == 0 else other)
                if every is not None:
                    collector.wait_for(-(-number // every) * (1 + len(case.plugins)))
            caller.close()
            main, *threads = worker.instructions()
            yield case, round((main if option == HANDLER else sum(threads)) / CALLS)


def _traced(case: Case, token: int, flags: str) -> HTTPReqCallReq:
    """Return the call of a case, with the header traceparent."""
    call: Any = case.call(1, token)
    headers = [*call.headers, ("traceparent", TRACEPARENT.format(flags=flags))]
    return HTTPReqCallReq(call.id, call.src_ip, call.method, call.path, call.args, headers, token)


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    lines = [
        "| instructions per call, compiled | calls sampled | in the connection handler | compared with off | in the export thread |",
        "|---|---|---:|---:|---:|",
    ]
    for name, samples in result["cases"].items():
        off = samples["off"]["handler"]
        for sample, row in samples.items():
            more, export = (f"{row['handler'] - off:+,}", f"{row['export']:,}") if "export" in row else ("", "")
            lines.append(f"| {result['titles'][name]} | {sample} | {row['handler']:,} | {more} | {export} |")
    return "\n".join(lines)


def targets(result: dict[str, Any]) -> list[Target]:
    """Return nothing: there is no target."""
    return []


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the instructions of each case."""
    for number, sample in enumerate(SAMPLES):
        values = [samples[sample]["handler"] for samples in result["cases"].values()]
        axes.bar([place + 0.27 * number for place in range(len(values))], values, 0.25, label=sample)
    axes.set_xticks([place + 0.27 for place in range(len(result["cases"]))], list(result["titles"].values()))
    axes.set_ylabel("instructions per call in the connection handler")
    axes.legend(fontsize="small")
