# SPDX-License-Identifier: Apache-2.0
"""Latency with 64 connections that all call: the 99th percentile compared with the median."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bench.cases import CASES
from bench.charts import bars
from bench.files import CannotMeasure, write_frames
from bench.modes import COMPILED, PURE, modes
from bench.part import Scale, Target, note, shown, spread
from bench.processes import load, runner, scratch

CONNECTIONS = 64
TARGET = 3.0
_PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
_SMOKE = ("noop", "read-set")
_CASES = ("noop", "read-set", "stop", "body", "iterate-set", "async-noop", "chain", "response")


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Measure the cases in every mode, in turn."""
    names = _SMOKE if scale.smoke else _CASES
    chosen = [case for case in CASES if case.name in names]
    rows = []
    with scratch() as directory, ExitStack() as stack:
        running = {mode.name: stack.enter_context(runner(directory, mode)) for mode in modes(wanted or (COMPILED, PURE))}
        for case in chosen:
            frames = write_frames(case, directory)
            seen: dict[str, list[dict[str, float]]] = {name: [] for name in running}
            problem = None
            try:
                for _ in range(scale.rounds):
                    for name, (path, pids) in running.items():
                        got = load(case, frames, path, pids, connections=CONNECTIONS, seconds=scale.seconds)
                        seen[name].append(got["latency_us"] | {"core": got["cpu_us_per_call"] * got["calls_per_s"] / 1e6})
            except CannotMeasure as error:
                problem = str(error)
            found: dict[str, dict[str, Any]] = {
                name: {
                    "ratio": spread([each["p99"] / each["p50"] for each in rounds]),
                    "latency_us": {which: spread([each[which] for each in rounds]) for which in _PERCENTILES},
                    "core": spread([each["core"] for each in rounds]),
                }
                for name, rounds in seen.items()
                if rounds
            }
            rows.append({"case": case.name, "title": case.title, "modes": found, "problem": problem})
            in_short = ", ".join(f"{name} {mode['ratio']['median']:.2f} x" for name, mode in found.items())
            note(f"latency, {case.title}: {problem or in_short}")
    return {"connections": CONNECTIONS, "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    lines = ["| case | mode | p50 | p90 | p99 | p99.9 | longest | p99 as a multiple of p50 | core |", "|---|---|" + "---:|" * 7]
    for row in result["rows"]:
        for name, mode in row["modes"].items():
            cells = "".join(f" {mode['latency_us'][which]['median']:,.0f} us |" for which in _PERCENTILES)
            lines.append(f"| {row['title']} | {name} |{cells} {shown(mode['ratio'], '', 2)} | {mode['core']['median']:.0%} |")
    return "\n".join(lines)


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare with the target."""
    found = []
    for row in result["rows"]:
        if COMPILED in row["modes"]:
            name, ratio = COMPILED, row["modes"][COMPILED]["ratio"]["median"]
            what = f"p99 at {result['connections']} connections, {row['title']}, {name}"
            found.append(Target(what, f"<= {TARGET} x the median", f"{ratio:.2f} x", ratio <= TARGET))
    return found


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the ratios."""
    rows = result["rows"]
    bars(
        axes,
        [row["title"] for row in rows],
        {name: [row["modes"].get(name, {}).get("ratio") for row in rows] for name in (COMPILED, PURE)},
        {"target": [TARGET for _ in rows]},
    )
    axes.set_xlabel(f"99th percentile at {result['connections']} connections, as a multiple of the median")
