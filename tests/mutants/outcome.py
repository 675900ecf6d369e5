# SPDX-License-Identifier: Apache-2.0
"""The outcome of a mutant."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.mutants.sample import Mutant


@dataclass(frozen=True)
class Outcome:
    """
    The outcome of a mutant.

    Attributes:
        word: noticed, timeout, survived, equivalent, or not applicable.
        detail: the test that noticed it, or why it is equivalent.
        diff: what was changed.
    """

    mutant: Mutant
    word: str
    detail: str
    diff: str

    @property
    def survived(self) -> bool:
        """True if no test noticed the mutant although it changes the behaviour."""
        return self.word == "survived"

    def line(self) -> str:
        """Return the outcome as one line."""
        spec = self.mutant.spec
        return f"{self.word}: {spec.module_path}:{spec.start_pos[0]} {spec.operator_name} {self.detail}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the survivors with their changes, and the counts."""
    counts = Counter(outcome.word for outcome in outcomes)
    parts = [f"\n{outcome.line()}\n{outcome.diff}" for outcome in outcomes if outcome.survived]
    tried = len(outcomes) - counts["not applicable"]
    share = f", {counts['survived'] / tried:.1%} survived" if tried else ""
    return "\n".join([*parts, f"\n{tried} mutants: " + ", ".join(f"{count} {word}" for word, count in counts.most_common()) + share])
