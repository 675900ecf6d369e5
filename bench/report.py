# SPDX-License-Identifier: Apache-2.0
"""What the figures look like: a table on the terminal, a JSON file, and a chart where matplotlib is installed."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.files import HERE
from bench.run import Row

RESULTS = HERE / "results"


def machine() -> dict[str, Any]:
    """Describe where the figures come from."""
    model = next((line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": metadata.version("uvloop"),
        "greenlet": metadata.version("greenlet"),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    by_case = {row.case.name: row for row in rows}
    lines = [
        "| case | connections | floor | runner | ratio (min to max) | target | Go | calls/s | p50 | p99 | core |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row.problem:
            lines.append(f"| {row.case.title} | {row.connections} | not measured: {row.problem.splitlines()[0]} |")
            continue
        seen = row.as_json()
        floor, ours = seen["floor"], seen["runner"]
        lines.append(
            f"| {row.case.title} | {row.connections} | {floor['cpu_us_per_call']:.1f} us | {ours['cpu_us_per_call']:.1f} us "
            f"| **{row.ratio:.2f}** ({seen['ratio_min']:.2f} to {seen['ratio_max']:.2f}) | {_target(row, by_case)} | {row.case.go or ''} "
            f"| {ours['calls_per_s']:,.0f} | {ours['p50_us']:.0f} us | {ours['p99_us']:.0f} us | {ours['core_share']:.0%} |"
        )
    return "\n".join(lines)


def _target(row: Row, by_case: dict[str, Row]) -> str:
    """Return the target, for a twin as a multiple of the new-style plugin's figure in the same run."""
    if row.case.twin is None:
        return f"<= {row.case.target}" if row.case.target else ""
    twin = by_case.get(row.case.twin)
    if twin is None or not twin.ratios:
        return "<= 1.3 x of the new style"
    return f"{row.ratio / twin.ratio:.2f} of <= 1.3 x"


def write_json(rows: Sequence[Row], path: Path, **more: Any) -> None:
    """Write the results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **more, "rows": [row.as_json() for row in rows]}, indent=1) + "\n")


def write_chart(rows: Sequence[Row], path: Path) -> bool:
    """Draw the ratios as an SVG and return True, or return False where matplotlib is not installed."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib import pyplot as plt
    except ImportError:
        return False
    mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
    measured = [row for row in rows if row.ratios]
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(measured) + 1.4), layout="constrained")
    places = range(len(measured))
    spread = [
        [row.ratio - min(row.ratios) for row in measured],
        [max(row.ratios) - row.ratio for row in measured],
    ]
    axes.barh(
        places, [row.ratio for row in measured], xerr=spread, color="#4b8bbe", ecolor="#333333", label="Python runner, median and spread"
    )
    for values, style, label in (
        ([row.case.target for row in measured], {"marker": "|", "color": "#d62728", "s": 180, "linewidth": 2}, "target"),
        ([row.case.go for row in measured], {"marker": "D", "color": "#555555", "s": 22}, "Go runner (design, 9)"),
    ):
        known = [(place, value) for place, value in zip(places, values, strict=True) if value]
        if known:
            axes.scatter([value for _, value in known], [place for place, _ in known], label=label, zorder=3, **style)
    axes.axvline(1, color="#999999", linestyle=":", linewidth=1)
    axes.set_yticks(places, [row.case.title for row in measured])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("CPU time per call, as a multiple of a C epoll echo in the same run")
    axes.legend(loc="lower right", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE, check=False)  # noqa: S607 -- on PATH
    return done.stdout.strip()
