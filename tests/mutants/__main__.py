# SPDX-License-Identifier: Apache-2.0
"""
`python -m tests.mutants`: change the runner at random places, one at a time, and report the changes that no test notices.

Cosmic Ray lists the mutants and applies them. It cannot draw a sample or choose the tests that run the changed line, so these modules do.
They use copies of the checkout without compiled modules.
"""

import argparse
import queue
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.checkout import copied_checkouts
from tests.mutants.choice import choose_tests
from tests.mutants.equivalent import Equivalents
from tests.mutants.outcome import Outcome, summary
from tests.mutants.record import recorded
from tests.mutants.sample import PACKAGES, Mutant, draw
from tests.mutants.trial import try_mutant

SAMPLE, SEED, LIMIT = 200, 1, 0.03
MINUTES = 120.0
PARALLEL = 2
GIVEN_TESTS_S = 60.0

Choose = Callable[[Mutant], tuple[list[str], float]]


def main() -> int:
    """Draw a sample, test its mutants, print the survivors, and return 1 if too many survived."""
    options = _parser().parse_args()
    with copied_checkouts(options.parallel) as checkouts:
        drawn = draw(checkouts[0], options.package or PACKAGES, options.sample, options.seed)
        numbered = list(enumerate(drawn, start=1))[options.skip :]
        if options.number:
            numbered = [(number, mutant) for number, mutant in numbered if number in options.number]
        choose: Choose = lambda _: (options.tests, GIVEN_TESTS_S)  # noqa: E731
        if not options.tests:
            record = recorded(checkouts[0], options.parallel)
            sources = {mutant.module: mutant.module.read_text(encoding="utf-8") for mutant in drawn}

            def choose(mutant: Mutant) -> tuple[list[str], float]:
                tests = choose_tests(mutant, sources[mutant.module], record)
                return tests, sum(record.durations_s[test] for test in tests)

        outcomes = _try_all(checkouts, numbered, choose, 60 * options.minutes)
    print(summary(outcomes))
    survivors = sum(outcome.survived for outcome in outcomes)
    return int(survivors > LIMIT * len(outcomes))


def _try_all(checkouts: list[Path], numbered: list[tuple[int, Mutant]], choose: Choose, limit_s: float) -> list[Outcome]:
    equivalents = Equivalents.load()
    deadline = time.monotonic() + limit_s
    free: queue.Queue[Path] = queue.Queue()
    for checkout in checkouts:
        free.put(checkout)

    def attempt(number: int, mutant: Mutant) -> Outcome | None:
        if time.monotonic() > deadline:
            return None
        checkout = free.get()
        began = time.monotonic()
        try:
            outcome = try_mutant(checkout, mutant, *choose(mutant), equivalents)
        finally:
            free.put(checkout)
        print(f"{number}: {outcome.line()} ({time.monotonic() - began:.0f} s)", flush=True)
        return outcome

    with ThreadPoolExecutor(len(checkouts)) as executor:
        outcomes = [outcome for outcome in executor.map(lambda one: attempt(*one), numbered) if outcome is not None]
    if len(outcomes) < len(numbered):
        print(f"stopped after {limit_s / 60:g} minutes: {len(numbered) - len(outcomes)} mutants were not tried", flush=True)
    return outcomes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, help="how many mutants to draw (default %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample (default %(default)s)")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many mutants of the sample, to continue a run")
    parser.add_argument("--number", type=int, action="append", help="try only this mutant of the sample; may be repeated")
    parser.add_argument("--package", action="append", choices=PACKAGES, help="only this package of the runner; may be repeated")
    parser.add_argument(
        "--tests", action="append", help="run this file, folder or test instead of those that run the changed line; may be repeated"
    )
    parser.add_argument("--parallel", type=int, default=PARALLEL, help="how many mutants to try at the same time (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="stop after this time (default %(default)g)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
