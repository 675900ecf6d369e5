# SPDX-License-Identifier: Apache-2.0
"""Spans of a real runner, as a collector receives them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent

import httpx
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from apisix.runner.wire.call_messages import Rewrite
from tests.docs.pages import CHECKOUT
from tests.peer import POST_RESP
from tests.ports import reserved_port
from tests.runner_process import running
from tests.tracing.otlp_receiver import WITHIN_S, Receiver, attributes_of, parent_of, receiver

pytestmark = pytest.mark.process

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
NOT_SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"
SECRET = "planted-secret-4711"  # noqa: S105  # a test looks for it

PLUGINS = '''
import logging
import time

import httpx
from opentelemetry import baggage, trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from apisix import Plugin, Reply, Request, Response

HTTPXClientInstrumentor().instrument()
tracer = trace.get_tracer("test")


class Check(Plugin[str]):
    """Runs inline."""

    def on_request(self, request: Request) -> None:
        with tracer.start_as_current_span("own of check") as span:
            span.set_attribute("tenant", str(baggage.get_baggage("tenant")))
        logging.getLogger("check").warning("checked")


class Ask(Plugin[str]):
    """Waits for the gateway in the middle."""

    def on_request(self, request: Request) -> None:
        request.var("request_id")
        with tracer.start_as_current_span("own of ask"):
            pass


class Enrich(Plugin[str]):
    """Calls a service."""

    async def on_request(self, request: Request) -> None:
        async with httpx.AsyncClient() as client:
            request.headers["x-user"] = (await client.get(self.config)).text

    async def on_response(self, response: Response) -> None:
        response.headers["x-seen"] = "1"


class Count(Plugin[str]):
    """Runs in a thread."""

    blocking = True

    def on_request(self, request: Request) -> None:
        with tracer.start_as_current_span("own of count"):
            time.sleep(0.001)


class Fail(Plugin[str]):
    def on_request(self, request: Request) -> None:
        raise ValueError(f"bad credentials: {request.headers['authorization']} {request.headers.get('x-tenant', '')}")


class Stop(Plugin[str]):
    def on_request(self, request: Request) -> Reply:
        return Reply(401)
'''


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """Return a directory with the plugins."""
    (tmp_path / "traced.py").write_text(PLUGINS)
    return tmp_path


def chain(received: Receiver) -> tuple[tuple[str, str], ...]:
    """Return a chain of three plugins that run in different ways."""
    return ("check", ""), ("enrich", f"http://127.0.0.1:{received.port}/user"), ("count", "")


def test_a_trace_of_three_plugins(plugins: Path) -> None:
    """Spans have the gateway's span, the call and the plugin as parents, and log lines have their ids."""
    headers = [
        ("host", "a"),
        ("traceparent", SAMPLED),
        ("tracestate", "k=v"),
        ("baggage", "tenant=acme"),
        ("authorization", f"Bearer {SECRET}"),
    ]
    with receiver() as received, running(plugins=[plugins], environ=received.environ()) as runner, runner.peer() as peer:
        token = peer.prepare(*chain(received))
        reply = peer.request(token, path="/orders", args=[("token", SECRET)], headers=headers)
        spans = received.wait_for("GET ext-plugin-pre-req")
        runner.wait_for_log("checked")
        line = next(json.loads(line) for line in runner.log().splitlines() if '"checked"' in line)
        tree = received.tree()
        page = CHECKOUT / "docs" / "guides" / "trace.md"

    assert indent(tree, "    ") in page.read_text("utf-8")
    call = spans["GET ext-plugin-pre-req"]
    found = {name: parent_of(span, spans) for name, span in spans.items()}
    assert found == {
        "GET ext-plugin-pre-req": PARENT_ID,
        "plugin check": "GET ext-plugin-pre-req",
        "own of check": "plugin check",
        "plugin enrich": "GET ext-plugin-pre-req",
        "GET": "plugin enrich",
        "plugin count": "GET ext-plugin-pre-req",
        "own of count": "plugin count",
    }, tree
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE_ID}
    assert call.trace_state == "k=v"
    assert attributes_of(call) == {
        "apisix.call_id": 7,
        "apisix.phase": "ext-plugin-pre-req",
        "apisix.route_key": "route#1#ext-plugin-pre-req#1",
        "apisix.outcome": "rewrite",
        "http.request.method": "GET",
        "url.path": "/orders",
        "client.address": "127.0.0.1",
    }
    assert [attributes_of(spans[f"plugin {name}"])["apisix.plugin.runs"] for name in ("check", "enrich", "count")] == [
        "inline",
        "coroutine",
        "thread",
    ]
    assert attributes_of(spans["own of check"])["tenant"] == "acme"
    assert received.requests[0]["traceparent"] == f"00-{TRACE_ID}-{spans['GET'].span_id.hex()}-01"
    assert (line["trace_id"], line["span_id"]) == (TRACE_ID, spans["plugin check"].span_id.hex())
    assert received.resources[0]["service.name"] == "apisix-python-plugin-runner"
    assert isinstance(reply.action, Rewrite)
    assert dict(reply.action.headers) == {"x-user": "hello"}
    assert not any(SECRET.encode() in body for body in received.raw)


