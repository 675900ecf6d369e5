# SPDX-License-Identifier: Apache-2.0
"""What the supervisor shows: the metrics of all workers and its own as Prometheus reads them, and whether anybody serves."""

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from apisix.runner.errors import SettingsError
from apisix.runner.ipc.reactor import Reactor
from apisix.runner.metrics.families import PREFIX, Family, counter, gauge
from apisix.runner.metrics.http_end import HttpServer, Page, address_of
from apisix.runner.settings.table import Settings
from apisix.runner.supervisor.worker_pool import Crew
from apisix.runner.supervisor.worker_process import Stage, resident_bytes

Refusals = Callable[[], tuple[int, int]]
"""Tells how many peers, and how many connections beyond the limit, were refused."""


def check_metrics(settings: Settings) -> None:
    """
    Make sure that metrics can be served, if anybody wants them.

    Raises: SettingsError: the address may not be used, or the library is not installed.
    """
    if address_of(settings) is not None and find_spec("prometheus_client") is None:
        raise SettingsError(
            "metrics.address is set, which needs prometheus-client. It comes with the extra metrics: "
            "pip install 'apisix-python-plugin-runner[metrics]'"
        )


def serve_metrics(reactor: Reactor, settings: Settings, crew: Crew, refusals: Refusals) -> HttpServer | None:
    """Serve /metrics and /health, if anybody wants them."""
    address = address_of(settings)
    if address is None:
        return None
    import prometheus_client  # noqa: F401  # late: 60 ms. Now, so that the workers share its memory

    pages = {"/metrics": lambda: metrics_page(crew, refusals()), "/health": lambda: health_page(crew)}
    return HttpServer(reactor, address, pages)


def metrics_page(crew: Crew, refused: tuple[int, int]) -> Page:
    """Return all metrics. Args: refused: as `Refusals` tells."""
    from prometheus_client import CONTENT_TYPE_LATEST

    return Page(render([*families_of(crew, refused), *crew.totals.families()]), CONTENT_TYPE_LATEST)


def health_page(crew: Crew) -> Page:
    """Return whether a worker serves whose loop turns. `apisix-runner health` asks one for more than that."""
    now_s = time.monotonic()
    serving = crew.serving
    turning = [worker for worker in serving if not worker.silent(now_s)]
    status = HTTPStatus.OK if turning else HTTPStatus.SERVICE_UNAVAILABLE
    body = {"ok": bool(turning), "workers": len(serving), "silent": len(serving) - len(turning)}
    return Page(json.dumps(body).encode() + b"\n", "application/json", status)


def families_of(crew: Crew, refused: tuple[int, int]) -> Iterator[Family]:
    """Return what the supervisor itself knows."""
    workers = list(crew.workers.values())
    stages = Counter(worker.stage for worker in workers)
    yield gauge(f"{PREFIX}info", "The runner.", ((("version", _version()), ("python", platform.python_version())), 1))
    yield gauge(f"{PREFIX}workers", "Workers, by what they are doing.", *[((("stage", stage.value),), stages[stage]) for stage in Stage])
    yield counter(f"{PREFIX}worker_restarts", "Workers that were started for others that had ended unasked.", ((), crew.restarts))
    yield gauge(f"{PREFIX}connections", "Connections of the gateway.", ((), crew.connections))
    yield gauge(f"{PREFIX}calls_in_flight", "Calls that wait for something.", ((), sum(worker.in_flight for worker in workers)))
    peers, connections = refused
    yield counter(f"{PREFIX}peers_refused", "Connections of users who may not connect.", ((), peers))
    yield counter(f"{PREFIX}connections_refused", "Connections for which there was no room.", ((), connections))
    memory = {"supervisor": resident_bytes(os.getpid()), "workers": sum(worker.memory_bytes() for worker in workers)}
    yield gauge(
        f"{PREFIX}memory_bytes",
        "Resident memory; what processes share is counted in each.",
        *[((("process", name),), used) for name, used in memory.items()],
    )


def _version() -> str:
    try:
        return version("apisix-python-plugin-runner")
    except PackageNotFoundError:  # a checkout that was never installed
        return "unknown"


def render(families: Iterable[Family]) -> bytes:
    """Write metrics as Prometheus reads them."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return generate_latest(registry)


class _Collected:
    """What prometheus-client calls a collector."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import Metric

        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric
