# SPDX-License-Identifier: Apache-2.0
"""Which tests run a line: all tests run once without a mutant, with coverage contexts, and the result is kept until a file changes."""

import hashlib
import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

from tests.mutants.bounded import run_tests
from tests.mutants.checkout import CHECKOUT
from tests.mutants.recorder import RECORD
from tests.mutants.sample import PACKAGES

KEPT = CHECKOUT / "build" / "mutants"
LONGEST_S = 3600.0
COVERAGE = ("--cov", "--cov-context=test", "--cov-report=")
TESTS = (*PACKAGES, "testing", "ipc", "conf_store", "logging", "metrics", "primitives", "settings", "cli", "integration")
"""The tests of the runner, in folders. The others test something else, or how the sources look."""


@dataclass(frozen=True)
class Record:
    """
    The results of a run without a mutant.

    Attributes:
        durations_s: of each test that passed.
        tests: of each line of each module, the tests that run it in the process of pytest.
        process_tests: of each line of each module, the tests whose processes run it.
    """

    durations_s: dict[str, float]
    tests: dict[str, dict[int, set[str]]]
    process_tests: dict[str, dict[int, set[str]]]


def recorded(checkout: Path, processes: int) -> Record:
    """Return the record of this checkout. If the stored one does not belong to the same files, run all tests to make a new one."""
    kept = KEPT / _fingerprint(checkout)
    if not kept.exists():
        shutil.rmtree(KEPT, ignore_errors=True)
        made = checkout / "build" / "coverage"
        made.mkdir(parents=True)
        print("running all tests once, to see which lines each of them runs", flush=True)
        arguments = ["-p", "tests.mutants.recorder", "-n", str(processes), "--dist", "worksteal", *COVERAGE]
        run = run_tests(checkout, [*arguments, *(f"tests/{name}" for name in TESTS)], LONGEST_S, **{RECORD: str(made / "tests.json")})
        print("\n".join(run.output.splitlines()[-20:]), flush=True)
        if not (made / "tests.json").exists() or not (made / "data").exists():
            raise SystemExit("the tests did not finish")
        shutil.copytree(made, kept)
        shutil.rmtree(made)
    return _read(kept)


def _fingerprint(checkout: Path) -> str:
    digest = hashlib.sha256()
    tests = (path for name in TESTS for path in (checkout / "tests" / name).rglob("*.py"))
    for path in sorted([*(checkout / "apisix").rglob("*.py"), *tests]):
        digest.update(f"{path.relative_to(checkout)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _read(kept: Path) -> Record:
    durations = {test: took_s for test, (took_s, passed) in json.loads((kept / "tests.json").read_text(encoding="utf-8")).items() if passed}
    tests: dict[str, dict[int, set[str]]] = {}
    process_tests: dict[str, dict[int, set[str]]] = {}
    data = CoverageData(str(kept / "data"))
    data.read()
    for file in data.measured_files():
        module = "apisix/" + file.rpartition("/apisix/")[2]
        in_process, in_others = tests.setdefault(module, defaultdict(set)), process_tests.setdefault(module, defaultdict(set))
        for line, contexts in data.contexts_by_lineno(file).items():
            for context in contexts:
                # pytest-cov writes "test|run", the processes that the test starts only "test".
                test, bar, phase = context.rpartition("|")
                name = test if bar and phase in ("setup", "run", "teardown") else context
                if name in durations:
                    (in_others if name == context else in_process)[line].add(name)
    return Record(durations, tests, process_tests)
