# SPDX-License-Identifier: Apache-2.0
"""Count what plugins do and how long it takes, as plain numbers. `metrics` converts them to metrics."""

import time
from bisect import bisect_left
from typing import Final, NamedTuple

from apisix.runner.errors import CallCancelled, DeadlineExceeded, Overloaded
from apisix.runner.http.phase import Phase

BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds, from a plugin that sets a header to the timeout of the gateway."""

_FAILURES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (DeadlineExceeded, "timeout"),
    (CallCancelled, "cancelled"),
    (Overloaded, "overloaded"),
)


def outcome_of(error: BaseException) -> str:
    """Return the outcome of a plugin that raised `error`."""
    return next((outcome for kind, outcome in _FAILURES if isinstance(error, kind)), "error")


class SpanSample(NamedTuple):
    """One duration, and the span that has it. `time_s` is when it ended, in seconds since the epoch. The ids are in hexadecimal."""

    trace_id: str
    span_id: str
    took_s: float
    time_s: float


class Histogram:
    """
    A histogram of durations.

    Attributes:
        counts: how many durations are in each range. A range ends at, and includes, the bound with the same index; the last has no end.
        sum_s: the sum of all durations, in seconds.
        spans: the latest duration in each range that has a span, by the index of the range.
    """

    __slots__ = ("bounds_s", "counts", "spans", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...] = BUCKETS_S) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0
        self.spans: dict[int, SpanSample] = {}

    def add(self, took_s: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds_s, took_s)] += 1
        self.sum_s += took_s

    def add_span(self, took_s: float, trace_id: str, span_id: str) -> None:
        """Keep the span of a duration that was counted, in place of the earlier one in its range."""
        self.spans[bisect_left(self.bounds_s, took_s)] = SpanSample(trace_id, span_id, took_s, time.time())


class Meter:
    """
    Counts what the plugins of one worker do. Must be used in the event loop's thread.

    Attributes:
        outcomes: the number of calls of a plugin, by name, phase and outcome. The outcomes are continue, rewrite, stop, error, timeout,
            overloaded and cancelled.
        durations: the durations of the calls of a plugin, including time in which it waited, by name and phase.
    """

    __slots__ = ("durations", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, Phase | None, str], int] = {}
        self.durations: dict[tuple[str, Phase | None], Histogram] = {}

    def count(self, plugin: str, phase: Phase | None, outcome: str, took_s: float) -> None:
        """Count one call of a plugin."""
        key = (plugin, phase, outcome)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        duration = self.durations.get((plugin, phase))
        if duration is None:
            duration = self.durations[plugin, phase] = Histogram()
        duration.add(took_s)

    def count_late_error(self, plugin: str, phase: Phase | None) -> None:
        """Count an error that was found when the plugin had already returned, so that its call and its duration are counted."""
        key = (plugin, phase, "error")
        self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def add_span(self, plugin: str, phase: Phase | None, took_s: float, trace_id: str, span_id: str) -> None:
        """Keep the span of a call that was counted. Args: trace_id, span_id: in hexadecimal."""
        self.durations[plugin, phase].add_span(took_s, trace_id, span_id)
