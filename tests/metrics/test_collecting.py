# SPDX-License-Identifier: Apache-2.0
"""The metrics of a worker and its plugins."""

import asyncio
import logging
from collections.abc import Iterator
from typing import cast

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import Metric

from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.observing.meter import BUCKETS_S, Meter
from apisix.runner.call.observing.meter import Histogram as Durations
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.http.phase import Phase
from apisix.runner.metrics import collecting as metrics_worker
from apisix.runner.metrics.collecting import Reporter, families_of, families_of_plugins, histogram
from apisix.runner.metrics.families import Family

MAX_BYTES = 1 << 20


def a_runtime(loop: asyncio.AbstractEventLoop) -> Runtime:
    """Return the runtime of a worker without chains, because no test calls a plugin."""
    return Runtime(loop, cast("ChainCache", None), PluginThreads(1), 1.0, 10, "refuse", 1000)


@pytest.fixture
async def runtime() -> Runtime:
    return a_runtime(asyncio.get_running_loop())


def of(families: Iterator[Family], name: str) -> Family:
    (found,) = [family for family in families if family.name == name]
    return found


async def test_figures_of_the_runner(runtime: Runtime) -> None:
    """The counts of the call layer have their metrics. Plugins are counted by name, phase and outcome."""
    runtime.calls, runtime.asks, runtime.unknown_tokens, runtime.refused = 4, 3, 2, 1
    meter = Meter()
    meter.count("a", Phase.PRE_REQ, "stop", 0.5)
    meter.count("b", None, "error", 0.5)
    families = {family.name.removeprefix("apisix_runner_"): family for family in families_of(runtime, meter)}

    for name, value in (("calls", 4), ("asks", 3), ("tokens_missed", 2), ("calls_refused", 1)):
        assert families[name].samples == ((f"apisix_runner_{name}_total", (), value),)
    assert families["plugin_calls"].samples == (
        ("apisix_runner_plugin_calls_total", (("plugin", "a"), ("phase", "ext-plugin-pre-req"), ("outcome", "stop")), 1),
        ("apisix_runner_plugin_calls_total", (("plugin", "b"), ("phase", "unknown"), ("outcome", "error")), 1),
    )
    assert len(families["plugin_duration_seconds"].samples) == 2 * (18 + 1 + 2)


def test_buckets_include_those_below() -> None:
    """A histogram has the form that Prometheus uses."""
    durations = Durations((0.1, 1.0))
    for took_s in (0.05, 0.5, 5.0):
        durations.add(took_s)
    family = histogram("took", "Took.", [((("a", "b"),), durations)])

    assert [
        ("took_bucket", (("a", "b"), ("le", "0.1")), 1),
        ("took_bucket", (("a", "b"), ("le", "1.0")), 2),
        ("took_bucket", (("a", "b"), ("le", "+Inf")), 3),
        ("took_count", (("a", "b"),), 3),
        ("took_sum", (("a", "b"),), 5.55),
    ] == list(family.samples)


def test_each_bucket_has_its_latest_span() -> None:
    """A bucket has the latest duration with a span as its exemplar. A duration without a span replaces none."""
    durations = Durations((0.1, 1.0))
    for took_s, span_id in ((0.05, "s1"), (0.06, "s2"), (5.0, "s3")):
        durations.add(took_s)
        durations.add_span(took_s, "t", span_id)
    durations.add(0.07)
    exemplars = histogram("took", "Took.", [((("a", "b"),), durations)]).exemplars

    assert [(exemplar.name, exemplar.labels, exemplar.ids, exemplar.value) for exemplar in exemplars] == [
        ("took_bucket", (("a", "b"), ("le", "0.1")), (("trace_id", "t"), ("span_id", "s2")), 0.06),
        ("took_bucket", (("a", "b"), ("le", "+Inf")), (("trace_id", "t"), ("span_id", "s3")), 5.0),
    ]


def test_exemplars_of_plugins() -> None:
    """The exemplars of a plugin's own metrics are kept."""
    registry = CollectorRegistry()
    Counter("jobs", "Jobs.", registry=registry).inc(2, {"trace_id": "t"})
    Histogram("took", "Took.", registry=registry, buckets=(1.0,)).observe(0.5, {"trace_id": "u"})
    jobs, took = families_of_plugins(registry)

    assert [(exemplar.name, exemplar.labels, exemplar.ids, exemplar.value) for exemplar in (*jobs.exemplars, *took.exemplars)] == [
        ("jobs_total", (), (("trace_id", "t"),), 2.0),
        ("took_bucket", (("le", "1.0"),), (("trace_id", "u"),), 0.5),
    ]


async def test_exemplars_that_do_not_fit(runtime: Runtime) -> None:
    """A metric that is too large only because of its exemplars is sent without them."""
    reporter = Reporter(runtime, lambda: 0, 2000)
    assert runtime.meter is not None
    for bound in BUCKETS_S:
        runtime.meter.count("a", None, "stop", bound)
        runtime.meter.add_span("a", None, bound, "t" * 32, "s" * 16)
    sent: list[Family] = []
    reporter.start(sent.append)

    assert of(iter(sent), "apisix_runner_plugin_duration_seconds").exemplars == ()
    assert len(of(families_of(runtime, runtime.meter), "apisix_runner_plugin_duration_seconds").exemplars) == len(BUCKETS_S)


