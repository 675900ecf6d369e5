# SPDX-License-Identifier: Apache-2.0
"""
Long runs, one command each: `python -m tests.soak faults`, `take-over`, `restarts`, `metadata`, `increments`, `overload`,
`endurance`.

Each prints what docs/internals/reliability.md shows, and exits with 1 if a target was missed.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from tests.soak import endurance, increments, metadata, overload, restarts, take_over
from tests.soak.faults import FAULTS
from tests.soak.verdict import HEADER, judge


def faults(options: argparse.Namespace) -> bool:
    """Cause the faults one after the other, and print the table."""
    chosen = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    verdicts = []
    print(HEADER)
    for fault in chosen:
        verdicts.append(judge(fault, pace_s=options.pace))
        print(verdicts[-1].row(), flush=True)
    print()
    for verdict in verdicts:
        for note in verdict.notes:
            print(f"- {verdict.fault.title}: {note}")
        others = {what: count for what, count in verdict.seen.counts.items() if what in ("token unknown", "idle connection closed")}
        if others:
            print(f"- {verdict.fault.title}: " + ", ".join(f"{what} {count}" for what, count in sorted(others.items())))
        for failure in verdict.seen.failures[:5]:
            print(f"  {verdict.fault.name}: {failure}")
        for wrong in verdict.faults:
            print(f"- MISSED: {verdict.fault.title}: {wrong}")
    return not any(verdict.faults for verdict in verdicts)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    words = parser.add_subparsers(required=True)

    def word(name: str, run: Callable[[argparse.Namespace], bool], **options: Any) -> argparse.ArgumentParser:
        added = words.add_parser(name, help=run.__doc__, **options)
        added.set_defaults(run=run)
        return added

    parser_of_faults = word("faults", faults)
    parser_of_faults.add_argument("--only", nargs="*", choices=[fault.name for fault in FAULTS])
    parser_of_faults.add_argument("--pace", type=float, default=2.0, help="seconds of peace between two steps")
    word("take-over", lambda options: take_over.run(options.rounds)).add_argument("--rounds", type=int, default=100)
    parser_of_restarts = word("restarts", lambda options: restarts.run(options.rounds, options.rate))
    parser_of_restarts.add_argument("--rounds", type=int, default=50)
    parser_of_restarts.add_argument("--rate", type=float, default=500.0, help="calls a second")
    parser_of_metadata = word("metadata", lambda options: metadata.run(options.requests, options.flood))
    parser_of_metadata.add_argument("--requests", type=int, default=10_000)
    parser_of_metadata.add_argument("--flood", type=int, default=40_000, help="requests without a response phase")
    parser_of_increments = word("increments", lambda options: increments.run(options.count, options.kill_every))
    parser_of_increments.add_argument("--count", type=int, default=10_000_000)
    parser_of_increments.add_argument("--kill-every", type=float, default=1.0, help="seconds between two kills")
    word("overload", lambda options: overload.run(options.calls)).add_argument("--calls", type=int, default=10_000)
    parser_of_endurance = word("endurance", lambda options: endurance.run(options.seconds, options.reload_every))
    parser_of_endurance.add_argument("--seconds", type=float, default=600.0)
    parser_of_endurance.add_argument("--reload-every", type=float, default=20.0, help="0 for never")
    options = parser.parse_args()
    return 0 if options.run(options) else 1


if __name__ == "__main__":
    sys.exit(main())
