# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: some seconds by default, the whole table with --full. See docs/performance.md."""

import argparse
import os
import platform
import sys
from pathlib import Path

from bench.cases import CASES, SMOKE, Case
from bench.files import CannotMeasure, compile_programs
from bench.report import RESULTS, machine, table, write_chart, write_json
from bench.run import run_table

CONNECTIONS = 16
ALL_CONNECTIONS = (1, 16, 64)
FULL_ROUNDS, FULL_SECONDS = 5, 2.0
SMOKE_ROUNDS, SMOKE_SECONDS = 1, 0.4


def main() -> int:
    """Run what the arguments say and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the runner's CPU time per call against a C epoll echo.")
    parser.add_argument("--full", action="store_true", help="the whole table, with results file and chart (some minutes)")
    parser.add_argument(
        "--case", action="append", metavar="NAME", choices=[case.name for case in CASES], help="only this case; may be repeated"
    )
    parser.add_argument("--connections", action="append", type=int, metavar="N", help=f"default {CONNECTIONS}; may be repeated")
    parser.add_argument("--rounds", type=int, help=f"how often floor and runner alternate (default {SMOKE_ROUNDS}, --full: {FULL_ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"how long each is measured (default {SMOKE_SECONDS}, --full: {FULL_SECONDS:g})")
    parser.add_argument(
        "--out", type=Path, help=f"write the results to this file (--full: {RESULTS.name}/table.json), and a chart beside it"
    )
    options = parser.parse_args()
    if platform.system() != "Linux":
        print("The benchmark needs Linux: epoll, /proc and processes pinned to cores.", file=sys.stderr)
        return 2
    if len(os.sched_getaffinity(0)) < 2:
        print("note: with one core, server and load take it from each other; only the ratios of CPU time mean something", file=sys.stderr)
    names = options.case or ([case.name for case in CASES] if options.full else SMOKE)
    chosen = [(case, connections) for case in CASES if case.name in names for connections in _connections(case, options)]
    rounds = options.rounds or (FULL_ROUNDS if options.full else SMOKE_ROUNDS)
    seconds = options.seconds or (FULL_SECONDS if options.full else SMOKE_SECONDS)
    out = options.out or (RESULTS / "table.json" if options.full else None)
    try:
        compile_programs()
        rows = run_table(chosen, rounds=rounds, seconds=seconds)
    except CannotMeasure as problem:
        print(problem, file=sys.stderr)
        return 1
    print(table(rows))
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine().items()))
    if out is not None:
        write_json(rows, out, rounds=rounds, seconds=seconds, command="python -m bench " + " ".join(sys.argv[1:]))
        if not write_chart([row for row in rows if row.connections == CONNECTIONS], out.with_suffix(".svg")):
            print("no chart: matplotlib is not installed", file=sys.stderr)
    for row in rows:
        if row.problem:
            print(row.problem, file=sys.stderr)
    return any(row.problem for row in rows)


def _connections(case: Case, options: argparse.Namespace) -> tuple[int, ...]:
    """Return the numbers of connections to measure `case` with: in the whole table, the no-op shows all three."""
    if options.connections:
        return tuple(options.connections)
    return ALL_CONNECTIONS if options.full and case.name == "noop" else (CONNECTIONS,)


if __name__ == "__main__":
    sys.exit(main())
