# SPDX-License-Identifier: Apache-2.0
"""Collect the metrics of a worker: the runner's own metrics, the metrics that plugins define, and how late its event loop is."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from apisix.runner.call.observing.meter import Histogram, Meter
from apisix.runner.call.runtime import Runtime
from apisix.runner.metrics.families import PREFIX, Exemplar, Family, Labels, Merge, counter, gauge
from apisix.runner.plugin.chain.background import BackgroundTasks
from apisix.runner.process_pool.pool import ProcessPool

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.samples import Timestamp

logger = logging.getLogger(__name__)

PUSH_S: Final = 1.0
"""How often metrics that have changed are sent, in seconds."""
NOTABLE_LAG_S: Final = 0.1
"""How late the event loop of an idle worker must be to be counted, in seconds. A task of a plugin may have blocked it."""
MANY_TOKENS: Final = 10_000
PUSHES_A_COUNT: Final = 10
"""Counting the tokens of a full store is slow, so many tokens are not counted for each push."""
LAG_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The bounds of the buckets, in seconds: from the resolution of the loop's timers to the default of `workers.timeout`."""

_MERGES: Final[dict[str, Merge]] = {
    "min": "min",
    "livemin": "min",
    "max": "max",
    "livemax": "max",
    "mostrecent": "max",
    "livemostrecent": "max",
}
"""How the values of several workers are merged, by `multiprocess_mode` of a Gauge. All other modes are sums."""
_EXEMPLIFIED: Final[dict[str, str]] = {"counter": "_total", "histogram": "_bucket", "gaugehistogram": "_bucket"}
"""The suffixes of samples that may have exemplars, by kind. Source: OpenMetrics 1.0.0, Exemplars."""


class Reporter:
    """
    Sends metrics that have changed to the supervisor, about every second.

    Args:
        runtime: the runtime of the worker. Its calls are counted from now on.
        count_tokens: returns how many configurations the store contains.
        max_bytes: a metric of this size or more, in bytes, is not sent.
        further: yields further metrics of the runner.
    """

    def __init__(
        self,
        runtime: Runtime,
        count_tokens: Callable[[], int],
        max_bytes: int,
        further: Callable[[], Iterable[Family]] = tuple,
    ) -> None:
        self._runtime = runtime
        self._meter = runtime.meter = Meter()
        self._count_tokens = count_tokens
        self._max_bytes = max_bytes
        self._further = further
        self._lag = Histogram(LAG_S)
        self._tokens = 0
        self._pushes = 0
        self._pushed_s = 0.0
        self._sent: dict[str, Family] = {}
        self._too_large: set[str] = set()
        self._send: Callable[[Family], None] = lambda family: None
        leave_process_out()

    def start(self, send: Callable[[Family], None]) -> None:
        """Send all metrics. Args: send: sends a metric to the supervisor, now and later."""
        self._send = send
        self._push()

    def finish(self) -> None:
        """Send the last values. The store may be closed already."""
        self._push(is_last=True)

    def tick(self, lag_s: float, *, busy: bool) -> None:
        """
        Count how late the event loop is, and send what has changed, about every second.

        Args:
            lag_s: how late a timer of the event loop was, in seconds.
            busy: whether the worker has something to do.
        """
        if busy or lag_s >= NOTABLE_LAG_S:
            self._lag.add(lag_s)
        now_s = self._runtime.loop.time()
        if now_s - self._pushed_s >= PUSH_S * 0.95:  # the timer that calls this is not exact
            self._pushed_s = now_s
            self._push()

    def _push(self, *, is_last: bool = False) -> None:
        if not is_last and (self._tokens < MANY_TOKENS or self._pushes % PUSHES_A_COUNT == 0):
            self._tokens = self._count_tokens()
        self._pushes += 1
        for family in self._families():
            if self._sent.get(family.name) == family:
                continue
            self._sent[family.name] = family
            if sent := self._fitting(family):
                self._send(sent)
            elif family.name not in self._too_large:
                self._too_large.add(family.name)
                logger.error(
                    "the metric %s has too many labels, so it is not sent to the supervisor: %d samples", family.name, len(family.samples)
                )

    def _fitting(self, family: Family) -> Family | None:
        """Return a metric, without its exemplars if it is too large with them, or None if it is too large without them."""
        forms = (family, msgspec.structs.replace(family, exemplars=())) if family.exemplars else (family,)
        return next((form for form in forms if len(msgspec.msgpack.encode(form)) < self._max_bytes), None)

    def _families(self) -> Iterator[Family]:
        yield from families_of(self._runtime, self._meter)
        yield from self._further()
        # All workers share one store.
        yield gauge(f"{PREFIX}tokens_known", "Configurations in the conf store.", ((), self._tokens), merge="max")
        yield histogram(f"{PREFIX}loop_lag_seconds", "How late the event loop of a worker was when it was not idle.", [((), self._lag)])
        try:
            yield from families_of_plugins()
        except Exception:  # a collector of a plugin may raise anything
            logger.exception("the metrics of the plugins can't be collected")


