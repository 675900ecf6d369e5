# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench` runs every part for a short time, and `python -m bench all` measures the figures of docs/internals/performance.md.

`python -m bench gateway` measures through a gateway, and has its own options.
"""

import argparse
import inspect
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from bench import build, gateway, growth, instructions, latency, memory, peers, recording, report, start, store, table, tracing, workers
from bench.cases import CASES
from bench.files import CannotMeasure, compile_programs
from bench.machine import in_words, machine
from bench.modes import COMPILED, PURE
from bench.part import FULL, SMOKE, Scale, note

PARTS: dict[str, ModuleType] = {
    "table": table,
    "instructions": instructions,
    "growth": growth,
    "workers": workers,
    "recording": recording,
    "tracing": tracing,
    "store": store,
    "latency": latency,
    "memory": memory,
    "start": start,
    "build": build,
}


def main() -> int:
    """Run the parts that the arguments select, and return the exit status."""
    if platform.system() != "Linux":
        print("The benchmark needs Linux: epoll, /proc and processes pinned to cores.", file=sys.stderr)
        return 2
    if sys.argv[1:2] == ["gateway"]:
        return gateway.main(sys.argv[2:])
    options = _parser().parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        note("There is one core, which server and load generator share: only the ratios of CPU time mean something.")
    everything = options.parts == ["all"]
    smoke = options.smoke or not (options.parts or options.case or options.peer)
    chosen = options.parts or (["table"] if options.case or options.peer else list(PARTS))
    names = list(report.PARTS) if everything else chosen
    scale = _scale(options, SMOKE if smoke else FULL)
    write = (everything or options.write) and not smoke
    try:
        compile_programs()
    except CannotMeasure as problem:
        print(problem, file=sys.stderr)
        return 1
    failed = [name for name in names if not _run(name, scale, options, write)]
    if write:
        report.write_page()
        note(f"written: {report.RESULTS}, {report.PAGE}")
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def _parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {name:<13} {_first_sentence(part)}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the runner. Without arguments: every part for a short time, to see that it works.",
        epilog=f"parts:\n{parts}\n\n{peers.help_text()}\n`python -m bench gateway --help` is about measuring through a gateway.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        choices=["all", *PARTS, []],
        help="all (the parts of the performance page), or some of those below",
    )
    parser.add_argument("--smoke", action="store_true", help="measure the named parts for a short time")
    parser.add_argument("--rounds", type=int, help=f"how often everything is measured, in turn (default {FULL.rounds})")
    parser.add_argument("--seconds", type=float, help=f"how long each measurement takes (default {FULL.seconds:g})")
    parser.add_argument("--mode", action="append", choices=[COMPILED, PURE], help="only this mode; may be repeated")
    parser.add_argument(
        "--case",
        action="append",
        metavar="NAME",
        choices=[case.name for case in CASES],
        help="of the table, only this case; may be repeated",
    )
    parser.add_argument("--connections", action="append", type=int, metavar="N", help="of the table, only this number; may be repeated")
    parser.add_argument(
        "--peer",
        action="append",
        type=peers.argument,
        metavar="NAME=COMMAND",
        help="of the table: measure another runner too; may be repeated",
    )
    parser.add_argument("--write", action="store_true", help="write results, charts and page, as `all` does")
    return parser


def _scale(options: argparse.Namespace, default: Scale) -> Scale:
    return replace(default, rounds=options.rounds or default.rounds, seconds=options.seconds or default.seconds)


def _run(name: str, scale: Scale, options: argparse.Namespace, write: bool) -> bool:
    """Measure one part, print it, and write it if `write`. Return True if all of it could be measured."""
    part = PARTS[name]
    known = inspect.signature(part.measure).parameters
    given = {
        "wanted": options.mode or (),
        "cases": options.case or (),
        "connections": options.connections or (),
        "others": options.peer or (),
    }
    described, began_s = machine(), time.monotonic()
    try:
        result = part.measure(scale, **{key: value for key, value in given.items() if key in known and value})
    except (CannotMeasure, OSError, subprocess.SubprocessError) as problem:  # the other parts are measured all the same
        print(f"{name}: {problem}", file=sys.stderr)
        return False
    took_s = time.monotonic() - began_s
    print(f"\n## {name}\n\n{part.markdown(result)}")
    missed = [target for target in part.targets(result) if not target.met]
    if missed and not scale.smoke:
        print("\nmissed:\n" + "\n".join(f"- {target.what}: {target.measured}, target {target.limit}" for target in missed))
    print(f"\n{in_words(described)}; {took_s:.0f} s")
    if write and name in report.PARTS:
        described |= {"rounds": scale.rounds, "seconds": scale.seconds, "took_s": round(took_s)}
        report.write_result(name, result, described, _command())
    return not any(row.get("problem") for row in _rows(result))


def _rows(result: dict[str, Any]) -> Sequence[dict[str, Any]]:
    return [*result.get("rows", ()), *result.get("points", ())]


def _command() -> str:
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])


def _first_sentence(part: ModuleType) -> str:
    return " ".join((part.__doc__ or "").split()).partition(".")[0].partition(":")[0]


if __name__ == "__main__":
    sys.exit(main())