def test_a_hook_that_waits_in_the_greenlet(plugins: Path) -> None:
    """The span stays current while a plain hook waits, and its info request is an event."""
    with receiver() as received, running(plugins=[plugins], environ=received.environ()) as runner, runner.peer() as peer:
        peer.request(peer.prepare(("ask", "")), answers={"request_id": b"r1"})
        spans = received.wait_for("GET ext-plugin-pre-req")

    plugin = spans["plugin ask"]
    assert parent_of(spans["own of ask"], spans) == "plugin ask"
    assert attributes_of(plugin)["apisix.plugin.runs"] == "suspendable"
    assert [(event.name, attributes_of(event)["apisix.info_request.name"]) for event in plugin.events] == [
        ("apisix.info_request", "request_id")
    ]


def test_an_exception_is_an_event_without_secrets(plugins: Path) -> None:
    """The span of the plugin has the exception as an event, the span of the call has the status, and no secret arrives."""
    headers = [("host", "a"), ("authorization", f"Bearer {SECRET}"), ("traceparent", SAMPLED)]
    with receiver() as received, running(plugins=[plugins], environ=received.environ()) as runner, runner.peer() as peer:
        peer.request(peer.prepare(("fail", "")), path=f"/a;jsessionid={SECRET}", headers=headers, args=[("token", SECRET)])
        spans = received.wait_for("GET ext-plugin-pre-req")

    plugin, call = spans["plugin fail"], spans["GET ext-plugin-pre-req"]
    (event,) = plugin.events
    assert event.name == "exception"
    assert attributes_of(event)["exception.type"] == "ValueError"
    assert attributes_of(event)["exception.message"].startswith("bad credentials: Bearer redacted-")
    assert (plugin.status.code, call.status.code) == (2, 2)
    assert (attributes_of(plugin)["apisix.outcome"], attributes_of(call)["apisix.outcome"]) == ("error", "refused")
    assert not any(SECRET.encode() in body for body in received.raw)


def test_further_names_of_secrets(plugins: Path) -> None:
    """The names in the setting `record.redact` are secret in traces too."""
    headers = [("host", "a"), ("authorization", "none"), ("x-tenant", SECRET), ("traceparent", SAMPLED)]
    with receiver() as received:
        environ = {**received.environ(), "APISIX_RUNNER_RECORD_REDACT": "x-tenant"}
        with running(plugins=[plugins], environ=environ) as runner, runner.peer() as peer:
            peer.request(peer.prepare(("fail", "")), headers=headers)
            received.wait_for("GET ext-plugin-pre-req")

    assert not any(SECRET.encode() in body for body in received.raw)


