# SPDX-License-Identifier: Apache-2.0
"""Run the table: floor, runner, floor, runner, ... so that both see the machine in the same moods."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.cases import Case
from bench.files import CannotMeasure, Frames, write_frames
from bench.processes import echo, load, runner, scratch


@dataclass
class Row:
    """What was measured of one case: one number a round."""

    case: Case
    connections: int
    floor: list[dict[str, Any]] = field(default_factory=list)
    runner: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    @property
    def ratio(self) -> float:
        """The runner's CPU time as a multiple of the floor's, each round for itself."""
        return median(self.ratios) if self.ratios else float("nan")

    @property
    def ratios(self) -> list[float]:
        """One ratio for each round."""
        return [ours["cpu_us_per_call"] / theirs["cpu_us_per_call"] for ours, theirs in zip(self.runner, self.floor, strict=False)]

    def as_json(self) -> dict[str, Any]:
        """Return what the results file holds."""
        return {
            "case": self.case.name,
            "title": self.case.title,
            "target": self.case.target,
            "go": self.case.go,
            "twin": self.case.twin,
            "connections": self.connections,
            "ratio": round(self.ratio, 3),
            "ratio_min": round(min(self.ratios, default=float("nan")), 3),
            "ratio_max": round(max(self.ratios, default=float("nan")), 3),
            "floor": _medians(self.floor),
            "runner": _medians(self.runner),
            "rounds": len(self.ratios),
            "problem": self.problem,
        }


def _medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return the medians over the rounds of what the load generator printed."""
    if not rounds:
        return {}
    result = {name: round(median(seen[name] for seen in rounds), 3) for name in ("cpu_us_per_call", "calls_per_s")}
    # Far below 1, someone else used the core too: CPU time is then dearer (cold caches), and latency and throughput say little.
    result["core_share"] = round(median(seen["cpu_us_per_call"] * seen["calls_per_s"] / 1e6 for seen in rounds), 2)
    result |= {f"{name}_us": round(median(seen["latency_us"][name] for seen in rounds), 1) for name in rounds[0]["latency_us"]}
    return result


def run_table(
    cases: Iterable[tuple[Case, int]],
    *,
    rounds: int,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    note: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> list[Row]:
    """
    Measure each case with its number of connections, and return the rows.

    A case that can't be measured says so in its row, and the others are measured all the same.
    """
    rows = [Row(case, connections) for case, connections in cases]
    with scratch() as directory, runner(directory, environment=environment) as (path, pids):
        frames = {row.case.name: write_frames(row.case, directory) for row in rows}
        for number in range(rounds):
            for row in rows:
                if row.problem is None:
                    _measure(row, frames[row.case.name], directory, path, pids, seconds)
                    outcome = row.problem or f"{row.ratios[-1]:.2f} x"
                    note(f"round {number + 1}/{rounds}  {row.case.title}, {row.connections} connections: {outcome}")
    return rows


def _measure(row: Row, frames: Frames, directory: Path, path: Path, pids: list[int], seconds: float) -> None:
    try:
        with echo(frames, directory) as (echo_path, echo_pids):
            floor = load(row.case, frames, echo_path, echo_pids, connections=row.connections, seconds=seconds)
        ours = load(row.case, frames, path, pids, connections=row.connections, seconds=seconds)
    except CannotMeasure as problem:
        row.problem = str(problem)
        return
    row.floor.append(floor)
    row.runner.append(ours)
