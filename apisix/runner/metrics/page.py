# SPDX-License-Identifier: Apache-2.0
"""The pages of the metrics server: /metrics as Prometheus reads it, and /health."""

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from apisix.runner.errors import SettingsError
from apisix.runner.metrics.families import Family
from apisix.runner.metrics.http_end import EventLoop, HttpServer, Page, address_of
from apisix.runner.settings.table import Settings


def check_metrics(settings: Settings) -> None:
    """
    Check that metrics can be served if the settings ask for them.

    Raises:
        SettingsError: the address is not allowed, or prometheus-client is not installed.
    """
    if address_of(settings) is not None and find_spec("prometheus_client") is None:
        raise SettingsError(
            "metrics.address is set, which needs prometheus-client. It comes with the extra metrics: "
            "pip install 'apisix-python-plugin-runner[metrics]'"
        )


def serve_metrics(
    loop: EventLoop, settings: Settings, families: Callable[[], Iterable[Family]], health: Callable[[], Page]
) -> HttpServer | None:
    """
    Serve /metrics and /health if the settings ask for them. Return the server, or None.

    Args:
        families: returns all metrics of the runner.
        health: returns the page /health.
    """
    address = address_of(settings)
    if address is None:
        return None
    import prometheus_client  # noqa: F401  # late, because the import is slow; before the fork, so that the workers share its memory

    return HttpServer(loop, address, {"/metrics": lambda: metrics_page(families()), "/health": health})


def metrics_page(families: Iterable[Family]) -> Page:
    """Return the page /metrics."""
    from prometheus_client import CONTENT_TYPE_LATEST

    return Page(render(families), CONTENT_TYPE_LATEST)


def render(families: Iterable[Family]) -> bytes:
    """Return metrics in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return generate_latest(registry)


class _Collected:
    """A collector, as prometheus-client calls an object that returns metrics."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import Metric

        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric
