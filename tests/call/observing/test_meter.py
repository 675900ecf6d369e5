# SPDX-License-Identifier: Apache-2.0
"""Counting outcomes and durations of plugins."""

import pytest

from apisix.runner.call.observing.meter import Histogram, Meter, outcome_of
from apisix.runner.errors import CallCancelled, DeadlineExceeded, Overloaded
from apisix.runner.http.phase import Phase


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DeadlineExceeded(), "timeout"),
        (CallCancelled(), "cancelled"),
        (Overloaded(), "overloaded"),
        (TimeoutError(), "error"),  # the plugin's own
        (SystemExit(), "error"),
    ],
)
def test_outcomes_of_failures(error: BaseException, outcome: str) -> None:
    """A deadline, a hang-up of the gateway and an overload have their own outcomes."""
    assert outcome_of(error) == outcome


def test_histogram() -> None:
    """Each duration is counted once, at the smallest bound that it does not exceed."""
    histogram = Histogram((0.1, 1.0))
    for took_s in (0.0, 0.1, 0.2, 5.0):
        histogram.add(took_s)

    assert (histogram.counts, histogram.sum_s) == ([2, 1, 1], 5.3)


def test_counts_by_plugin_phase_and_outcome() -> None:
    """Outcomes are counted separately, and durations of all outcomes together."""
    meter = Meter()
    meter.count("a", Phase.PRE_REQ, "stop", 0.5)
    meter.count("a", Phase.PRE_REQ, "stop", 0.5)
    meter.count("a", Phase.PRE_REQ, "error", 0.25)
    meter.count("a", None, "stop", 0.5)

    assert meter.outcomes == {("a", Phase.PRE_REQ, "stop"): 2, ("a", Phase.PRE_REQ, "error"): 1, ("a", None, "stop"): 1}
    assert {key: histogram.sum_s for key, histogram in meter.durations.items()} == {("a", Phase.PRE_REQ): 1.25, ("a", None): 0.5}
