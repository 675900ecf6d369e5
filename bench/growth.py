# SPDX-License-Identifier: Apache-2.0
"""How the time of a call grows with headers, with the size of the body, with routes, and with idle connections."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apisix.runner.wire.messages import Rewrite
from bench.cases import CASES, Case
from bench.charts import COLOURS, lines
from bench.files import CannotMeasure, Frames, write_frames
from bench.modes import COMPILED, PURE, modes
from bench.part import Scale, Target, note, shown, spread
from bench.processes import echo, load, runner, scratch

CONNECTIONS = 16
BODY_CONNECTIONS = 4
"""Fewer where bodies are read: 16 times 8 MiB would measure the memory's bandwidth."""
KIB, MIB = 2**10, 2**20

HEADERS = (0, 2, 12, 25, 50, 75, 100)
"""The gateway sends 100 at most. Source: gateway contract, 4."""
BODIES = (1, KIB, 8 * KIB, 64 * KIB, 512 * KIB, MIB, 4 * MIB, 8 * MIB)
ROUTES = (1, 10, 100, 1000, 10_000)
IDLE = (0, 250, 500, 1000, 2000)
LONGEST = Scale(3, 1.0)
"""Less than the table gets: there are 38 points."""
FLAT = 1.15
NOISE_US = 0.02
"""A header. A flat curve has no shape: what is below is noise."""
"""Growth with what must not cost anything is told from noise above this."""

_Curve = list[tuple[int, dict[str, float]]]
"""Points of a curve: where, and the spread of the CPU time in microseconds."""

AXES = {
    "headers": "headers of the request",
    "body": "size of the body, bytes",
    "routes": "routes, called in turn",
    "idle": "further connections that do nothing",
}


@dataclass(frozen=True, eq=False)
class Point:
    """One figure of a curve."""

    curve: str
    plugin: str
    at: int
    case: Case
    idle: int = 0
    warmup_calls: int = 0

    @property
    def connections(self) -> int:
        """The number of connections that make calls."""
        return BODY_CONNECTIONS if self.curve == "body" else CONNECTIONS

    @property
    def has_baseline(self) -> bool:
        """Whether the time of the echo changes too, so that it is shown."""
        return self.curve in ("headers", "body")


