# SPDX-License-Identifier: Apache-2.0
"""A collector for tests: receives spans over OTLP/HTTP, decodes them, and writes them as a tree."""

import gzip
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WITHIN_S = 15.0


class Receiver:
    """
    The spans that arrived.

    Attributes:
        port: the port on which it listens.
        answers: not set while it must keep requests waiting.
        raw: the bodies, decompressed.
        requests: called-out requests to the same server: their headers in lower case.
    """

    def __init__(self) -> None:
        self.port = 0
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()
        self.raw: list[bytes] = []
        self.requests: list[dict[str, str]] = []
        self.resources: list[dict[str, Any]] = []
        self._spans: list[Span] = []

    def environ(self) -> dict[str, str]:
        """Return the environment variables of a runner that exports to it."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "APISIX_RUNNER_TRACING_ENABLED": "true",
        }

    def receive(self, body: bytes) -> None:
        """Decode a request."""
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes_of(resource.resource))
            for scope in resource.scope_spans:
                self._spans += scope.spans

    def spans(self) -> dict[str, Span]:
        """Return the spans that have arrived, by name. No two may have the same name."""
        found = {span.name: span for span in list(self._spans)}
        assert len(found) == len(self._spans), [span.name for span in self._spans]
        return found

    def all_spans(self) -> list[Span]:
        """Return the spans that have arrived, in this order."""
        return list(self._spans)

    def wait_for(self, *names: str) -> dict[str, Span]:
        """Return the spans once those with these names have arrived. Raise AssertionError if that takes too long."""
        self.wait_until_arrived(*names)
        return self.spans()

    def wait_until_arrived(self, *names: str) -> None:
        """Wait until spans with these names have arrived. Raise AssertionError if that takes too long."""
        deadline_s = time.monotonic() + WITHIN_S
        while not set(names) <= {span.name for span in list(self._spans)}:
            assert time.monotonic() < deadline_s, f"expected {names}, got {[span.name for span in self._spans]}"
            time.sleep(0.01)

    def tree(self) -> str:
        """Return the spans as a tree: children are indented below their parents."""
        by_parent: dict[bytes, list[Span]] = {}
        known = {span.span_id for span in self._spans}
        for span in sorted(self._spans, key=lambda each: each.start_time_unix_nano):
            by_parent.setdefault(span.parent_span_id if span.parent_span_id in known else b"", []).append(span)

        def lines(parent: bytes, indent: str) -> Iterator[str]:
            for span in by_parent.get(parent, []):
                values = (f"{name}={value}".replace(f":{self.port}", "") for name, value in sorted(attributes_of(span).items()))
                shown = " ".join(values)
                yield f"{indent}{span.name} [{Span.SpanKind.Name(span.kind).removeprefix('SPAN_KIND_')}] {shown}".rstrip()
                yield from lines(span.span_id, indent + "  ")

        return "\n".join(lines(b"", ""))


def attributes_of(holder: Any) -> dict[str, Any]:
    """Return the attributes of a span, an event or a resource."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes}


def parent_of(span: Span, spans: Mapping[str, Span]) -> str:
    """Return the name of a span's parent, or its id in hexadecimal if the parent was not exported."""
    return next((name for name, each in spans.items() if each.span_id == span.parent_span_id), span.parent_span_id.hex())


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """Start a receiver in threads, and stop it at the end."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.asked.set()
            if not received.answers.wait(30.0):
                return
            received.receive(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.reply(ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")

        def do_GET(self) -> None:
            received.requests.append({name.lower(): value for name, value in self.headers.items()})
            self.reply(b"hello", "text/plain")

        def reply(self, body: bytes, content_type: str) -> None:
            try:
                self.send_response(200)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the runner has exited
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    received.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        received.answers.set()
        server.shutdown()
        server.server_close()
        thread.join(10.0)
