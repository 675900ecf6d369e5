# SPDX-License-Identifier: Apache-2.0
"""Cause one fault under load, and judge the results of the load."""

import time
from dataclasses import dataclass

from tests.soak.faults import Fault
from tests.soak.load import Failure, Seen
from tests.soak.stage import Load, Stage, stage


@dataclass(frozen=True)
class Verdict:
    """
    The result of one fault.

    Attributes:
        elsewhere: the calls that failed although the process of their connection had not ended.
        faults: descriptions of the defects; empty if there are none.
    """

    fault: Fault
    seen: Seen
    elsewhere: list[Failure]
    notes: list[str]
    faults: list[str]

    def row(self) -> str:
        """Return the row of the table."""
        counts = self.seen.counts
        cells = [
            self.fault.title,
            f"{counts.get('calls', 0):,}",
            *(str(counts.get(how, 0)) for how in ("lost", "wrong", "refused", "unconnected")),
            str(len(self.elsewhere)),
            f"{self.seen.longest_gap_s * 1000:,.0f} ms",
            f"{self.seen.longest_wait_s * 1000:,.0f} ms",
        ]
        return "| " + " | ".join(cells) + " |"


HEADER = (
    "| what happens | calls | lost | wrong | refused (503) | nobody listened | failed elsewhere | longest gap | longest wait |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def judge(fault: Fault, *others: Fault, pace_s: float = 2.0) -> Verdict:
    """
    Start the load, wait `pace_s` seconds, cause the fault, and wait `pace_s` seconds again. Repeat this with `others` on the same stage.
    """
    with stage(fault.arguments, fault.environ, small_disk=fault.name == "disk") as ours:
        load = Load(ours.path)
        try:
            time.sleep(pace_s)
            for act in (fault.act, *(other.act for other in others)):
                act(ours, pace_s)
                time.sleep(pace_s)
            seen = load.end()
        finally:
            load.kill()
        return _judge(fault, seen, ours)


def _judge(fault: Fault, seen: Seen, ours: Stage) -> Verdict:
    # If a connection has had no reply, its process is unknown. If any process has ended, it is assumed to be that one.
    excused = ours.ended | ({0} if ours.ended else set())
    elsewhere = [failure for failure in seen.failures if failure.pid not in excused and failure.how != "unconnected"]
    faults = []
    if seen.counts.get("wrong"):
        faults.append("a reply was wrong")
    if fault.name not in TOKENS_MAY_BE_MISSED and elsewhere:
        faults.append("calls failed on connections that no ended process held")
    if fault.nothing_lost and seen.failures:
        faults.append("a rolling restart must not lose a call")
    if not seen.counts.get("answered"):
        faults.append("nothing was answered")
    if "Traceback" in ours.runner.log() or "defect of the runner" in ours.runner.log():
        faults.append("there is a traceback in the log")
    return Verdict(fault, seen, elsewhere, ours.notes, faults)


TOKENS_MAY_BE_MISSED = frozenset({"disk"})
"""A token that could not be written is known to one worker only, and the gateway gives up after three tries."""