def test_metrics_of_plugins() -> None:
    """All kinds of metrics of prometheus-client are collected unchanged, except creation times, which have no sum."""
    registry = CollectorRegistry()
    Counter("jobs", "Jobs.", ["who"], registry=registry).labels("a").inc(2)
    Gauge("size", "Size.", registry=registry).set(3)
    Gauge("last", "Last.", registry=registry, multiprocess_mode="max").set(4)
    Histogram("took", "Took.", registry=registry, buckets=(1.0,)).observe(0.5)
    Summary("sent", "Sent.", registry=registry).observe(7)
    Info("build", "Build.", registry=registry).info({"v": "1"})
    Enum("state", "State.", states=["up", "down"], registry=registry)
    families = {family.name: family for family in families_of_plugins(registry)}

    assert families["jobs"].samples == (("jobs_total", (("who", "a"),), 2.0),)
    assert ("sum", "max", "max", "max") == tuple(families[name].merge for name in ("size", "last", "build", "state"))
    assert [name for name, _, _ in families["took"].samples] == ["took_bucket", "took_bucket", "took_count", "took_sum"]
    assert {name: value for name, _, value in families["sent"].samples} == {"sent_count": 1.0, "sent_sum": 7.0}
    assert (families["sent"].lasts, families["state"].lasts) == (True, False)


def test_names_of_the_runner_are_its_own() -> None:
    """Metrics of plugins with the prefix of the runner are ignored."""
    registry = CollectorRegistry()
    Counter("apisix_runner_calls", "Not ours.", registry=registry)

    assert [] == list(families_of_plugins(registry))


async def test_only_changed_metrics_are_sent(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """All metrics are sent at the start, then those that have changed, and the last changes at the end, after the store was closed."""
    monkeypatch.setattr(metrics_worker, "PUSH_S", 0.0)
    sent: list[Family] = []
    tokens = iter([5])

    def count_tokens() -> int:
        return next(tokens, 5)

    reporter = Reporter(runtime, count_tokens, MAX_BYTES)
    reporter.start(sent.append)
    assert of(iter(sent), "apisix_runner_tokens_known").samples[0][2] == 5
    assert sum(family.name == "apisix_runner_calls" for family in sent) == 1

    sent.clear()
    runtime.calls = 1
    reporter.tick(0.0, busy=True)
    assert {family.name for family in sent} == {"apisix_runner_calls", "apisix_runner_loop_lag_seconds"}

    sent.clear()
    reporter.tick(0.0, busy=False)
    assert sent == []

    runtime.calls = 2
    reporter.finish()
    assert 2 == sent[-1].samples[0][2] or 2 == max(family.samples[0][2] for family in sent if family.name == "apisix_runner_calls")


@pytest.mark.parametrize("busy", [True, False])
async def test_a_late_loop_is_counted(runtime: Runtime, busy: bool) -> None:
    """An event loop that was blocked is late, even in a worker without calls."""
    reporter = Reporter(runtime, lambda: 0, MAX_BYTES)
    sent: list[Family] = []
    reporter.start(sent.append)
    reporter.tick(7.0, busy=busy)
    reporter.finish()

    lag = [family for family in sent if family.name == "apisix_runner_loop_lag_seconds"][-1]
    assert {labels[0][1]: count for name, labels, count in lag.samples if labels and labels[0][1] in ("5.0", "10.0")} == {
        "5.0": 0,
        "10.0": 1,
    }


async def test_too_many_labels(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """A metric that does not fit into a message is not sent, and one log line contains its name. The others are sent."""
    reporter = Reporter(runtime, lambda: 0, 2000)
    assert runtime.meter is not None
    for number in range(100):
        runtime.meter.count(f"plugin-{number}", None, "stop", 0.1)
    sent: list[Family] = []
    with caplog.at_level(logging.ERROR):
        reporter.start(sent.append)
        runtime.meter.count("plugin-0", None, "stop", 0.1)
        reporter.finish()

    assert "apisix_runner_plugin_calls" not in {family.name for family in sent}
    assert "apisix_runner_calls" in {family.name for family in sent}
    assert sum("the metric apisix_runner_plugin_calls has too many labels" in record.message for record in caplog.records) == 1


async def test_a_collector_that_raises(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """If a collector of a plugin fails, the exception is logged, and the metrics of the runner are sent."""

    class Broken:
        def collect(self) -> Iterator[Metric]:
            raise ZeroDivisionError

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Broken())
    monkeypatch.setattr("prometheus_client.REGISTRY", registry)
    sent: list[Family] = []
    reporter = Reporter(runtime, lambda: 0, MAX_BYTES)
    with caplog.at_level(logging.ERROR):
        reporter.start(sent.append)
    reporter.finish()

    assert "apisix_runner_calls" in {family.name for family in sent}
    assert "the metrics of the plugins can't be collected" in [record.message for record in caplog.records]
