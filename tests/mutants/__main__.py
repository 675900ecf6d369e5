# SPDX-License-Identifier: Apache-2.0
"""
`python -m tests.mutants`: change the runner at random places, one at a time, and report the changes that no test notices.

Cosmic Ray lists the mutants, applies them and runs the tests. It cannot draw a sample or choose the tests by the mutated module, so this
module does. It works in a copy of the checkout, on the sources: compiled modules are not there.
"""

import argparse
import sys
import time

from tests.mutants.checkout import copied_checkout
from tests.mutants.equivalent import Equivalents
from tests.mutants.outcome import Outcome, summary
from tests.mutants.sample import PACKAGES, draw
from tests.mutants.trial import Trial

SAMPLE, SEED, LIMIT = 200, 1, 0.03
MINUTES = 120.0


def main() -> int:
    """Draw a sample, try its mutants, print the survivors, and return 1 if too many of them survived."""
    options = _parser().parse_args()
    equivalents = Equivalents.load()
    deadline = time.monotonic() + 60 * options.minutes
    outcomes: list[Outcome] = []
    with copied_checkout() as checkout:
        chosen = draw(checkout, options.package or PACKAGES, options.sample, options.seed)[options.skip :]
        trial = Trial(checkout, options.quick)
        for number, mutant in enumerate(chosen, start=1):
            if time.monotonic() > deadline:
                print(f"stopped after {options.minutes:g} minutes: {len(chosen) - number + 1} mutants were not tried", flush=True)
                break
            outcome = trial.run(mutant, equivalents)
            outcomes.append(outcome)
            print(f"{number}/{len(chosen)} {outcome.line()}", flush=True)
    print(summary(outcomes))
    survivors = sum(outcome.survived for outcome in outcomes)
    return int(survivors > LIMIT * len(outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, help="how many mutants to try (default %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample (default %(default)s)")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many mutants of the sample, to continue a run")
    parser.add_argument("--package", action="append", choices=PACKAGES, help="only this package of the runner; may be repeated")
    parser.add_argument("--quick", action="store_true", help="run only the tests of the mutated package, not those that use it")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="stop after this time (default %(default)g)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
