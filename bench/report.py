# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.report`: write charts, and the tables of docs/internals/performance.md, from bench/results/*.json.

On the page, the text between `<!-- bench: NAME -->` and `<!-- end: NAME -->` is generated; all else is written by hand.
"""

import importlib
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from bench.charts import write_svg
from bench.files import HERE
from bench.machine import in_words
from bench.part import Target, note

RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "internals" / "performance.md"

BUSY = 0.7
"""A load average, before a part begins, from which on others disturb it."""

PARTS = ("table", "growth", "workers", "recording", "tracing", "store", "latency", "memory", "start", "build")
_SIZES = {
    "table": (9, 8),
    "growth": (10, 8),
    "workers": (5, 3),
    "recording": (6, 3),
    "tracing": (6, 3),
    "store": (9, 4),
    "latency": (9, 4.5),
    "memory": (9, 3.5),
    "start": (9, 3.5),
    "build": (5, 3),
}
_BLOCK = re.compile(r"(<!-- bench: ([a-z]+) -->\n).*?(<!-- end: \2 -->\n)", re.DOTALL)


def main() -> int:
    """Write everything for which there are results. Returns: the exit code."""
    write_page()
    return 0


def write_result(name: str, result: dict[str, Any], described: dict[str, Any], command: str) -> None:
    """Write the results file of a part, and its chart."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "machine": described, "result": result}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_page() -> None:
    """Draw the charts and update the page."""
    drawn = [_draw(name, each["result"]) for name, each in results().items()]
    if not all(drawn):
        note("no charts: matplotlib is not installed (pip install --group bench)")
    PAGE.write_text(filled_in(PAGE.read_text(encoding="utf-8"), results()), encoding="utf-8")


def results() -> dict[str, Any]:
    """Return the content of the results files, by part."""
    return {name: json.loads(file.read_text(encoding="utf-8")) for name in PARTS if (file := RESULTS / f"{name}.json").exists()}


def filled_in(page: str, found: dict[str, Any]) -> str:
    """Return the page with the parts that are generated from these results."""
    return _BLOCK.sub(lambda block: block[1] + _block(block[2], found) + block[3], page)


def _draw(name: str, result: dict[str, Any]) -> bool:
    part = importlib.import_module(f"bench.{name}")
    columns, rows = (2, 2) if name == "growth" else (1, 1)
    return write_svg(RESULTS / f"{name}.svg", _SIZES[name], lambda axes: part.draw(result, axes), columns=columns, rows=rows)


def _block(name: str, found: dict[str, Any]) -> str:
    if name == "targets":
        return _targets(found)
    if name not in found:
        return "Not measured yet.\n"
    each = found[name]
    part: Any = importlib.import_module(f"bench.{name}")
    machine = each["machine"]
    chart = f"![{name}](../../bench/results/{name}.svg)\n\n" if (RESULTS / f"{name}.svg").exists() else ""
    return (
        f"`{each['command']}`: {machine['rounds']} rounds of {machine['seconds']:g} s, {machine['took_s'] / 60:.0f} minutes; "
        f"{in_words(machine)}.\n\n{part.markdown(each['result'])}\n\n{chart}"
    )


def _targets(found: dict[str, Any]) -> str:
    targets: list[Target] = []
    for name, each in found.items():
        targets += importlib.import_module(f"bench.{name}").targets(each["result"])
    missed = [target for target in targets if not target.met]
    met = [target for target in targets if target.met]
    loads = [each["machine"]["load_before"] for each in found.values()]
    busy = ""
    if max(loads, default=0) >= BUSY:
        busy = (
            f"**Other work shared the machine** (load average {min(loads)} to {max(loads)} when the parts began), so these figures are too "
            "high, latency and throughput most of all. "
        )
    return f"{busy}{len(met)} of {len(targets)} are met.\n\n" + "\n".join(
        [*_listed("missed", "**missed**", missed), "", *_listed("met", "met", met), ""]
    )


def _listed(head: str, word: str, targets: Sequence[Target]) -> list[str]:
    rows = [f"| {target.what} | {target.limit} | {target.measured} | {word} |" for target in targets]
    return [f"| {head} | target | measured | |", "|---|---:|---:|---|", *rows] if rows else []


if __name__ == "__main__":
    sys.exit(main())
