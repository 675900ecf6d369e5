# SPDX-License-Identifier: Apache-2.0
"""Print what happened: one line per request, and one line per plugin below it, as coloured text, plain text or JSON."""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from apisix.gateway.report import PhaseReport, PluginEffect, RequestReport
from apisix.gateway.resources.definitions import Problem
from apisix.gateway.runner.log import Record
from apisix.runner.records.redaction import Redactor

# A part of a line with its style in rich's notation; "" is plain.
Segment = tuple[str, str]
Line = Sequence[Segment]

FAILURES_LOGGER = "apisix.runner.call.engine"
"""The logger of failures of plugins in calls."""
# Fields of a record that are shown in another way or not at all. All others come from an author's `extra`.
_KNOWN_FIELDS = frozenset(
    {"time", "level", "logger", "message", "request_id", "call", "route", "plugin", "exception", "repeated"}
    | {"background", "task", "retry_s"}  # of background tasks
)
_RUNNERS_OWN = ("apisix.runner.", "py.warnings")

_FOR_THE_INSPECTOR = frozenset({"time_s", "protocol", "remote_addr", "received", "upstreams", "sent", "conf", "allow_degradation"})
_NOTHING_CHANGED = "no change"


def request_lines(report: RequestReport) -> list[Line]:
    """Return the lines about one request."""
    style = "bold green" if report.status < 400 else "bold yellow" if report.status < 500 else "bold red"
    head: list[Segment] = [
        (f"{report.method} {Redactor().target(report.target)}", "bold"),
        (" -> ", "dim"),
        (str(report.status), style),
        (f"  {_duration(report.duration_s)}", "dim"),
    ]
    if report.route_id is not None:
        head.append((f"  route {report.route_id}", "dim"))
    if report.upstream is not None:
        head.append((f"  upstream {report.upstream}", "dim"))
    lines: list[Line] = [head]
    if report.error is not None:
        lines.append([("    ", ""), (report.error, "red")])
    for phase in report.phases:
        lines += _phase_lines(phase, names_phase=len(report.phases) > 1)
    if report.asked_twice:
        text = "the request was sent to the upstream twice, because there was no body to send: APISIX does this after ext-plugin-post-resp"
        lines.append([("    ", ""), (text, "yellow")])
    return lines


def _phase_lines(phase: PhaseReport, *, names_phase: bool) -> list[Line]:
    if phase.effects:
        suffix = f" ({phase.phase})" if names_phase else ""
        lines = [line for effect in phase.effects for line in _effect_lines(effect, suffix)]
        return [*lines, [("    ", ""), (f"{phase.phase}: {phase.error}", "red")]] if phase.error is not None else lines
    # Without a report of the runner, one line for the call, as seen by the gateway.
    names = f" ({', '.join(phase.plugins)})" if phase.plugins else ""
    refusal = (phase.refusal or "").splitlines()
    return [
        _line(f"{phase.phase}{names}", phase.duration_s, phase.changes, phase.error),
        *([(f"        {line}", "red")] for line in refusal),
    ]


def _effect_lines(effect: PluginEffect, suffix: str) -> list[Line]:
    if effect.error is None:
        return [_line(effect.plugin + suffix, effect.duration_s, effect.changes, None)]
    first, *frames = effect.error.splitlines()
    return [_line(effect.plugin + suffix, effect.duration_s, (), first), *([(f"        {frame}", "red")] for frame in frames)]


def _line(who: str, duration_s: float, changes: Sequence[str], error: str | None) -> Line:
    what = [(error, "red")] if error is not None else [(", ".join(changes) or _NOTHING_CHANGED, "" if changes else "dim")]
    return [("    ", ""), (who, "cyan"), (f"  {_duration(duration_s)}  ", "dim"), *what]


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def record_lines(record: Record) -> list[Line]:
    """
    Return the lines for one record of the runner's log.

    The traceback of a failed plugin is left out, because it is printed below the request. Other failures of calls keep theirs.
    """
    level = str(record.get("level", ""))
    style = {"error": "red", "critical": "red", "warning": "yellow"}.get(level, "dim")
    logger = str(record.get("logger", ""))
    source = "runner" if logger.startswith(_RUNNERS_OWN) else record.get("plugin", logger)
    first, *more = str(record["message"]).split("\n")
    fields = "".join(f"  {name}={value}" for name, value in record.items() if name not in _KNOWN_FIELDS)
    lines: list[Line] = [[(f"{source}: {level} " if level else "", style), (first, style if level else ""), (fields, "dim")]]
    is_below = logger == FAILURES_LOGGER and first.startswith("plugin ")
    details = more + ([] if is_below else str(record.get("exception", "")).splitlines())
    return lines + [[(f"    {line}", style)] for line in details]