def points(smoke: bool) -> Iterator[Point]:
    """Yield the points to measure."""
    by_name = {case.name: case for case in CASES}
    noop, read_set, iterate, body = (by_name[name] for name in ("noop", "read-set", "iterate-set", "body"))
    for number in (0, 100) if smoke else HEADERS:
        yield Point("headers", "no-op", number, replace(noop, name=f"noop-{number}", headers=number))
        if number >= 2:  # it reads the second
            yield Point("headers", "read one, set one", number, replace(read_set, name=f"read-set-{number}", headers=number))
        counted = Rewrite(headers=[("x-bench", str(number))])
        yield Point("headers", "iterate, set one", number, replace(iterate, name=f"iterate-{number}", headers=number, reply=counted))
    for size in (1, MIB) if smoke else BODIES:
        yield Point("body", "read the body", size, replace(body, name=f"body-{size}", body_bytes=size))
    for number in (1, 100) if smoke else ROUTES:
        case = replace(noop, name=f"routes-{number}", routes=number)
        yield Point("routes", "no-op", number, case, warmup_calls=number + CONNECTIONS)  # each has run once
    for number in (0, 100) if smoke else IDLE:
        yield Point("idle", "no-op", number, replace(noop, name=f"idle-{number}"), idle=number, warmup_calls=100 * CONNECTIONS)


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Measure the curves in every mode. Each round measures all points, so that a disturbance does not affect only one curve."""
    rounds, seconds = min(scale.rounds, LONGEST.rounds), min(scale.seconds, LONGEST.seconds)
    ways = modes(wanted or (COMPILED, PURE))
    chosen = list(points(scale.smoke))
    figures: dict[tuple[Point, str], list[float]] = {}
    problems: dict[Point, str] = {}
    with scratch() as directory, ExitStack() as stack:
        running = {mode.name: stack.enter_context(runner(directory, mode)) for mode in ways}
        frames = {point: write_frames(point.case, directory) for point in chosen}
        for number in range(rounds):
            note(f"growth, round {number + 1} of {rounds}")
            for point in chosen:
                if point not in problems:
                    try:
                        for name, cpu_us in _at(point, frames[point], seconds, directory, running):
                            figures.setdefault((point, name), []).append(cpu_us)
                    except CannotMeasure as problem:
                        problems[point] = str(problem)
                        note(str(problem))
    return {
        "points": [
            {
                "curve": point.curve,
                "plugin": point.plugin,
                "at": point.at,
                "cpu_us": {name: spread(seen) for (other, name), seen in figures.items() if other is point},
                "problem": problems.get(point),
            }
            for point in chosen
        ]
    }


def _at(
    point: Point, frames: Frames, seconds: float, directory: Path, running: dict[str, tuple[Path, list[int]]]
) -> Iterator[tuple[str, float]]:
    """Yield the CPU time per call, in us, for the baseline and each mode."""
    if point.has_baseline:
        with echo(frames, directory) as (path, pids):
            yield "baseline", load(point.case, frames, path, pids, connections=point.connections, seconds=seconds / 2)["cpu_us_per_call"]
    for name, (path, pids) in running.items():
        seen = load(
            point.case,
            frames,
            path,
            pids,
            connections=point.connections,
            seconds=seconds,
            idle=point.idle,
            warmup_calls=point.warmup_calls,
        )
        yield name, seen["cpu_us_per_call"]


def _curves(result: dict[str, Any], curve: str) -> dict[str, dict[str, _Curve]]:
    """Return the points of a curve, by plugin and then by mode."""
    found: dict[str, dict[str, _Curve]] = {}
    for point in result["points"]:
        if point["curve"] == curve:
            for name, cpu_us in point["cpu_us"].items():
                found.setdefault(point["plugin"], {}).setdefault(name, []).append((point["at"], cpu_us))
    return found


def markdown(result: dict[str, Any]) -> str:
    """Return one table for each curve."""
    tables = []
    for curve, axis in AXES.items():
        curves = _curves(result, curve)
        columns = [(plugin, name) for plugin, by_mode in curves.items() for name in by_mode]
        rows = sorted({at for by_mode in curves.values() for points in by_mode.values() for at, _ in points})
        lines_ = [
            f"| {axis} |" + "".join(f" {plugin}, {name} |" for plugin, name in columns),
            "|---:|" + "---:|" * len(columns),
        ]
        for at in rows:
            cells = [dict(curves[plugin][name]).get(at) for plugin, name in columns]
            lines_.append(f"| {at:,} |" + "".join(f" {shown(cell, ' us')} |" if cell else " |" for cell in cells))
        tables.append("\n".join(lines_))
    return "\n\n".join(tables) + "\n\nCPU time per call, median and spread over the rounds."


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare the curves with the targets: some must be flat, and others may grow linearly."""
    found = []
    for curve in ("routes", "idle"):
        for by_mode in _curves(result, curve).values():
            for name, curve_points in _compiled(by_mode):
                ratio = curve_points[-1][1]["least"] / curve_points[0][1]["least"]
                what = f"{curve_points[-1][0]:,} {AXES[curve].split(',')[0]} next to {curve_points[0][0]:,}, {name}"
                found.append(Target(what, f"no more (<= {FLAT} x, for noise)", f"{ratio:.2f} x", ratio <= FLAT))
    for plugin, by_mode in _curves(result, "headers").items():
        for name, curve_points in _compiled(by_mode):
            found.append(_linear(plugin, name, curve_points))
    return found


def _compiled(by_mode: dict[str, _Curve]) -> Iterator[tuple[str, _Curve]]:
    """Yield the curve of the compiled runner, to which the targets apply."""
    if COMPILED in by_mode:
        yield COMPILED, by_mode[COMPILED]


def _linear(plugin: str, name: str, curve_points: _Curve) -> Target:
    """
    Compare the growth over the second half of the headers with that over the first. It must not be more than proportional.

    The minimum of the rounds is used, as in `targets`, because a disturbance only increases the time.
    """
    (first, low), (last, high) = curve_points[0], curve_points[-1]
    middle, mid = min(curve_points, key=lambda point: abs(point[0] - (first + last) / 2))
    if middle in (first, last):
        return Target(f"headers, {plugin}, {name}", "linear", "too few points", True)
    early, late = (mid["least"] - low["least"]) / (middle - first), (high["least"] - mid["least"]) / (last - middle)
    whole = (high["least"] - low["least"]) / (last - first)
    met = whole <= NOISE_US or late <= max(1.5 * early, early + NOISE_US)
    return Target(f"headers, {plugin}, {name}", "grows linearly", f"{whole:.3f} us a header", met)


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the four curves side by side: plugins by line style, modes by colour."""
    dashes = ("-", "--", ":")
    for axis, (curve, label) in zip(axes.flat, AXES.items(), strict=True):
        curves = _curves(result, curve)
        series, styles = {}, {}
        for number, (plugin, by_mode) in enumerate(curves.items()):
            for name, curve_points in by_mode.items():
                if name == "baseline" and number:
                    continue  # the echo's line is much the same for each plugin
                series[f"{plugin}, {name}"] = curve_points
                styles[f"{plugin}, {name}"] = {"color": COLOURS.get(name), "linestyle": dashes[number % 3]}
        if curve == "body":
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
        elif curve == "routes":
            axis.set_xscale("log")
        lines(axis, series, styles=styles)
        axis.set_xlabel(label)
        axis.set_ylabel("CPU time per call, us")
