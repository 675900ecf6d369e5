# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.report`: write charts, and the tables of docs/performance.md, from bench/results/*.json.

On the page, what stands between `<!-- bench: NAME -->` and `<!-- end: NAME -->` is generated; all else is written by hand.
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
PAGE = HERE.parent / "docs" / "performance.md"

PARTS = ("table", "growth", "workers", "latency", "memory", "start", "build")
_SIZES = {
    "table": (9, 8),
    "growth": (10, 8),
    "workers": (5, 3),
    "latency": (9, 4.5),
    "memory": (9, 3.5),
    "start": (9, 3.5),
    "build": (5, 3),
}
_BLOCK = re.compile(r"(<!-- bench: ([a-z]+) -->\n).*?(<!-- end: \2 -->\n)", re.DOTALL)


def main() -> int:
    """Write what there are results for. Returns: the exit code."""
    write_page()
    return 0


def write_result(name: str, result: dict[str, Any], described: dict[str, Any], command: str) -> None:
    """Write the results file of a part, and its chart."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "machine": described, "result": result}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_page() -> None:
    """Draw the charts and fill the page in."""
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name in PARTS if (file := RESULTS / f"{name}.json").exists()}
    charts = {name for name, each in found.items() if _chart(name, each["result"])}
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(lambda block: block[1] + _block(block[2], found, charts) + block[3], text), encoding="utf-8")


def _chart(name: str, result: dict[str, Any]) -> bool:
    part = importlib.import_module(f"bench.{name}")
    path = RESULTS / f"{name}.svg"
    columns, rows = (2, 2) if name == "growth" else (1, 1)
    if not write_svg(path, _SIZES[name], lambda axes: part.draw(result, axes), columns=columns, rows=rows):
        note("no charts: matplotlib is not installed (pip install --group bench)")
        return path.exists()
    return True


def _block(name: str, found: dict[str, Any], charts: set[str]) -> str:
    if name == "targets":
        return _targets(found)
    if name not in found:
        return "Not measured yet.\n"
    each = found[name]
    part: Any = importlib.import_module(f"bench.{name}")
    machine = each["machine"]
    chart = f"![{name}](../bench/results/{name}.svg)\n\n" if name in charts else ""
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
    return f"{len(met)} of {len(targets)} are met.\n\n" + "\n".join(
        [*_listed("missed", "**missed**", missed), "", *_listed("met", "met", met), ""]
    )


def _listed(head: str, word: str, targets: Sequence[Target]) -> list[str]:
    rows = [f"| {target.what} | {target.limit} | {target.measured} | {word} |" for target in targets]
    return [f"| {head} | target | measured | |", "|---|---:|---:|---|", *rows] if rows else []


if __name__ == "__main__":
    sys.exit(main())
