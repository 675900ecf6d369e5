# SPDX-License-Identifier: Apache-2.0
"""The report of a replay, as text and as JSON lines."""

import sys
from collections import Counter
from typing import Final, Literal

import click
import msgspec

from apisix.cli.diagnosis.result import counted
from apisix.testing.replaying.differences import Difference
from apisix.testing.replaying.reading import RecordedCall
from apisix.testing.replaying.replayed import ReplayResult

MAX_GROUPS: Final = 20
MAX_CALLS: Final = 3
"""How many calls of a group are printed with their values."""
MAX_DIFFERENCES: Final = 10
"""How many differences of one call are printed."""
MAX_SLOWER: Final = 5


class Report:
    """
    Collects what a replay found.

    Attributes:
        calls: how many calls were read.
        different: how many of them differ.
        reasons: how many calls were left out, by reason.
        slower: how many calls are much slower.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.different = 0
        self.reasons: Counter[str] = Counter()
        self.slower = 0

    def replayed(self, recorded: RecordedCall, result: ReplayResult) -> None:
        """Add a call that was replayed."""
        self.calls += 1
        self.slower += result.slower is not None
        if result.differences:
            self.different += 1
            self.add_different(recorded, result.differences)
        if result.slower is not None:
            self.add_slower(recorded, *result.slower)

    def left_out(self, recorded: RecordedCall, reason: str) -> None:
        """Add a call that could not be replayed or compared."""
        self.calls += 1
        self.reasons[reason] += 1
        self.add_left_out(recorded, reason)

    def add_different(self, recorded: RecordedCall, differences: list[Difference]) -> None:
        """Called for each call that differs."""

    def add_slower(self, recorded: RecordedCall, before_s: float, now_s: float) -> None:
        """Called for each call that is much slower."""

    def add_left_out(self, recorded: RecordedCall, reason: str) -> None:
        """Called for each call that was left out."""

    def finish(self) -> None:
        """Called after the last call."""


class TextReport(Report):
    """Prints the calls that differ in the same way together. Args: file: the name of the file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = file
        self._groups: dict[tuple[str, ...], list[tuple[RecordedCall, list[Difference]]]] = {}
        self._slower: list[str] = []
        self._counts: Counter[tuple[str, ...]] = Counter()

    def add_different(self, recorded: RecordedCall, differences: list[Difference]) -> None:
        """Keep the first calls of each group."""
        key = (_route(recorded), *dict.fromkeys(difference.subject for difference in differences))
        self._counts[key] += 1
        group = self._groups.setdefault(key, [])
        if len(group) < MAX_CALLS:
            group.append((recorded, differences))

    def add_slower(self, recorded: RecordedCall, before_s: float, now_s: float) -> None:
        """Keep the first calls."""
        if len(self._slower) < MAX_SLOWER:
            self._slower.append(f"  {_heading(recorded)}: {before_s * 1000:.1f} ms -> {now_s * 1000:.1f} ms")

    def finish(self) -> None:
        """Print the report."""
        for key, number in self._counts.most_common(MAX_GROUPS):
            route, *subjects = key
            click.echo(f"{counted(number, 'call')} of {route}: {_limited(subjects)}")
            for recorded, differences in self._groups[key]:
                click.echo(f"  {_heading(recorded)}")
                for difference in differences[:MAX_DIFFERENCES]:
                    click.echo(f"    {difference}")
                if len(differences) > MAX_DIFFERENCES:
                    click.echo(f"    and {len(differences) - MAX_DIFFERENCES} more differences")
            if number > MAX_CALLS:
                click.echo(f"  and {counted(number - MAX_CALLS, 'more call')}")
            click.echo()
        if len(self._counts) > MAX_GROUPS:
            rest = self.different - sum(number for _, number in self._counts.most_common(MAX_GROUPS))
            click.echo(f"and {counted(rest, 'more call')} with other differences\n")
        for reason, number in self.reasons.most_common():
            click.echo(f"{counted(number, 'call')} left out: {reason}")
        if self.slower:
            click.echo(f"{counted(self.slower, 'call')} took more than twice as long, and more than 5 ms longer:")
            for line in self._slower:
                click.echo(line)
        verdict = f"{self.different} differ" if self.different else "no differences"
        left_out = f", {sum(self.reasons.values())} left out" if self.reasons else ""
        click.echo(f"{self._file}: {counted(self.calls, 'call')}, {verdict}{left_out}")


class CallLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    A line of `--json`: a call that differs, was left out, or is slower.

    Attributes:
        id, time, route_key, plugins: from the record.
        request: the request line.
        reason: why the call was left out.
        duration_s, recorded_duration_s: how long the call took now and when it was recorded.
    """

    type: Literal["different", "left_out", "slower"]
    id: str
    time: str
    request: str
    plugins: list[str]
    route_key: str | None = None
    differences: list[Difference] = []
    reason: str | None = None
    duration_s: float | None = None
    recorded_duration_s: float | None = None


class SummaryLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="summary"):
    """The last line of `--json`. `left_out` is a number of calls by reason."""

    calls: int
    different: int
    left_out: dict[str, int]
    slower: int


class JsonReport(Report):
    """Prints JSON lines: one for each call that differs, was left out, or is slower, and a summary at the end."""

    def __init__(self) -> None:
        super().__init__()
        # What plugins print while the calls run goes to standard error, by way of `sys.stdout`.
        self._stdout = sys.stdout

    def _print(self, line: CallLine | SummaryLine) -> None:
        click.echo(msgspec.json.encode(line).decode(), file=self._stdout)

    def add_different(self, recorded: RecordedCall, differences: list[Difference]) -> None:
        """Print a line."""
        self._print(_line("different", recorded, differences=differences))

    def add_slower(self, recorded: RecordedCall, before_s: float, now_s: float) -> None:
        """Print a line."""
        self._print(_line("slower", recorded, duration_s=now_s, recorded_duration_s=before_s))

    def add_left_out(self, recorded: RecordedCall, reason: str) -> None:
        """Print a line."""
        self._print(_line("left_out", recorded, reason=reason))

    def finish(self) -> None:
        """Print the summary."""
        self._print(SummaryLine(calls=self.calls, different=self.different, left_out=dict(self.reasons), slower=self.slower))


def _line(type: Literal["different", "left_out", "slower"], recorded: RecordedCall, **fields: object) -> CallLine:
    call = recorded.call
    known = {"id": call.id, "time": call.time, "request": recorded.request_line, "plugins": call.plugins, "route_key": call.route_key}
    return msgspec.convert({"type": type, **known, **fields}, CallLine)


def _heading(recorded: RecordedCall) -> str:
    return f"{recorded.call.time}  {recorded.request_line}  ({recorded.call.id[:8]})"


def _route(recorded: RecordedCall) -> str:
    return recorded.call.route_key or "a route without a key"


def _limited(subjects: list[str]) -> str:
    rest = len(subjects) - MAX_CALLS
    return ", ".join(subjects[:MAX_CALLS]) + (f" and {rest} more" if rest > 0 else "")
