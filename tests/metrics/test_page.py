# SPDX-License-Identifier: Apache-2.0
"""The page /metrics, and the check of its settings."""

import pytest

from apisix.runner.errors import SettingsError
from apisix.runner.metrics import page
from apisix.runner.metrics.families import Family, counter, gauge
from apisix.runner.metrics.page import check_metrics, render
from apisix.runner.settings.table import Settings


def test_text() -> None:
    """Metrics are written in the text format of Prometheus, with escaped values."""
    families = [
        counter("calls", "Calls.", ((("who", 'a"b\n'),), 2)),
        gauge("size", "Size.", ((), 0.5)),
        Family("took", "histogram", "Took.", (("took_bucket", (("le", "+Inf"),), 1.0), ("took_count", (), 1.0), ("took_sum", (), 0.25))),
    ]

    assert render(families).decode().splitlines() == [
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


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """If metrics are enabled and their library is missing, the error contains the command to install it."""
    check_metrics(Settings(metrics_address="127.0.0.1:9092"))
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    check_metrics(Settings())
    with pytest.raises(SettingsError, match=r"pip install 'apisix-python-plugin-runner\[metrics\]'"):
        check_metrics(Settings(metrics_address="127.0.0.1:9092"))
