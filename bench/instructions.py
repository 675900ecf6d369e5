# SPDX-License-Identifier: Apache-2.0
"""
Count instructions per call, without those of the kernel, with valgrind's callgrind.

One connection makes the calls one after the other. A dump of the worker's counters before and after gives the difference. The count of
the whole process includes timers, of which more run during a call if other processes use the machine. Therefore the instructions in the
connection handler, with everything that it calls, are also counted if the engine is compiled. They have almost no variance, but do not
include what the event loop calls itself: the steps of tasks, and timers.
"""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.caller import Caller
from bench.cases import CASES, SMOKE, Case
from bench.files import CannotMeasure
from bench.modes import COMPILED, PURE, Mode, modes
from bench.part import Scale, Target, note
from bench.processes import process_family, scratch, serving, start_command

WARMUP_CALLS = 200
"""Calls before counting starts: they build the chain and fill CPython's inline caches."""
CALLS = 500
HANDLER = "--toggle-collect=*ConnectionHandler*on_readable"
"""The option of callgrind that counts only in the connection handler. It is the name of a C function, so the engine must be compiled."""
START_TIMEOUT_S = 120.0
"""How long a runner may take to start under callgrind, in seconds. It is some fifty times slower there."""


def measure(scale: Scale, *, cases: Sequence[str] = (), wanted: Sequence[str] = ()) -> dict[str, Any]:
    """
    Count each case in every mode.

    Raises:
        CannotMeasure: valgrind is not installed, or a runner under it does not reply.
    """
    names = cases or (SMOKE if scale.smoke else [case.name for case in CASES])
    chosen = [case for case in CASES if case.name in names]
    ways = modes(wanted or (COMPILED, PURE))
    counted = count(chosen, ways)
    in_handler = count(chosen, [mode for mode in ways if mode.name == COMPILED], HANDLER)
    return {
        "rows": [
            {"case": case.name, "title": case.title, "modes": counted[case.name], "handler": in_handler[case.name].get(COMPILED)}
            for case in chosen
        ]
    }


def count(cases: Sequence[Case], ways: Sequence[Mode], *options: str) -> dict[str, dict[str, int]]:
    """
    Return the instructions per call of each case, by the case's name and then by the mode's.

    Args: options: further options of callgrind.
    Raises:
        CannotMeasure: valgrind is not installed, or a runner under it does not reply.
    """
    if not (shutil.which("valgrind") and shutil.which("callgrind_control")):
        raise CannotMeasure("Counting instructions needs valgrind with its tool callgrind (Debian: valgrind).")
    counted: dict[str, dict[str, int]] = {case.name: {} for case in cases}
    with scratch() as directory:
        for mode in ways:
            with counted_runner(directory, mode, *options) as (path, worker):
                for case in cases:
                    counted[case.name][mode.name] = _count(case, path, worker)
                    note(f"{case.title}, {mode.name}: {counted[case.name][mode.name]:,} instructions")
    return counted


def _count(case: Case, path: Path, worker: "Worker") -> int:
    caller = Caller(path, case.body())
    call = case.call(1, caller.prepare(case.prepare()))
    for _ in range(WARMUP_CALLS):
        caller.call(call)
    worker.instructions()
    for _ in range(CALLS):
        caller.call(call)
    caller.close()
    return round(sum(worker.instructions()) / CALLS)


class Worker:
    """
    A worker process under callgrind.

    Args:
        directory: where its dumps are written.
    """

    def __init__(self, pid: int, directory: Path) -> None:
        self._pid = pid
        self._directory = directory

    def instructions(self) -> list[int]:
        """
        Return how many instructions the process has executed since this was last called.

        With the option --separate-threads=yes of callgrind, these are the counts of each thread, the main thread's first.
        """
        known = set(self._dumps())
        command = ["callgrind_control", "--dump", str(self._pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        new = sorted(dump for dump in self._dumps() if dump not in known)
        found = [re.search(r"^totals: (\d+)", dump.read_text(encoding="utf-8", errors="replace"), re.MULTILINE) for dump in new]
        totals = [int(total[1]) for total in found if total is not None]
        if not totals:
            raise CannotMeasure(f"callgrind_control wrote no counters for process {self._pid}: {done.stdout}{done.stderr}")
        return totals

    def _dumps(self) -> list[Path]:
        return list(self._directory.glob(f"callgrind.{self._pid}.*"))


@contextmanager
def counted_runner(directory: Path, mode: Mode, *options: str) -> Iterator[tuple[Path, Worker]]:
    """Start a runner under callgrind with further options, and yield its socket and its worker."""
    path = directory / f"{mode.name}-counted.sock"
    # Without --trace-children, a forked process has no gdbserver, which callgrind_control talks to.
    valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={directory}/callgrind.%p"]
    command = [*valgrind, *options, *start_command(mode, path, workers=1, plugins=True)]
    with serving(command, path, mode.variables(), timeout_s=START_TIMEOUT_S, stop_with=signal.SIGINT) as process:
        yield path, Worker(process_family(process.pid, 2, START_TIMEOUT_S)[-1], directory)


def markdown(result: dict[str, Any]) -> str:
    """Return the rows as a table in Markdown."""
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["modes"]))
    has_handler = any(row.get("handler") for row in result["rows"])
    columns = [*names, *(["compiled, in the connection handler"] if has_handler else [])]
    lines = ["| instructions per call | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for row in result["rows"]:
        counts = [*(row["modes"].get(name, 0) for name in names), *([row.get("handler") or 0] if has_handler else [])]
        lines.append(f"| {row['title']} | " + " | ".join(f"{number:,}" for number in counts) + " |")
    return "\n".join(lines)


def targets(result: dict[str, Any]) -> list[Target]:
    """Return nothing: the targets are ratios of CPU time."""
    return []
