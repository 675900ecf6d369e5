# SPDX-License-Identifier: Apache-2.0
"""Tries a mutant: runs tests on it until one fails."""

import difflib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.bounded import run_tests
from tests.mutants.equivalent import Equivalents
from tests.mutants.outcome import Outcome
from tests.mutants.sample import Mutant

OPTIONS = ("-x", "-p", "no:cacheprovider", "-p", "no:xdist")
FACTOR, MARGIN_S = 3.0, 30.0
"""
With a mutant, tests may take `FACTOR` times as long as without, and `MARGIN_S` seconds more. After that the mutant counts as noticed.
"""


def try_mutant(checkout: Path, mutant: Mutant, tests: Sequence[str], expected_s: float, equivalents: Equivalents) -> Outcome:
    """
    Try a mutant in a copy of the checkout.

    Args:
        tests: the tests to run, in order.
        expected_s: how long they take without a mutant.
    """
    with _mutated(checkout, mutant) as diff:
        if not diff:
            return Outcome(mutant, "not applicable", "", diff)
        left = list(tests)
        while left:
            failed = _first_failure(checkout, left, FACTOR * expected_s + MARGIN_S)
            if failed is None:
                break
            # A test that fails only sometimes proves nothing, so it must fail again.
            if failed not in left or _first_failure(checkout, [failed], MARGIN_S) is not None:
                return Outcome(mutant, "timeout" if failed == "timeout" else "noticed", failed, diff)
            left = left[left.index(failed) + 1 :]
    reason = equivalents.reason(diff)
    return Outcome(mutant, "equivalent" if reason else "survived", reason or f"{len(tests)} tests passed", diff)


def _first_failure(checkout: Path, tests: Sequence[str], limit_s: float) -> str | None:
    """Run tests until one fails, and return its name. Return None if all pass."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as names:
        names.write("\n".join(tests))
        names.flush()
        # Written byte code is found by the time of the source in whole seconds, and by its size.
        run = run_tests(checkout, [*OPTIONS, f"@{names.name}"], limit_s, PYTHONDONTWRITEBYTECODE="1")
    if run.code == 0:
        return None
    if run.code is None:
        return "timeout"
    found = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", run.output, re.MULTILINE)
    return found[1] if found else f"pytest returned {run.code}"


@contextmanager
def _mutated(checkout: Path, mutant: Mutant) -> Iterator[str]:
    """Apply a mutant to its module, yield the difference, and restore the module."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    file = checkout / mutant.module
    status = file.stat()
    before = file.read_text(encoding="utf-8")
    spec = mutant.spec
    after = mutate_code(before, get_operator(spec.operator_name)(), spec.occurrence)
    if after is None or after == before or not _compiles(after):
        yield ""
        return
    file.write_text(after, encoding="utf-8")
    try:
        names = f"a/{mutant.module}", f"b/{mutant.module}"
        yield "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm=""))
    finally:
        file.write_text(before, encoding="utf-8")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _compiles(source: str) -> bool:
    """Return False for some operators on `*` and `**` that are not arithmetic."""
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True
