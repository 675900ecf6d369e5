# SPDX-License-Identifier: Apache-2.0
"""
Metrics on their way from the workers to Prometheus, and their sums.

Each worker counts for itself and sends its totals to the supervisor about every second. The supervisor adds them up. It keeps the counts
of workers that have exited, so that no counter decreases when a worker is replaced. If a worker is killed, its counts of up to the last
second are lost. (The multi-process mode of prometheus-client is not used, because it keeps a file for each worker that is never removed.)
"""

from collections.abc import Callable
from functools import reduce
from typing import Final, Literal

import msgspec

Labels = tuple[tuple[str, str], ...]
Merge = Literal["sum", "min", "max"]

PREFIX: Final = "apisix_runner_"
_LASTING: Final = frozenset({"counter", "histogram", "summary"})
_MERGES: Final[dict[Merge, Callable[[float, float], float]]] = {"sum": lambda a, b: a + b, "min": min, "max": max}


class Exemplar(msgspec.Struct, frozen=True, array_like=True):
    """
    An example of what a sample has counted, for readers of OpenMetrics.

    Attributes:
        name, labels: those of the sample.
        ids: the labels of the example: `trace_id` and `span_id`, or what a plugin has chosen.
        value: the value that was counted.
        time_s: when it was counted, in seconds since the epoch; None if that is not known.
    """

    name: str
    labels: Labels
    ids: Labels
    value: float
    time_s: float | None


class Family(msgspec.Struct, frozen=True, array_like=True):
    """
    One metric with all its labels.

    Attributes:
        name: without `_total`.
        kind: the type in Prometheus: counter, gauge, histogram, ...
        samples: name, with the suffix for the kind, labels and value.
        merge: how the values of several workers are merged.
        exemplars: at most one for each sample. Of several workers, the latest is used.
    """

    name: str
    kind: str
    help: str
    samples: tuple[tuple[str, Labels, float], ...]
    merge: Merge = "sum"
    exemplars: tuple[Exemplar, ...] = ()

    @property
    def lasts(self) -> bool:
        """Whether the values are kept when their worker exits."""
        return self.kind in _LASTING


def counter(name: str, help_: str, *values: tuple[Labels, float]) -> Family:
    """Return a counter with these values, by labels."""
    return Family(name, "counter", help_, tuple((f"{name}_total", labels, value) for labels, value in values))


def gauge(name: str, help_: str, *values: tuple[Labels, float], merge: Merge = "sum") -> Family:
    """Return a gauge with these values, by labels."""
    return Family(name, "gauge", help_, tuple((name, labels, value) for labels, value in values), merge)


class Totals:
    """The sums over all workers, including those that have exited."""

    def __init__(self) -> None:
        self._living: dict[int, dict[str, Family]] = {}
        self._departed: dict[str, Family] = {}

    def take(self, worker: int, family: Family) -> None:
        """Store a metric of a worker. It replaces the value that the worker sent before."""
        self._living.setdefault(worker, {})[family.name] = family

    def end(self, worker: int) -> None:
        """Called when a worker has exited and all its metrics were stored."""
        for name, family in self._living.pop(worker, {}).items():
            if family.lasts:
                departed = self._departed.get(name)
                self._departed[name] = family if departed is None else _add(departed, family)

    def families(self) -> list[Family]:
        """Return the sums, sorted by name."""
        by_name: dict[str, list[Family]] = {}
        for families in (self._departed, *self._living.values()):
            for name, family in families.items():
                by_name.setdefault(name, []).append(family)
        return [reduce(_add, by_name[name]) for name in sorted(by_name)]


def _add(earlier: Family, later: Family) -> Family:
    """Return the sum of two metrics. If a plugin's new code has changed the kind of the metric, return only the later one."""
    if earlier.kind != later.kind:
        return later
    merge = _MERGES[later.merge]
    values: dict[tuple[str, Labels], float] = {(name, labels): value for name, labels, value in earlier.samples}
    for name, labels, value in later.samples:
        key = (name, labels)
        values[key] = merge(values[key], value) if key in values else value
    by_time = sorted((*earlier.exemplars, *later.exemplars), key=lambda exemplar: exemplar.time_s or 0.0)
    return msgspec.structs.replace(
        later,
        samples=tuple((name, labels, value) for (name, labels), value in values.items()),
        exemplars=tuple({(exemplar.name, exemplar.labels): exemplar for exemplar in by_time}.values()),
    )
