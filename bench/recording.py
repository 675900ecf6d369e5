# SPDX-License-Identifier: Apache-2.0
"""
What recording costs: all calls, and 1 % of them, compared with no recording.

The runner is busy all the time, so the throughput is in inverse proportion to its processor time per call, of all its threads. That is
what is compared, because other work on the machine disturbs it less than the throughput itself.

Closed loop of 16 connections. The runner has one core, and the load another one. At full load, not all calls can be recorded. The others
are counted. What a runner has still to write after a round is waited for, so that it does not disturb the next one.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cases import CASES
from bench.charts import COLOURS
from bench.files import write_frames
from bench.modes import COMPILED, PURE, Mode, modes
from bench.part import Scale, Target, note, shown, spread
from bench.processes import load, runner, scratch

CASE = next(case for case in CASES if case.name == "read-set")
CONNECTIONS = 16
SAMPLES = {"off": None, "everything": 1.0, "1 %": 0.01}
LIMITS = {"everything": 0.15, "1 %": 0.02}
"""How much of the throughput recording may take."""
IDLE_S = 0.3
"""A runner that has written nothing for so long has written everything, in seconds."""


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Measure a runner that does not record, one that records everything, and one that records a sample, in turn."""
    found: dict[str, dict[str, Any]] = {}
    for mode in modes(wanted or (COMPILED, PURE))[: None if wanted else 1]:
        rates: dict[str, list[float]] = {name: [] for name in SAMPLES}
        cpu: dict[str, list[float]] = {name: [] for name in SAMPLES}
        recorded: dict[str, list[float]] = {name: [] for name in SAMPLES}
        with scratch() as directory, ExitStack() as stack:
            running = {}
            for number, (name, sample) in enumerate(SAMPLES.items()):
                own = directory / str(number)
                own.mkdir()
                running[name] = own / "calls.jsonl", stack.enter_context(runner(own, _recording(mode, own / "calls.jsonl", sample)))
            frames = write_frames(CASE, directory)
            for _round in range(scale.rounds):
                for name, (file, (path, pids)) in running.items():
                    before = _lines(file)
                    seen = load(CASE, frames, path, pids, connections=CONNECTIONS, seconds=scale.seconds)
                    rates[name].append(seen["calls_per_s"])
                    cpu[name].append(seen["cpu_us_per_call"])
                    recorded[name].append(max(0, _lines(file) - before))
                    _wait_until_written(file)
        found[mode.name] = {
            name: {
                "calls_per_s": spread(rates[name]),
                "us_per_call": spread(cpu[name]),
                "lost": spread([1 - off / each for each, off in zip(cpu[name], cpu["off"], strict=True)]),
                "recorded": spread(recorded[name]),
            }
            for name in SAMPLES
        }
        lost = {name: f"{found[mode.name][name]['lost']['median']:.1%}" for name in LIMITS}
        note(f"recording, {mode.name}: {lost} of the throughput")
    return {"connections": CONNECTIONS, "seconds": scale.seconds, "modes": found}


def _recording(mode: Mode, file: Path, sample: float | None) -> Mode:
    if sample is None:
        return mode
    variables = {"APISIX_RUNNER_RECORD_FILE": str(file), "APISIX_RUNNER_RECORD_SAMPLE": str(sample)}
    return replace(mode, environment={**mode.environment, **variables})


def _wait_until_written(file: Path) -> None:
    lines = -1
    while lines != (lines := _lines(file)):
        time.sleep(IDLE_S)


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    rows = [
        "| mode | recording | calls/s | CPU time per call, us | throughput lost | lines written in a round |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for mode, found in result["modes"].items():
        for name, row in found.items():
            lost = f"{row['lost']['median']:.1%} ({row['lost']['least']:.1%} to {row['lost']['greatest']:.1%})" if name in LIMITS else ""
            written = f"{row['recorded']['median']:,.0f}" if name in LIMITS else ""
            cells = [mode, name, shown(row["calls_per_s"], "", 0), shown(row["us_per_call"]), lost, written]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare with the targets."""
    return [
        Target(f"recording {name}, {mode}", f"<= {limit:.0%} of the throughput", f"{lost:.1%}", lost <= limit)
        for mode, found in result["modes"].items()
        for name, limit in LIMITS.items()
        for lost in [found[name]["lost"]["median"]]
    ]


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the throughput of each."""
    for number, (mode, found) in enumerate(result["modes"].items()):
        rates = [row["calls_per_s"]["median"] for row in found.values()]
        axes.bar([place + 0.4 * number for place in range(len(rates))], rates, 0.35, color=COLOURS.get(mode), label=mode)
    axes.set_xticks(range(len(SAMPLES)), list(SAMPLES))
    axes.set_ylabel("calls a second")
    axes.legend(fontsize="small")
