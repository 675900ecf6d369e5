# SPDX-License-Identifier: Apache-2.0
"""
Metrics on their way from the workers to Prometheus, and their sums.

Each worker counts for itself and tells the supervisor its totals about every second; the supervisor adds them up. What a worker has
counted outlives it there, so that no counter goes backwards when a worker is replaced; one that is killed takes up to a second of
counts with it. (The multi-process mode of prometheus-client keeps files that nobody clears away, one more with each worker.)
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


class Family(msgspec.Struct, frozen=True, array_like=True):
    """
    One metric with all its labels.

    Attributes:
        name: without `_total`.
        kind: Prometheus's word: counter, gauge, histogram, ...
        samples: name, with what the kind adds to it, labels and value.
        merge: how the values of several workers become one.
    """

    name: str
    kind: str
    help: str
    samples: tuple[tuple[str, Labels, float], ...]
    merge: Merge = "sum"

    @property
    def lasts(self) -> bool:
        """Whether what was counted stays counted when its worker ends."""
        return self.kind in _LASTING


def counter(name: str, help_: str, *values: tuple[Labels, float]) -> Family:
    """Make a counter from the values that it has, by labels."""
    return Family(name, "counter", help_, tuple((f"{name}_total", labels, value) for labels, value in values))


def gauge(name: str, help_: str, *values: tuple[Labels, float], merge: Merge = "sum") -> Family:
    """Make a gauge from the values that it has, by labels."""
    return Family(name, "gauge", help_, tuple((name, labels, value) for labels, value in values), merge)


class Totals:
    """What all workers have counted, those that have ended included."""

    def __init__(self) -> None:
        self._living: dict[int, dict[str, Family]] = {}
        self._departed: dict[str, Family] = {}

    def take(self, worker: int, family: Family) -> None:
        """Take what a worker says, in the place of what it said of this metric before."""
        self._living.setdefault(worker, {})[family.name] = family

    def end(self, worker: int) -> None:
        """Take note that a worker has ended. To be called once all that it said was taken."""
        for name, family in self._living.pop(worker, {}).items():
            if family.lasts:
                departed = self._departed.get(name)
                self._departed[name] = family if departed is None else _add(departed, family)

    def families(self) -> list[Family]:
        """Return the sums, in the order of their names."""
        by_name: dict[str, list[Family]] = {}
        for families in (self._departed, *self._living.values()):
            for name, family in families.items():
                by_name.setdefault(name, []).append(family)
        return [reduce(_add, by_name[name]) for name in sorted(by_name)]


def _add(earlier: Family, later: Family) -> Family:
    """Add two up. Where a plugin's new code has made something else of a metric, the new one holds."""
    if earlier.kind != later.kind:
        return later
    merge = _MERGES[later.merge]
    values: dict[tuple[str, Labels], float] = {(name, labels): value for name, labels, value in earlier.samples}
    for name, labels, value in later.samples:
        key = (name, labels)
        values[key] = merge(values[key], value) if key in values else value
    return msgspec.structs.replace(later, samples=tuple((name, labels, value) for (name, labels), value in values.items()))