class Display:
    """
    Writes lines to a stream; the base writes plain text.

    Attributes:
        is_closed: true if the reader of the stream has closed it. Then nothing more is written.
        on_closed: called when this is found out.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_closed = False
        self.on_closed: Callable[[], None] = lambda: None

    def lines(self, lines: Sequence[Line]) -> None:
        """Write lines."""
        self._print("".join("".join(text for text, _ in line).encode(errors="backslashreplace").decode() + "\n" for line in lines))

    def _print(self, text: str) -> None:
        if self.is_closed:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self.is_closed = True
            self.on_closed()

    def request(self, report: RequestReport) -> None:
        """Print one request."""
        lines = request_lines(report)
        self.lines([[(f"{time.strftime('%H:%M:%S')} ", "dim"), *lines[0]], *lines[1:]])

    def problems(self, problems: Sequence[Problem]) -> None:
        """Print what in the routes is refused or has no effect."""
        self.lines([[("! ", "bold yellow"), (str(problem), "yellow")] for problem in problems])

    def record(self, record: Record) -> None:
        """Print a record of the runner's log."""
        self.lines(record_lines(record))

    def notice(self, text: str) -> None:
        """Print a message."""
        self.lines([[(line, "")] for line in text.splitlines()])


class RichDisplay(Display):
    """Writes in colours."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from rich.console import Console  # imported late: it is slow, and only terminals need it

        self._console = Console(file=stream, highlight=False, soft_wrap=True)

    def lines(self, lines: Sequence[Line]) -> None:
        """Write lines."""
        from rich.text import Text

        for line in lines:
            self._console.print(Text.assemble(*((text.encode(errors="backslashreplace").decode(), style) for text, style in line)))


class JsonDisplay(Display):
    """
    Writes one JSON object per line: `event` is request, problem, log or notice, and `time` is the time of writing, in UTC and ISO 8601.

    Records of the runner's log keep their own time, which has the same format.
    """

    def request(self, report: RequestReport) -> None:
        """Print one request."""
        shown = {field.name: getattr(report, field.name) for field in dataclasses.fields(report) if field.name not in _FOR_THE_INSPECTOR}
        shown["phases"] = [
            {name: value for name, value in dataclasses.asdict(phase).items() if name not in _FOR_THE_INSPECTOR} for phase in report.phases
        ]
        shown["target"] = Redactor().target(report.target)
        self._write({"event": "request", "time": _now(), **shown})

    def problems(self, problems: Sequence[Problem]) -> None:
        """Print what in the routes is refused or has no effect."""
        for problem in problems:
            self._write({"event": "problem", "time": _now(), **dataclasses.asdict(problem)})

    def record(self, record: Record) -> None:
        """Print a record of the runner's log."""
        self._write({"event": "log", "time": _now(), **record})

    def notice(self, text: str) -> None:
        """Print a message."""
        self._write({"event": "notice", "time": _now(), "text": text})

    def _write(self, value: dict[str, object]) -> None:
        # Text with bytes that are not UTF-8, for example a path, must be escaped before it is encoded as JSON.
        self._print(msgspec.json.encode(_printable(value)).decode() + "\n")


def _now() -> str:
    """Return the time in the format of the runner's log."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _printable(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _printable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value


def display_for(stream: TextIO = sys.stdout, *, json: bool = False) -> Display:
    """Return the display for a stream: JSON if requested, colours on a terminal if rich is installed, else plain lines."""
    if json:
        return JsonDisplay(stream)
    kind: Callable[[TextIO], Display] = Display
    if stream.isatty():
        kind = RichDisplay
    try:
        return kind(stream)
    except ImportError:
        return Display(stream)
