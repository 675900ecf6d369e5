# SPDX-License-Identifier: Apache-2.0
"""
What recording takes from the throughput of a worker that is busy all the time: recording of all calls, and of 1 % of them.

Calls with and without recording are compared in one process, in turn (`recorded_calls.py`), because the throughput of two processes
differs by more than the targets on a machine that does other work too. The calls become longer, and the thread that makes the records uses
a part of the processor. Both are subtracted from the throughput.

At full load, not all calls can be recorded. The others are counted. The queue of the recorder is full before the measurement begins, as it
is at lasting load.
"""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from bench.charts import COLOURS
from bench.files import HERE, CannotMeasure
from bench.modes import COMPILED, PURE, Mode, modes
from bench.part import Scale, Target, note, shown, spread

SAMPLES = {"everything": "1", "1 %": "0.01"}
LIMITS = {"everything": 0.15, "1 %": 0.02}
"""How much of the throughput recording may take."""
SECONDS = 5.0
"""How long a round takes at full scale, for each second of the scale."""


def measure(scale: Scale, *, wanted: Sequence[str] = ()) -> dict[str, Any]:
    """
    Measure recording of everything and of a sample.

    Raises: CannotMeasure: a process that measures has failed.
    """
    seconds = scale.seconds * (1.0 if scale.smoke else SECONDS)
    found: dict[str, dict[str, Any]] = {}
    for mode in modes(wanted or (COMPILED, PURE))[: None if wanted else 1]:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SAMPLES}
        for _ in range(scale.rounds):
            for name, sample in SAMPLES.items():
                rounds[name].append(_round(mode, sample, seconds))
        found[mode.name] = {
            name: {key: spread([values[key] for values in each]) for key in each[0]}
            | {"lost": spread([1 - (1 - values["thread"]) / (1 + values["longer"]) for values in each])}
            for name, each in rounds.items()
        }
        lost = {name: f"{row['lost']['median']:.1%}" for name, row in found[mode.name].items()}
        note(f"recording, {mode.name}: {lost} of the throughput")
    return {"seconds": seconds, "modes": found}


def _round(mode: Mode, sample: str, seconds: float) -> dict[str, float]:
    command = [mode.python, "-m", "bench.recorded_calls", sample, str(seconds)]
    done = subprocess.run(command, env=mode.variables(), cwd=HERE.parent, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        raise CannotMeasure(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def markdown(result: dict[str, Any]) -> str:
    """Return a table."""
    rows = [
        "| mode | recording | a call without, us | longer with it | thread, of a core | throughput lost | lines written a second |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for mode, found in result["modes"].items():
        for name, row in found.items():
            lost = f"{row['lost']['median']:.1%} ({row['lost']['least']:.1%} to {row['lost']['greatest']:.1%})"
            shares = [f"{row[key]['median']:.1%}" for key in ("longer", "thread")]
            cells = [mode, name, shown(row["off_us"]), *shares, lost, f"{row['written_per_s']['median']:,.0f}"]
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
    """Draw the part of the throughput that each takes."""
    for number, (mode, found) in enumerate(result["modes"].items()):
        lost = [100 * row["lost"]["median"] for row in found.values()]
        axes.bar([place + 0.4 * number for place in range(len(lost))], lost, 0.35, color=COLOURS.get(mode), label=mode)
    axes.set_xticks(range(len(SAMPLES)), list(SAMPLES))
    axes.set_ylabel("throughput lost, %")
    axes.legend(fontsize="small")
