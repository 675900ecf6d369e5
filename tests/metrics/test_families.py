# SPDX-License-Identifier: Apache-2.0
"""The sums over workers, including those that have exited."""

import msgspec
import pytest

from apisix.runner.metrics.families import Exemplar, Family, Labels, Totals, counter, gauge

A: Labels = (("who", "a"),)
B: Labels = (("who", "b"),)


def values(totals: Totals) -> dict[str, dict[Labels, float]]:
    """Return all values, by metric and labels."""
    return {family.name: {labels: value for _, labels, value in family.samples} for family in totals.families()}


def test_sums_over_workers() -> None:
    """Values with the same labels are added. Others remain separate."""
    totals = Totals()
    totals.take(1, counter("calls", "Calls.", (A, 2), (B, 3)))
    totals.take(2, counter("calls", "Calls.", (A, 5)))

    assert values(totals) == {"calls": {A: 7, B: 3}}


def test_a_later_value_replaces_an_earlier_one() -> None:
    """A worker sends its totals, not the differences."""
    totals = Totals()
    totals.take(1, counter("calls", "Calls.", (A, 2)))
    totals.take(1, counter("calls", "Calls.", (A, 3)))

    assert values(totals) == {"calls": {A: 3}}


def test_counters_never_decrease() -> None:
    """The counts of a worker are kept when it exits, and the next worker's counts are added. Gauges are removed with their worker."""
    totals = Totals()
    totals.take(1, counter("calls", "Calls.", (A, 2)))
    totals.take(1, gauge("size", "Size.", ((), 9)))
    totals.take(1, Family("took", "histogram", "Took.", (("took_bucket", (("le", "+Inf"),), 2.0), ("took_sum", (), 0.5))))
    totals.end(1)
    before = values(totals)
    totals.take(2, counter("calls", "Calls.", (A, 1)))
    totals.end(2)
    totals.end(3)  # a worker that has never sent a metric

    assert before == {"calls": {A: 2}, "took": {(("le", "+Inf"),): 2.0, (): 0.5}}
    assert values(totals)["calls"] == {A: 3}


def test_the_latest_exemplar_of_several_workers() -> None:
    """Each sample has the latest exemplar of all workers, including those that have exited."""
    totals = Totals()
    for worker, labels, time_s in ((1, A, 3.0), (2, A, 2.0), (3, B, None)):
        family = counter("calls", "Calls.", (labels, 1))
        exemplar = Exemplar("calls_total", labels, (("trace_id", str(worker)),), 1.0, time_s)
        totals.take(worker, msgspec.structs.replace(family, exemplars=(exemplar,)))
    totals.end(1)
    (family,) = totals.families()

    assert {exemplar.labels: exemplar.ids for exemplar in family.exemplars} == {A: (("trace_id", "1"),), B: (("trace_id", "3"),)}


@pytest.mark.parametrize(("merge", "value"), [("sum", 7), ("min", 2), ("max", 5)])
def test_gauges_of_several_workers(merge: str, value: float) -> None:
    """Gauges are added, unless `merge` is set."""
    totals = Totals()
    for worker, size in ((1, 2), (2, 5)):
        totals.take(worker, Family("size", "gauge", "Size.", (("size", (), size),), merge))  # type: ignore[arg-type]

    assert values(totals) == {"size": {(): value}}


def test_a_metric_whose_kind_changes() -> None:
    """If a plugin's counter is a gauge after a reload, only the gauge is used."""
    totals = Totals()
    totals.take(1, counter("size", "Size.", ((), 100)))
    totals.end(1)
    totals.take(2, gauge("size", "Size.", ((), 3)))

    assert values(totals) == {"size": {(): 3}}
