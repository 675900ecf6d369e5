# SPDX-License-Identifier: Apache-2.0
"""Run at full speed for a long time, with reloads, and show what grows."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from apisix.runner.wire.messages import HTTPReqCallResp, Stop
from tests.soak.stage import Load, Stage, stage
from tests.soak.waiting import wait_until

SETTLED_S = 10.0
"""How long the load runs before the figures "before" are taken: caches fill, arenas are reserved."""


@dataclass(frozen=True)
class Figures:
    """
    Resources of one process that could leak. Greenlets and objects are 0 for the supervisor, which runs no plugin that could count them.
    """

    memory_mib: float
    threads: int
    descriptors: int
    greenlets: int = 0
    objects: int = 0


def of_process(pid: int, census: dict[str, int] | None = None) -> Figures:
    """Read the figures of a process, including those that its own plugin has counted."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    counted = census or {}
    return Figures(
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(os.listdir(f"/proc/{pid}/task")),
        len(os.listdir(f"/proc/{pid}/fd")),
        counted.get("greenlets", 0),
        counted.get("objects", 0),
    )


def take(ours: Stage) -> dict[str, Figures]:
    """Return the figures of supervisor and workers, in the order of their pids, which is the order of their age."""
    pids = sorted(ours.workers())
    censuses: dict[int, dict[str, int]] = {}

    def ask() -> bool:
        reply, _ = ours.call("census")
        if isinstance(reply, HTTPReqCallResp) and isinstance(reply.action, Stop):
            census = json.loads(bytes(reply.action.body))
            censuses[census["pid"]] = census
        return set(pids) <= set(censuses)

    wait_until(ask, 30, "each worker has counted")
    workers = {f"worker {number}": of_process(pid, censuses[pid]) for number, pid in enumerate(pids, 1)}
    return {"supervisor": of_process(ours.runner.process.pid), **workers}


def run(seconds: float, reload_every_s: float, *, say: Callable[[str], None] = print) -> bool:
    """
    Run at full speed, and reload every `reload_every_s` seconds (0: never). Return True if no reply was lost or wrong, and nothing grew
    by 10 %.
    """
    with stage(["--workers", "2"]) as ours:
        load = Load(ours.path, rate=0, connections=32, churn=5000)
        try:
            time.sleep(SETTLED_S)
            reloads = 0
            if reload_every_s:
                _reload(ours)  # figures of workers are compared with those of workers of the same age
                time.sleep(min(SETTLED_S, reload_every_s / 2))
            before = take(ours)
            ends_s = time.monotonic() + seconds
            while (left_s := ends_s - time.monotonic()) > 0:
                time.sleep(min(left_s, reload_every_s or left_s))
                if reload_every_s and time.monotonic() < ends_s:
                    _reload(ours)
                    reloads += 1
            if reload_every_s:
                _reload(ours)
                reloads += 1
                time.sleep(min(SETTLED_S, reload_every_s / 2))
            after = take(ours)
            seen = load.end()
            time.sleep(1)
            idle = take(ours)
            log = ours.runner.log()
        finally:
            load.kill()
    counts = seen.counts
    say(
        f"{seen.seconds:.0f} s, {reloads} reloads, {counts['calls']:,} calls ({counts['calls'] / seen.seconds:,.0f}/s), "
        + _failures(counts)
    )
    say(f"longest gap {seen.longest_gap_s * 1000:.0f} ms, longest wait on one connection {seen.longest_wait_s * 1000:.0f} ms\n")
    names = [field.name for field in fields(Figures)]
    say("| process | | " + " | ".join(name.replace("_", " ").replace("mib", "(MiB)") for name in names) + " |")
    say("|---|---|" + "---:|" * len(names))
    for process in before:
        for when, figures in (("before", before), ("after", after), ("after, idle", idle)):
            values = [getattr(figures[process], name) for name in names]
            say(
                f"| {process} | {when} | "
                + " | ".join(f"{value:.1f}" if isinstance(value, float) else f"{value:,}" for value in values)
                + " |"
            )
    marked = sorted(set(re.findall(r"plugin ([a-z-]+) blocked all calls", log)))
    say(f"\nplugins that were taken for blocking: {', '.join(marked) or 'none'}")
    grown = [process for process in before if after[process].memory_mib > 1.1 * before[process].memory_mib]
    if grown:
        say(f"\nMISSED: memory grew by more than 10 %: {', '.join(grown)}")
    return not grown and not any(counts.get(how) for how in ("lost", "wrong", "refused", "unconnected"))


def _reload(ours: Stage) -> None:
    before = set(ours.workers())
    ours.runner.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(ours.workers()) == 2 and not before & set(ours.workers()), 30, "new workers after a reload")


def _failures(counts: dict[str, int]) -> str:
    return ", ".join(f"{how} {counts.get(how, 0)}" for how in ("lost", "wrong", "refused", "unconnected"))
