# SPDX-License-Identifier: Apache-2.0
"""
The table: processor time per call, as a multiple of a C epoll echo that answers the same frames.

Floor, compiled, pure, floor, compiled, pure, ...: all of them see the machine in the same moods, and each round has its own ratios.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.cases import CASES, SMOKE, Case
from bench.charts import bars
from bench.files import CannotMeasure, write_frames
from bench.modes import COMPILED, PURE, Mode, modes, newer_python
from bench.part import Scale, Target, note, spread
from bench.processes import echo, load, runner, scratch

CONNECTIONS = 16
ALL_CONNECTIONS = (1, 16, 64)
TWIN_LIMIT = 1.3
PURE_LIMITED = ("noop", "read-set", "stop", "body")
"""The cases whose pure Python has a target: to cost no more than the Go runner."""

Rounds = dict[str, list[dict[str, Any]]]


def measure(scale: Scale, *, cases: Sequence[str] = (), connections: Sequence[int] = (), wanted: Sequence[str] = ()) -> dict[str, Any]:
    """
    Measure each case and return one row for each, in every mode.

    A case that can't be measured says so in its row, and the others are measured all the same.
    """
    names = cases or (SMOKE if scale.smoke else [case.name for case in CASES])
    chosen = [
        (case, number)
        for case in CASES
        if case.name in names
        for number in (connections or (ALL_CONNECTIONS if not scale.smoke and case.name == "noop" and not cases else (CONNECTIONS,)))
    ]
    ways = modes(wanted or (COMPILED, PURE))
    newer = newer_python() if "async-noop" in names else None
    rows = []
    with scratch() as directory, ExitStack() as stack:
        running = {mode.name: stack.enter_context(runner(directory, mode)) for mode in ([*ways, newer] if newer else ways)}
        for case, number in chosen:
            seen: Rounds = {"floor": []}
            problem = None
            measured = [*ways, newer] if newer and case.name in ("noop", "async-noop") else ways
            try:
                _rounds(case, number, scale, directory, measured, running, seen)
            except CannotMeasure as error:
                problem = str(error)
            rows.append(_row(case, number, seen, problem))
            note(f"{case.title}, {number} connections: {problem or _in_short(rows[-1])}")
    return {"rows": rows}


def _rounds(
    case: Case,
    connections: int,
    scale: Scale,
    directory: Path,
    ways: Sequence[Mode],
    running: dict[str, tuple[Path, list[int]]],
    seen: Rounds,
) -> None:
    frames = write_frames(case, directory)
    for _ in range(scale.rounds):
        with echo(frames, directory) as (path, pids):
            seen["floor"].append(load(case, frames, path, pids, connections=connections, seconds=scale.seconds))
        for mode in ways:
            path, pids = running[mode.name]
            seen.setdefault(mode.name, []).append(load(case, frames, path, pids, connections=connections, seconds=scale.seconds))


def _row(case: Case, connections: int, seen: Rounds, problem: str | None) -> dict[str, Any]:
    floor = [each["cpu_us_per_call"] for each in seen["floor"]]
    ratios = {
        name: spread([ours["cpu_us_per_call"] / theirs for ours, theirs in zip(rounds, floor, strict=False)])
        for name, rounds in seen.items()
        if name != "floor"
    }
    return {
        "case": case.name,
        "title": case.title,
        "target": case.target,
        "go": case.go,
        "twin": case.twin,
        "connections": connections,
        "floor": medians(seen["floor"]),
        "modes": {name: medians(seen[name]) | {"ratio": ratios[name]} for name in ratios},
        "problem": problem,
    }


def medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the rounds of what the load generator printed."""
    if not rounds:
        return {}
    result: dict[str, Any] = {name: round(median(seen[name] for seen in rounds), 3) for name in ("cpu_us_per_call", "calls_per_s")}
    # Far below 1, someone else used the core too: CPU time is then dearer (cold caches), and latency and throughput say little.
    result["core_share"] = round(median(seen["cpu_us_per_call"] * seen["calls_per_s"] / 1e6 for seen in rounds), 2)
    return result | {f"{name}_us": round(median(seen["latency_us"][name] for seen in rounds), 1) for name in rounds[0]["latency_us"]}


