# SPDX-License-Identifier: Apache-2.0
"""The pages of the metrics server: /metrics in the text format of Prometheus or as OpenMetrics, and /health."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Final

from apisix.runner.errors import SettingsError
from apisix.runner.metrics.families import Family
from apisix.runner.metrics.http_end import EventLoop, HttpServer, Page, address_of
from apisix.runner.settings.table import Settings

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


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

    return HttpServer(loop, address, {"/metrics": lambda accept: metrics_page(families(), accept), "/health": lambda _: health()})


def metrics_page(families: Iterable[Family], accept: str = "") -> Page:
    """Return the page /metrics. Args: accept: the header Accept of the request."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.openmetrics import exposition as openmetrics

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    if prefers_openmetrics(accept):
        write: Callable[..., bytes] = openmetrics.generate_latest
        return Page(write(registry), OPENMETRICS)
    return Page(generate_latest(registry), CONTENT_TYPE_LATEST)


def prefers_openmetrics(accept: str) -> bool:
    """
    Return whether a client accepts OpenMetrics, and does not prefer the text format of Prometheus.

    prometheus-client has a function for that, but it does not regard the order of preference, and repeats what the client has sent in
    the response.
    """
    openmetrics = _quality(accept, "application/openmetrics-text")
    return openmetrics > 0 and openmetrics >= _quality(accept, "text/plain")


def _quality(accept: str, media_type: str) -> float:
    """Return the highest quality that an Accept header gives a media type, 0 if none. Source: RFC 9110, 12.4.2 and 12.5.1."""
    best = 0.0
    for element in accept.split(","):
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        if name == media_type:
            qualities = [value for key, _, value in (parameter.partition("=") for parameter in parameters) if key == "q"]
            with suppress(ValueError):
                best = max(best, float(qualities[0]) if qualities else 1.0)
    return best


class _Collected:
    """A collector, as prometheus-client calls an object that returns metrics."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import Exemplar, Metric

        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            exemplars = {(found.name, found.labels): Exemplar(dict(found.ids), found.value, found.time_s) for found in family.exemplars}
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value, exemplar=exemplars.get((name, labels)))
            yield metric
