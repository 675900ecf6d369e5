# SPDX-License-Identifier: Apache-2.0
"""Spans of a real runner, as a collector receives them over gRPC."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from tests.runner_process import running

pytestmark = pytest.mark.process

WITHIN_S = 15.0
PLUGIN = """
from apisix import Plugin, Reply, Request


class Stop(Plugin[str]):
    def on_request(self, request: Request) -> Reply:
        return Reply(401)
"""


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Collects the names of the spans, and the metadata of the last request."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.metadata: dict[str, str] = {}
        self.has_call = threading.Event()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        """Called for each batch of spans."""
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        for resource in request.resource_spans:
            self.names |= {span.name for scope in resource.scope_spans for span in scope.spans}
        if "GET ext-plugin-pre-req" in self.names:
            self.has_call.set()
        return ExportTraceServiceResponse()


@contextmanager
def receiver() -> Iterator[tuple[Receiver, int]]:
    """Start a collector for gRPC on a free port, and stop it at the end."""
    received = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    add: Callable[[Receiver, Any], None] = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(received, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield received, port
    finally:
        server.stop(None).wait(10.0)


def test_spans_over_grpc(tmp_path: Path) -> None:
    """With the protocol grpc, spans and the headers of OTEL_EXPORTER_OTLP_HEADERS arrive at a server of OTLP over gRPC."""
    (tmp_path / "stop.py").write_text(PLUGIN)
    with receiver() as (received, port):
        environ = {
            "APISIX_RUNNER_TRACING_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with running(plugins=[tmp_path], environ=environ) as runner:
            with runner.peer() as peer:
                peer.request(peer.prepare(("stop", "")))
                assert received.has_call.wait(WITHIN_S), runner.log()
            assert runner.stop() == 0

    assert received.names == {"GET ext-plugin-pre-req", "plugin stop"}
    assert received.metadata["x-tenant"] == "acme"
