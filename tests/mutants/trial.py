# SPDX-License-Identifier: Apache-2.0
"""Tries a mutant: the tests of its module first, then those of its package, then those that use the package."""

import json
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_item import TestOutcome, WorkerOutcome

from tests.mutants.equivalent import Equivalents
from tests.mutants.outcome import Outcome
from tests.mutants.sample import Mutant

PYTEST = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no"]
USERS = {
    "wire": ["integration/test_fuzz.py", "integration/test_bad_input.py"],
    "http": ["testing", "legacy", "integration/test_calls.py"],
    "call": ["testing", "integration/test_calls.py", "integration/test_stuck_plugins.py", "integration/test_metrics.py"],
    "plugin": ["testing", "cli", "legacy", "integration/test_reload.py", "integration/test_forking_plugins.py"],
    "legacy": ["testing", "plugin"],
    "worker": ["integration/test_calls.py", "integration/test_stop.py", "integration/test_stuck_plugins.py", "integration/test_metrics.py"],
    "supervisor": ["integration/test_supervisor.py", "integration/test_restart.py", "integration/test_stop.py"],
}
"""Tests that use a package, beside its own."""
FACTOR, MARGIN_S, LONGEST_S = 3.0, 20.0, 60.0
"""
With a mutant, tests may take `FACTOR` times as long as without, and `MARGIN_S` seconds more, but never longer than `LONGEST_S` seconds.
After that the mutant counts as noticed.
"""


class Trial:
    """
    Runs tests on mutants.

    Args:
        checkout: the copy whose modules are changed.
        quick: run only the tests of the mutated package.
    """

    def __init__(self, checkout: Path, quick: bool) -> None:
        self._checkout = checkout
        self._quick = quick
        self._options: dict[str, _Options | None] = {}

    def run(self, mutant: Mutant, equivalents: Equivalents) -> Outcome:
        """Try a mutant until a test fails."""
        diff = ""
        for tests in self._rounds(mutant):
            options = self._options_for(tests)
            if options is None:
                continue
            result = mutate_and_test([mutant.spec], shlex.join([*PYTEST, *options.arguments, tests]), options.limit_s)
            diff = result.diff or diff
            if result.worker_outcome != WorkerOutcome.NORMAL or result.test_outcome == TestOutcome.INCOMPETENT:
                return Outcome(mutant, "not applicable", "", diff)
            if result.test_outcome == TestOutcome.KILLED:
                failed = next((line for line in (result.output or "").splitlines() if line.startswith(("FAILED", "ERROR"))), "")
                return Outcome(mutant, "timeout" if result.output == "timeout" else "noticed", failed or tests, diff)
        reason = equivalents.reason(diff)
        return Outcome(mutant, "equivalent" if reason else "survived", reason or "", diff)

    def _rounds(self, mutant: Mutant) -> list[str]:
        tests = self._checkout / "tests"
        own = (tests / mutant.package).rglob(f"test_{mutant.module.stem}.py")
        users = [] if self._quick else [tests / name for name in USERS[mutant.package]]
        return [str(path.relative_to(self._checkout)) for path in (*own, tests / mutant.package, *users) if path.exists()]

    def _options_for(self, tests: str) -> "_Options | None":
        """Return how to run some tests, None if they can't be run. Those of a module are tried without a mutant with their package."""
        is_integration = tests.startswith("tests/integration/")
        tried = tests if is_integration else "/".join(Path(tests).parts[:2])
        if tried not in self._options:
            self._options[tried] = _options(tried)
        return self._options[tried]


@dataclass(frozen=True)
class _Options:
    """How to run tests on a mutant: with which arguments, and for how long."""

    arguments: tuple[str, ...]
    limit_s: float


def _options(tests: str) -> _Options | None:
    """Run tests without a mutant, and return options that leave out those which fail. None if they can't be run."""
    with tempfile.TemporaryDirectory() as cache:
        began = time.monotonic()
        try:
            done = subprocess.run([*PYTEST, "-o", f"cache_dir={cache}", tests], capture_output=True, timeout=LONGEST_S, check=False)
        except subprocess.TimeoutExpired:
            print(f"left out, because it takes longer than {LONGEST_S:g} s: {tests}", flush=True)
            return None
        took_s = time.monotonic() - began
        last_failed = Path(cache) / "v" / "cache" / "lastfailed"
        failed = sorted(json.loads(last_failed.read_text(encoding="utf-8"))) if last_failed.exists() else []
    if done.returncode and (done.returncode != pytest.ExitCode.TESTS_FAILED or not failed):
        print(f"left out, because pytest returns {done.returncode} without a mutant: {tests}", flush=True)
        return None
    for test in failed:
        print(f"left out, because it fails without a mutant: {test}", flush=True)
    deselected = [f"--deselect={test}" for test in failed]
    return _Options(("-x", "-p", "no:cacheprovider", *deselected), min(FACTOR * took_s + MARGIN_S, LONGEST_S))