def test_the_metrics_refer_to_spans(plugins: Path) -> None:
    """As OpenMetrics, the bucket of a plugin's duration has the ids of its latest span. Calls that are not sampled are only counted."""
    deadline_s = time.monotonic() + WITHIN_S
    counted = 0.0
    with receiver() as received, reserved_port() as port:
        environ = {**received.environ(), "APISIX_RUNNER_METRICS_ADDRESS": f"127.0.0.1:{port}"}
        with running(plugins=[plugins], environ=environ) as runner, runner.peer() as peer:
            token = peer.prepare(("stop", ""))
            peer.request(token, headers=[("host", "a"), ("traceparent", SAMPLED)])
            peer.request(token, headers=[("host", "a"), ("traceparent", NOT_SAMPLED)])
            span = received.wait_for("plugin stop")["plugin stop"]
            while counted < 2.0:
                assert time.monotonic() < deadline_s, "the calls were not counted"
                time.sleep(0.02)
                families = {family.name: family for family in scrape(port)}
                samples = families["apisix_runner_plugin_duration_seconds"].samples
                counted = sum(sample.value for sample in samples if sample.name.endswith("_count"))

    (bucket,) = [sample for sample in samples if sample.exemplar]
    assert bucket.exemplar is not None
    assert bucket.exemplar.labels == {"trace_id": TRACE_ID, "span_id": span.span_id.hex()}
    assert bucket.exemplar.value <= float(bucket.labels["le"])
    took_s = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    assert bucket.exemplar.value == pytest.approx(took_s, abs=1e-6)


def scrape(port: int) -> list[Metric]:
    """Return the families of the page /metrics, as a strict reader of OpenMetrics sees them."""
    response = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    parse: Callable[[str], Iterator[Metric]] = text_string_to_metric_families
    return list(parse(response.text))


def test_calls_that_are_not_sampled(plugins: Path) -> None:
    """If the gateway does not sample a request, nothing is exported, and the plugin's own requests say so too."""
    with receiver() as received, running(plugins=[plugins], environ=received.environ()) as runner, runner.peer() as peer:
        peer.request(peer.prepare(*chain(received)), headers=[("host", "a"), ("traceparent", NOT_SAMPLED)])
        peer.request(peer.prepare(("stop", "")), headers=[("host", "a"), ("traceparent", SAMPLED)])
        spans = received.wait_for("GET ext-plugin-pre-req")
        assert runner.stop() == 0

    assert set(received.spans()) == set(spans) == {"GET ext-plugin-pre-req", "plugin stop"}
    assert attributes_of(spans["GET ext-plugin-pre-req"])["http.response.status_code"] == 401
    assert received.requests[0]["traceparent"].endswith("-00")
    assert received.requests[0]["traceparent"].split("-")[1] == TRACE_ID


@pytest.mark.parametrize("propagates", [False, True])
def test_the_upstream_gets_the_span_if_that_is_set(plugins: Path, propagates: bool) -> None:
    """The header traceparent of the request is changed only with `tracing.propagate`."""
    with receiver() as received:
        environ = {**received.environ(), "APISIX_RUNNER_TRACING_PROPAGATE": str(propagates)}
        with running(plugins=[plugins], environ=environ) as runner, runner.peer() as peer:
            reply = peer.request(peer.prepare(("check", "")), headers=[("host", "a"), ("traceparent", SAMPLED)])
            span = received.wait_for("GET ext-plugin-pre-req")["GET ext-plugin-pre-req"]

    sent = dict(reply.action.headers) if reply.action is not None else {}
    assert sent == ({"traceparent": f"00-{TRACE_ID}-{span.span_id.hex()}-01"} if propagates else {})


def test_the_query_of_a_url_can_be_removed(tmp_path: Path) -> None:
    """With the hooks of the guide, no span of httpx has the query of its URL."""
    hooks = Path(__file__).with_name("httpx_without_query.py").read_text("utf-8")
    (tmp_path / "traced.py").write_text(PLUGINS.replace("HTTPXClientInstrumentor().instrument()", hooks))
    with receiver() as received, running(plugins=[tmp_path], environ=received.environ()) as runner, runner.peer() as peer:
        url = f"http://127.0.0.1:{received.port}/user"
        peer.request(peer.prepare(("enrich", f"{url}?key={SECRET}")))
        spans = received.wait_for("GET", "GET ext-plugin-pre-req")

    assert attributes_of(spans["GET"])["http.url"] == url
    assert not any(SECRET.encode() in body for body in received.raw)


