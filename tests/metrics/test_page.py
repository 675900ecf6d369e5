# SPDX-License-Identifier: Apache-2.0
"""The page /metrics, and the check of its settings."""

from collections.abc import Callable, Iterator

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from apisix.runner.errors import SettingsError
from apisix.runner.metrics import page
from apisix.runner.metrics.families import Exemplar, Family, counter, gauge
from apisix.runner.metrics.page import OPENMETRICS, check_metrics, metrics_page, prefers_openmetrics
from apisix.runner.settings.table import Settings

FAMILIES = [
    counter("calls", "Calls.", ((("who", 'a"b\n'),), 2)),
    gauge("size", "Size.", ((), 0.5)),
    Family(
        "took",
        "histogram",
        "Took.",
        (("took_bucket", (("le", "+Inf"),), 1.0), ("took_count", (), 1.0), ("took_sum", (), 0.25)),
        exemplars=(Exemplar("took_bucket", (("le", "+Inf"),), (("trace_id", "ab"), ("span_id", "cd")), 0.25, 12.5),),
    ),
]
ACCEPT_OF_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def test_text() -> None:
    """Metrics are written in the text format of Prometheus, with escaped values and without exemplars."""
    text = metrics_page(FAMILIES)

    assert text.content_type.startswith("text/plain; version=")
    assert text.body.decode().splitlines() == [
        "# HELP calls_total Calls.",
        "# TYPE calls_total counter",
        'calls_total{who="a\\"b\\n"} 2.0',
        "# HELP size Size.",
        "# TYPE size gauge",
        "size 0.5",
        "# HELP took Took.",
        "# TYPE took histogram",
        'took_bucket{le="+Inf"} 1.0',
        "took_count 1.0",
        "took_sum 0.25",
    ]


def test_openmetrics() -> None:
    """A client that accepts OpenMetrics gets the same values, and the exemplars."""
    text = metrics_page(FAMILIES, ACCEPT_OF_PROMETHEUS)
    parse: Callable[[str], Iterator[Metric]] = text_string_to_metric_families
    calls, size, took = parse(text.body.decode())
    bucket, count, total = took.samples

    assert text.content_type == OPENMETRICS
    assert text.body.endswith(b"\n# EOF\n")
    assert [(sample.name, sample.labels, sample.value) for sample in calls.samples] == [("calls_total", {"who": 'a"b\n'}, 2.0)]
    assert [sample.value for sample in (*size.samples, count, total)] == [0.5, 1.0, 0.25]
    assert bucket.exemplar is not None
    assert bucket.exemplar.labels == {"trace_id": "ab", "span_id": "cd"}
    assert bucket.exemplar.timestamp is not None
    assert (bucket.exemplar.value, float(bucket.exemplar.timestamp)) == (0.25, 12.5)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (ACCEPT_OF_PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Q=0.1", True),
        ("text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=high", False),
        ("text/plain", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_the_format_that_a_client_prefers(accept: str, expected: bool) -> None:
    """OpenMetrics is sent only to a client that lists it, and does not prefer the text format."""
    assert prefers_openmetrics(accept) == expected


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """If metrics are enabled and their library is missing, the error contains the command to install it."""
    check_metrics(Settings(metrics_address="127.0.0.1:9092"))
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    check_metrics(Settings())
    with pytest.raises(SettingsError, match=r"pip install 'apisix-python-plugin-runner\[metrics\]'"):
        check_metrics(Settings(metrics_address="127.0.0.1:9092"))
