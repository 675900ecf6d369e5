# SPDX-License-Identifier: Apache-2.0
"""Tries a mutant: the tests of its module first, then those of its package, then those that use the package."""

import subprocess
import sys
import time
from pathlib import Path

from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import TestOutcome, WorkerOutcome

from tests.mutants.equivalent import Equivalents
from tests.mutants.outcome import Outcome
from tests.mutants.sample import Mutant

PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
USERS = {
    "wire": ["tests/fuzz", "tests/integration/test_bad_input.py"],
    "http": ["tests/testing", "tests/legacy", "tests/integration/test_calls.py"],
    "call": [
        "tests/testing",
        "tests/integration/test_calls.py",
        "tests/integration/test_stuck_plugins.py",
        "tests/integration/test_metrics.py",
    ],
    "plugin": [
        "tests/testing",
        "tests/cli",
        "tests/legacy",
        "tests/integration/test_reload.py",
        "tests/integration/test_forking_plugins.py",
    ],
    "worker": ["tests/integration"],
    "supervisor": ["tests/integration"],
}
"""Tests that use a package, beside its own."""
FACTOR, MARGIN_S, LONGEST_S = 3.0, 20.0, 600.0
"""A mutant may take so many times as long as the sources, and so many seconds more. After that it counts as noticed."""


class Trial:
    """
    Runs tests on mutants.

    Args:
        checkout: the copy whose modules are changed.
    """

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._longest_s: dict[tuple[str, ...], float | None] = {}

    def run(self, mutant: Mutant, equivalents: Equivalents) -> Outcome:
        """Try a mutant until a test fails."""
        diff = ""
        for tests in self._rounds(mutant):
            longest_s = self._time_limit_s(tests)
            if longest_s is None:
                continue
            result = mutate_and_test([mutant.spec], _command(tests), longest_s)
            diff = result.diff or diff
            if result.worker_outcome != WorkerOutcome.NORMAL or result.test_outcome == TestOutcome.INCOMPETENT:
                return Outcome(mutant, "not applicable", "", diff)
            if result.test_outcome == TestOutcome.KILLED:
                failed = next((line for line in (result.output or "").splitlines() if line.startswith(("FAILED", "ERROR"))), "")
                return Outcome(mutant, "timeout" if result.output == "timeout" else "noticed", failed or " ".join(tests), diff)
        reason = equivalents.reason(diff)
        return Outcome(mutant, "equivalent" if reason else "survived", reason or "", diff)

    def _rounds(self, mutant: Mutant) -> list[tuple[str, ...]]:
        own = [
            str(path.relative_to(self._checkout))
            for path in (self._checkout / "tests" / mutant.package).rglob(f"test_{mutant.module.stem}.py")
        ]
        package = f"tests/{mutant.package}"
        users = [path for path in USERS[mutant.package] if (self._checkout / path).exists()]
        return [tests for tests in (tuple(own), (package,), tuple(users)) if tests]

    def _time_limit_s(self, tests: tuple[str, ...]) -> float | None:
        """Return how long these tests may take, None if they fail on the sources as they are."""
        if tests not in self._longest_s:
            began = time.monotonic()
            done = subprocess.run([*PYTEST, *tests], capture_output=True, text=True, timeout=LONGEST_S, check=False)
            took_s = time.monotonic() - began
            if done.returncode:
                print(f"left out, because they fail without a mutant: {' '.join(tests)}\n{done.stdout[-1000:]}", flush=True)
            self._longest_s[tests] = None if done.returncode else FACTOR * took_s + MARGIN_S
        return self._longest_s[tests]


def _command(tests: tuple[str, ...]) -> str:
    return " ".join([*PYTEST, *tests])
