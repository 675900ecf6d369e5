# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.path_edits`: measure an edit of path or arguments, with and without the info request that it may need."""

import json
import os
import sys
import time
from pathlib import Path
from statistics import median

from apisix.runner.wire.messages import PrepareConfReq
from bench.caller import Caller
from bench.cases import CASES, Case
from bench.modes import Mode
from bench.processes import cores, runner, scratch

CALLS = 10_000
ROUNDS = 5
EDITS = {"an argument": "argument", "a path with %": "/catalogue%2Fitems", "a path without %": "/catalogue/all items"}
ASKS, FIRST = Mode("asks"), Mode("first", environment={"APISIX_RUNNER_PLUGINS_PRE_REQ_FIRST": "true"})


def main() -> int:
    """Print a table in Markdown."""
    os.sched_setaffinity(0, cores()[1])
    print("| edit in ext-plugin-pre-req | setting | info requests | CPU time of the worker | time of a call |")
    print("|---|---|---:|---:|---:|")
    for what, edit in EDITS.items():
        for mode in (ASKS, FIRST):
            rounds = [_round(mode, edit) for _ in range(ROUNDS)]
            cpu_us, call_us = (median(values) for values in zip(*rounds, strict=True))
            asks = int(mode is ASKS and what != "a path without %")
            setting = "pre_req_first" if mode is FIRST else "default"
            print(f"| {what} | {setting} | {asks} | {cpu_us:.1f} us | {call_us:.1f} us |", flush=True)
    return 0


def _round(mode: Mode, edit: str) -> tuple[float, float]:
    """Return the worker's CPU time and the time of a call, in microseconds."""
    case: Case = CASES[0]
    with scratch() as directory, runner(directory, mode) as (path, pids):
        caller = Caller(path, b"")
        token = caller.prepare(PrepareConfReq([("bench-edit-path", json.dumps({"edit": edit}))], "route#1#ext-plugin-pre-req#1"))
        call = case.call(1, token)
        for _ in range(CALLS // 10):
            caller.call(call)
        began_s, cpu_s = time.perf_counter(), _cpu_s(pids)
        for _ in range(CALLS):
            caller.call(call)
        took = (_cpu_s(pids) - cpu_s, time.perf_counter() - began_s)
        caller.close()
    return took[0] / CALLS * 1e6, took[1] / CALLS * 1e6


def _cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
