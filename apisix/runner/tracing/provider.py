# SPDX-License-Identifier: Apache-2.0
"""Set up OpenTelemetry in a worker, from the standard environment variables `OTEL_*`, and export what is left when the worker exits."""

import asyncio
import logging
import os
import threading
from contextlib import suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Final

from apisix.runner.errors import SettingsError
from apisix.runner.logging import call_fields
from apisix.runner.settings.table import Settings

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = "apisix-python-plugin-runner"
"""The name of the service, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has one."""
FLUSH_S: Final = 2.0
"""How long a worker that exits waits at most until its spans are exported, in seconds."""

_PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_EXTRAS: Final = {"otlp_proto_http": "tracing", "otlp_proto_grpc": "tracing-grpc"}


def check_tracing() -> None:
    """
    Check that spans can be made and exported.

    Raises: SettingsError: OpenTelemetry or the exporter is not installed, or a variable has a value that is not known.
    """
    if _is_missing("opentelemetry.sdk.trace"):
        raise SettingsError(
            "tracing.enabled is set, which needs OpenTelemetry. It comes with the extra tracing: "
            "pip install 'apisix-python-plugin-runner[tracing]'"
        )
    for name in exporter_names():
        if not entry_points(group="opentelemetry_traces_exporter", name=name):
            extra = _EXTRAS.get(name)
            raise SettingsError(
                f"tracing.enabled is set, and the exporter {name} is not installed. "
                + (
                    f"It comes with the extra {extra}: pip install 'apisix-python-plugin-runner[{extra}]'"
                    if extra is not None
                    else "Check OTEL_TRACES_EXPORTER: use otlp, console or none, or install the package that has this exporter"
                )
            )
    try:
        import opentelemetry.propagate  # noqa: F401  # reads OTEL_PROPAGATORS
    except ValueError as error:
        raise SettingsError(f"OTEL_PROPAGATORS is {os.environ.get('OTEL_PROPAGATORS')!r}: {error}") from error


def exporter_names() -> list[str]:
    """
    Return the names of the exporters that OTEL_TRACES_EXPORTER selects, as the packages of OpenTelemetry register them.

    Raises: SettingsError: the protocol is not known.
    """
    chosen = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip()] or ["otlp"]
    return [_otlp() if name == "otlp" else name for name in chosen if name != "none"]


def _otlp() -> str:
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    variable, protocol = next(((name, os.environ[name]) for name in variables if os.environ.get(name)), ("", "http/protobuf"))
    if protocol not in _PROTOCOLS:
        raise SettingsError(f"{variable} is {protocol!r}. It must be {' or '.join(_PROTOCOLS)}")
    return _PROTOCOLS[protocol]


def _is_missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:  # a package that contains it
        return True


def prepare_tracing() -> None:
    """Import what workers need, in the supervisor, so that they share its memory. Starts no thread and opens no connection."""
    import opentelemetry.sdk.trace.export

    import apisix.runner.tracing.listener  # noqa: F401

    with suppress(ImportError):  # not gRPC's: it must be imported after the fork
        import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401


class Tracing:
    """
    The spans of one worker. Must be created in the worker, because the export has a thread, and before plugins are imported.

    Attributes:
        listener: makes the spans.
    """

    def __init__(self, settings: Settings) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from apisix.runner.tracing.listener import SpanListener, current_ids

        own: dict[str, str | int] = {"process.pid": os.getpid()}
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            own["service.name"] = SERVICE_NAME
        # The worker flushes with a time limit. At exit, the SDK would wait for as long as the exporter tries again.
        self._provider: TracerProvider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
        for name in exporter_names():
            (entry_point,) = entry_points(group="opentelemetry_traces_exporter", name=name)
            self._provider.add_span_processor(BatchSpanProcessor(entry_point.load()()))
        trace.set_tracer_provider(self._provider)  # for the spans that plugins and their libraries make
        tracer = self._provider.get_tracer("apisix.runner")
        self.listener = SpanListener(tracer, propagates=settings.tracing_propagate, redact=settings.record_redact)
        call_fields.set_span_ids(current_ids)

    async def close(self, timeout_s: float) -> None:
        """Export what is left, for up to `timeout_s` seconds, and at most FLUSH_S. Spans that are not exported by then are lost."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def flush() -> None:
            try:
                self._provider.shutdown()
            except Exception:
                logger.exception("the last spans can't be exported")
            with suppress(RuntimeError):  # the loop is closed, because the time is over
                loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))

        # A daemon, because nothing may wait for a collector that does not answer.
        threading.Thread(target=flush, name="export-spans", daemon=True).start()
        try:
            await asyncio.wait_for(done, max(0.0, min(timeout_s, FLUSH_S)))
        except TimeoutError:
            logger.warning("the collector did not take the last spans in time, so they are lost")