def families_of(runtime: Runtime, meter: Meter) -> Iterator[Family]:
    """Yield the runner's own metrics of this worker."""
    yield counter(f"{PREFIX}calls", "Calls that have finished.", ((), runtime.calls))
    yield counter(
        f"{PREFIX}calls_refused", "Calls that were refused because the configuration of their route is not valid.", ((), runtime.refused)
    )
    yield counter(f"{PREFIX}asks", "Info requests sent to the gateway, for variables and bodies.", ((), runtime.asks))
    yield counter(
        f"{PREFIX}tokens_missed", "Calls with an unknown token. The gateway sends the configuration again.", ((), runtime.unknown_tokens)
    )
    yield gauge(f"{PREFIX}threads_stuck", "Threads that are stuck in blocking plugins and were abandoned.", ((), runtime.threads.abandoned))
    yield gauge(f"{PREFIX}held_bytes", "Bytes of incomplete frames, and of replies that are not sent yet.", ((), runtime.held_bytes))
    yield counter(
        f"{PREFIX}connections_aborted",
        "Connections closed because a frame did not arrive in time, or a reply was not read in time.",
        ((), runtime.connections_aborted),
    )
    outcomes = [
        ((("plugin", plugin), ("phase", phase or "unknown"), ("outcome", outcome)), count)
        for (plugin, phase, outcome), count in meter.outcomes.items()
    ]
    yield counter(f"{PREFIX}plugin_calls", "Calls of plugin hooks, by outcome.", *outcomes)
    durations = [((("plugin", plugin), ("phase", phase or "unknown")), duration) for (plugin, phase), duration in meter.durations.items()]
    yield histogram(f"{PREFIX}plugin_duration_seconds", "How long calls of plugin hooks took, including the time they waited.", durations)


def families_of_background(tasks: BackgroundTasks) -> Iterator[Family]:
    """Yield the metrics of the background tasks of plugins."""
    running = [((("plugin", plugin),), count) for plugin, count in tasks.running.items()]
    failures = [((("plugin", plugin),), count) for plugin, count in tasks.failures.items()]
    yield gauge(f"{PREFIX}background_tasks", "Background tasks of plugins.", *running)
    yield counter(f"{PREFIX}background_failures", "Exceptions that background tasks of plugins have raised.", *failures)


def families_of_pool(pool: ProcessPool) -> Iterator[Family]:
    """Yield the metrics of the process pool of this worker."""
    counts = pool.counts
    yield gauge(f"{PREFIX}pool_processes", 'Processes that run plugins with runs_in = "process".', ((), pool.processes))
    yield gauge(f"{PREFIX}pool_waiting", "Calls that wait for a process of the pool.", ((), pool.waiting))
    yield counter(f"{PREFIX}pool_processes_started", "Processes of the pool that were started.", ((), counts.started))
    yield counter(
        f"{PREFIX}pool_processes_ended",
        "Processes of the pool that have ended: crashed by themselves, or killed because a hook took too long.",
        ((("reason", "crashed"),), counts.crashed),
        ((("reason", "killed"),), counts.killed),
    )


def histogram(name: str, help_: str, values: Iterable[tuple[Labels, Histogram]]) -> Family:
    """Return a histogram in the form that Prometheus uses: each bucket includes the lower ones."""
    samples: list[tuple[str, Labels, float]] = []
    exemplars: list[Exemplar] = []
    for labels, value in values:
        bounds = [*map(repr, value.bounds_s), "+Inf"]
        counts = list(accumulate(value.counts))
        samples += [(f"{name}_bucket", (*labels, ("le", bound)), count) for bound, count in zip(bounds, counts, strict=True)]
        for index, span in value.spans.items():
            ids = (("trace_id", span.trace_id), ("span_id", span.span_id))
            exemplars.append(Exemplar(f"{name}_bucket", (*labels, ("le", bounds[index])), ids, span.took_s, span.time_s))
        samples += [(f"{name}_count", labels, counts[-1]), (f"{name}_sum", labels, value.sum_s)]
    return Family(name, "histogram", help_, tuple(samples), exemplars=tuple(exemplars))


def leave_process_out() -> None:
    """Remove the process metrics of prometheus-client from its registry, because their sums over workers have no meaning."""
    import prometheus_client

    for collector in (prometheus_client.PROCESS_COLLECTOR, prometheus_client.PLATFORM_COLLECTOR, prometheus_client.GC_COLLECTOR):
        with suppress(KeyError):
            prometheus_client.REGISTRY.unregister(collector)


def families_of_plugins(registry: "CollectorRegistry | None" = None) -> Iterator[Family]:
    """Yield the metrics that plugins have defined with prometheus-client. Args: registry: the registry; None for the default one."""
    if registry is None:
        if "prometheus_client" not in sys.modules:
            return
        from prometheus_client import REGISTRY

        registry = REGISTRY
    source: CollectorRegistry = registry
    for metric in source.collect():
        if metric.name.startswith(PREFIX):
            continue
        # Only the registry has the options with which a metric was created.
        maker = getattr(registry, "_names_to_collectors", {}).get(metric.name)
        merge = _MERGES.get(getattr(maker, "_multiprocess_mode", ""), "max" if metric.type in ("info", "stateset") else "sum")
        samples = tuple(
            (sample.name, tuple(sample.labels.items()), float(sample.value))
            for sample in metric.samples
            if not sample.name.endswith("_created")
        )
        exemplars = tuple(
            Exemplar(sample.name, tuple(sample.labels.items()), tuple(found.labels.items()), found.value, _float(found.timestamp))
            for sample in metric.samples
            if (found := sample.exemplar) and sample.name.endswith(_EXEMPLIFIED.get(metric.type, ()))
        )
        yield Family(metric.name, metric.type, metric.documentation, samples, merge, exemplars)


def _float(time_s: "float | Timestamp | None") -> float | None:
    return None if time_s is None else float(time_s)