def test_the_response_phase_has_a_trace_of_its_own(plugins: Path) -> None:
    """The message of the response phase has no request headers, so its span has no parent."""
    with receiver() as received, running(plugins=[plugins], environ=received.environ()) as runner, runner.peer() as peer:
        peer.respond(peer.prepare(("enrich", ""), key=POST_RESP), status=200)
        spans = received.wait_for("ext-plugin-post-resp")

    assert spans["ext-plugin-post-resp"].parent_span_id == b""
    assert attributes_of(spans["ext-plugin-post-resp"])["http.response.status_code"] == 200
    assert parent_of(spans["plugin enrich"], spans) == "ext-plugin-post-resp"


def test_the_spans_of_both_phases_can_be_linked(tmp_path: Path) -> None:
    """With the plugin of the guide, the span of the response phase has a link to the one of the request phase, in another worker too."""
    (tmp_path / "linked.py").write_text(Path(__file__).with_name("linked_phases.py").read_text("utf-8"))
    answers = {"request_id": b"r1"}
    with receiver() as received, running("--workers", "2", plugins=[tmp_path], environ=received.environ()) as runner:
        with runner.peer() as peer:
            peer.request(peer.prepare(("link-phases", "{}")), headers=[("host", "a"), ("traceparent", SAMPLED)], answers=answers)
            request = received.wait_for("plugin link-phases")["plugin link-phases"]
        with runner.peer() as peer:
            peer.respond(peer.prepare(("link-phases", "{}"), key=POST_RESP), answers=answers)
            received.wait_until_arrived("ext-plugin-post-resp")

    (link,) = [link for span in received.all_spans() for link in span.links]
    assert (link.trace_id.hex(), link.span_id) == (TRACE_ID, request.span_id)


def test_spans_are_exported_when_the_runner_stops(plugins: Path) -> None:
    """The spans that wait for the next batch are exported on SIGTERM."""
    with receiver() as received:
        with running(plugins=[plugins], environ={**received.environ(), "OTEL_BSP_SCHEDULE_DELAY": "600000"}) as runner:
            with runner.peer() as peer:
                peer.request(peer.prepare(("stop", "")))
            assert runner.stop() == 0
        names = set(received.spans())

    assert names == {"GET ext-plugin-pre-req", "plugin stop"}


def test_a_collector_that_does_not_answer(plugins: Path) -> None:
    """Calls are served while the export waits, and so is the stop; the log says that spans are lost."""
    with receiver() as received:
        received.answers.clear()
        with running(plugins=[plugins], environ=received.environ()) as runner:
            with runner.peer() as peer:
                token = peer.prepare(("stop", ""))
                peer.request(token)
                assert received.asked.wait(10.0)
                for _ in range(20):
                    assert peer.request(token).action.status == 401
            assert runner.stop() == 0
            log = runner.log()
        assert received.raw == []

    assert "did not take the last spans in time" in log


def test_a_collector_that_is_down_and_comes_back(plugins: Path) -> None:
    """While nothing listens, calls are served. Spans of later calls arrive when the collector is back."""
    with reserved_port() as port:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        environ |= {"OTEL_BSP_SCHEDULE_DELAY": "50", "APISIX_RUNNER_TRACING_ENABLED": "true"}
        with running(plugins=[plugins], environ=environ) as runner, runner.peer() as peer:
            token = peer.prepare(("stop", ""))
            assert peer.request(token).action.status == 401
            runner.wait_for_log("opentelemetry")
            with receiver(port) as received:
                peer.request(token)
                received.wait_for("GET ext-plugin-pre-req", "plugin stop")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'smoke'. It must be http/protobuf or grpc"),
        ({"OTEL_TRACES_EXPORTER": "nope"}, "the exporter nope is not installed"),
        ({"OTEL_PROPAGATORS": "nope"}, "OTEL_PROPAGATORS is 'nope'"),
    ],
)
def test_a_runner_that_can_not_export_does_not_start(environ: dict[str, str], expected: str, tmp_path: Path) -> None:
    """The message names the variable, and what it may be."""
    process = subprocess.run(
        [sys.executable, "-m", "apisix", "start", "--socket", str(tmp_path / "s")],
        env={**os.environ, "APISIX_RUNNER_TRACING_ENABLED": "true", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert process.returncode == 2
    assert expected in process.stderr