def _in_short(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {mode['ratio']['median']:.2f} x" for name, mode in row["modes"].items())


def markdown(result: dict[str, Any]) -> str:
    """Return the rows as a table in Markdown."""
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["modes"] if name in (COMPILED, PURE)))
    head = "".join(f" {name} | ratio (least to greatest) |" for name in names)
    lines = [
        f"| case | connections | floor |{head} target | Go | calls/s | p50 | p99 | core |",
        "|---|---:|---:|" + "---:|---:|" * len(names) + "---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        if row["problem"]:
            lines.append(f"| {row['title']} | {row['connections']} | not measured: {row['problem'].splitlines()[0]} |")
            continue
        first = row["modes"][names[0]]
        cells = "".join(f" {_cpu(row['modes'][name])} | {_ratio(row['modes'][name])} |" for name in names)
        lines.append(
            f"| {row['title']} | {row['connections']} | {row['floor']['cpu_us_per_call']:.1f} us |{cells} {_target(result, row)} "
            f"| {row['go'] or ''} | {first['calls_per_s']:,.0f} | {first['p50_us']:.0f} us | {first['p99_us']:.0f} us "
            f"| {first['core_share']:.0%} |"
        )
    newer = [
        f"On {name}: {row['title']} {_cpu(mode)}, {_ratio(mode)} times the floor."
        for row in result["rows"]
        for name, mode in row["modes"].items()
        if name not in (COMPILED, PURE) and row["connections"] == CONNECTIONS
    ]
    return "\n".join(lines) + ("\n\n" + "\n".join(newer) if newer else "")


def _cpu(mode: dict[str, Any]) -> str:
    return f"{mode['cpu_us_per_call']:.1f} us"


def _ratio(mode: dict[str, Any]) -> str:
    ratio = mode["ratio"]
    return f"**{ratio['median']:.2f}** ({ratio['least']:.2f} to {ratio['greatest']:.2f})"


def _target(result: dict[str, Any], row: dict[str, Any]) -> str:
    """Return the target, for a twin as a multiple of the new-style plugin's figure in the same run."""
    if row["twin"] is None:
        return f"<= {row['target']}" if row["target"] else ""
    ratios = [f"{ratio:.2f}" for ratio in twin_ratios(result, row).values()]
    return f"{' and '.join(ratios)} of <= {TWIN_LIMIT} x" if ratios else f"<= {TWIN_LIMIT} x of the new style"


def twin_ratios(result: dict[str, Any], row: dict[str, Any]) -> dict[str, float]:
    """Return, by mode, what an older generation's plugin costs as a multiple of the new-style one."""
    twin = next((each for each in result["rows"] if each["case"] == row["twin"] and each["connections"] == row["connections"]), None)
    if twin is None:
        return {}
    return {
        name: mode["ratio"]["median"] / twin["modes"][name]["ratio"]["median"]
        for name, mode in row["modes"].items()
        if name in twin["modes"] and twin["modes"][name]["ratio"]["median"]
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare the rows with what the runner set out to reach."""
    found = []
    for row in result["rows"]:
        if row["problem"] or row["connections"] != CONNECTIONS:
            continue
        for name, mode in row["modes"].items():
            ratio = mode["ratio"]["median"]
            title = f"{row['title']}, {name}"
            if row["case"] == "async-noop":
                if "Python" in name:
                    found.append(Target(title, f"<= {row['target']} x the floor", f"{ratio:.2f} x", ratio <= row["target"]))
            elif name == COMPILED and row["target"]:
                found.append(Target(title, f"<= {row['target']} x the floor", f"{ratio:.2f} x", ratio <= row["target"]))
            elif name == PURE and row["case"] in PURE_LIMITED:
                found.append(Target(title, f"<= {row['go']} x the floor (Go)", f"{ratio:.2f} x", ratio <= row["go"]))
        if row["twin"]:
            for name, ratio in twin_ratios(result, row).items():
                found.append(Target(f"{row['title']}, {name}", f"<= {TWIN_LIMIT} x the new style", f"{ratio:.2f} x", ratio <= TWIN_LIMIT))
    return found


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the ratios as bars."""
    rows = [row for row in result["rows"] if not row["problem"] and row["connections"] == CONNECTIONS]
    bars(
        axes,
        [row["title"] for row in rows],
        {name: [row["modes"].get(name, {}).get("ratio") for row in rows] for name in (COMPILED, PURE)},
        {"target": [row["target"] for row in rows], "Go runner (design, 9)": [row["go"] for row in rows]},
    )
    axes.axvline(1, color="#999999", linestyle=":", linewidth=1)
    axes.set_xlabel("CPU time per call, as a multiple of a C epoll echo in the same round")
