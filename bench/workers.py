# SPDX-License-Identifier: Apache-2.0
"""
The effect of a second worker, for a plugin that computes for 200 us.

Closed loop of 16 connections, and a load that sleeps while it waits. No process is pinned, because two workers need both cores, and the
load, which takes a few per cent of one core, must share them in both measurements.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bench.cases import Case
from bench.charts import COLOURS
from bench.files import write_frames
from bench.modes import COMPILED, PURE, modes
from bench.part import Scale, Target, note, shown, spread
from bench.processes import load, runner, scratch

BURN = Case("burn", "compute for 200 us", [("bench-burn", "")])
WORKERS = (1, 2)
CONNECTIONS = 16
TARGET = 1.8


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """Measure one worker and two, in turn."""
    everywhere = set(os.sched_getaffinity(0))
    found: dict[str, dict[str, Any]] = {}
    for mode in modes(wanted or (COMPILED, PURE))[: None if wanted else 1]:
        seen: dict[int, list[dict[str, Any]]] = {count: [] for count in WORKERS}
        with scratch() as directory, ExitStack() as stack:
            running = {count: stack.enter_context(runner(directory, mode, workers=count, on=everywhere)) for count in WORKERS}
            frames = write_frames(BURN, directory)
            for _round in range(scale.rounds):
                for count, (path, pids) in running.items():
                    seen[count].append(
                        load(
                            BURN,
                            frames,
                            path,
                            pids,
                            connections=CONNECTIONS,
                            seconds=scale.seconds,
                            sleeping=True,
                            on=everywhere,
                        )
                    )
        gains = [two["calls_per_s"] / one["calls_per_s"] for one, two in zip(seen[1], seen[2], strict=True)]
        found[mode.name] = {
            "gain": spread(gains),
            "calls_per_s": {str(count): spread([each["calls_per_s"] for each in seen[count]]) for count in WORKERS},
            "load_share": {
                str(count): spread([each["load_us_per_call"] * each["calls_per_s"] / 1e6 for each in seen[count]]) for count in WORKERS
            },
        }
        note(f"workers, {mode.name}: two serve {found[mode.name]['gain']['median']:.2f} times what one serves")
    return {"cores": len(everywhere), "connections": CONNECTIONS, "modes": found}


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    rows = ["| mode | workers | calls/s | core that the load takes | two next to one |", "|---|---:|---:|---:|---:|"]
    for name, mode in result["modes"].items():
        for count, calls_per_s in mode["calls_per_s"].items():
            gain = shown(mode["gain"], " x", 2) if count == "2" else ""
            rows.append(f"| {name} | {count} | {shown(calls_per_s, '', 0)} | {mode['load_share'][count]['median']:.0%} | {gain} |")
    return "\n".join(rows)


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare with the target."""
    return [
        Target(f"two workers next to one, 200 us of computing, {name}", f">= {TARGET} x", f"{gain:.2f} x", gain >= TARGET)
        for name, mode in result["modes"].items()
        for gain in [mode["gain"]["median"]]
    ]


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the throughput of one worker and of two."""
    for number, (name, mode) in enumerate(result["modes"].items()):
        found = list(mode["calls_per_s"].values())
        axes.bar(
            [place + 0.4 * number for place in range(len(found))],
            [each["median"] for each in found],
            0.35,
            yerr=[[each["median"] - each["least"] for each in found], [each["greatest"] - each["median"] for each in found]],
            color=COLOURS.get(name),
            label=name,
        )
    axes.set_xticks(range(len(WORKERS)), ["one worker", "two workers"])
    axes.set_ylabel("calls a second")
    axes.legend(fontsize="small")
