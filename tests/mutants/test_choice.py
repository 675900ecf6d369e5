# SPDX-License-Identifier: Apache-2.0
"""The tests of a mutant are those that run its line, the nearest and quickest first."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.mutants.choice import choose_tests, lines_run
from tests.mutants.record import Record
from tests.mutants.sample import Mutant

SOURCE = """\
LIMIT = 5
class Counter:
    start = 1
    @cached
    def add(self, step=2):
        if step > (
            LIMIT
        ):
            return 0
        return step
def size():
    return 4
"""


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        pytest.param(10, [10], id="a statement"),
        pytest.param(7, [6, 7, 8], id="the head of a compound statement"),
        pytest.param(5, [6, 7, 8, 9, 10], id="a default, which is of the whole function"),
        pytest.param(4, [6, 7, 8, 9, 10], id="a decorator"),
        pytest.param(3, [6, 7, 8, 9, 10], id="a constant of a class"),
        pytest.param(1, [6, 7, 8, 9, 10, 12], id="a constant of the module"),
    ],
)
def test_code_that_runs_at_import_is_tested_by_the_functions_beside_it(line: int, lines: list[int]) -> None:
    assert lines_run(ast.parse(SOURCE), line) == lines


def chosen(record: Record, line: int = 10) -> list[str]:
    spec = SimpleNamespace(module_path=Path("apisix/runner/wire/frames.py"), start_pos=(line, 0))
    return choose_tests(Mutant(spec), SOURCE, record)


DURATIONS_S = {
    "tests/wire/test_frames.py::test_a": 2.0,
    "tests/wire/test_frames.py::test_b": 1.0,
    "tests/wire/test_entries.py::test_c": 0.1,
    "tests/http/test_body.py::test_d": 0.1,
    "tests/integration/test_calls.py::test_e": 3.0,
    "tests/integration/test_calls.py::test_f": 0.5,
    "tests/integration/test_stop.py::test_g": 95.0,
}


def record_of(tests: set[str], process_tests: set[str]) -> Record:
    module = "apisix/runner/wire/frames.py"
    return Record(DURATIONS_S, {module: {10: tests}}, {module: {10: process_tests}})


def test_tests_of_the_module_come_first_then_those_of_its_package() -> None:
    in_process = {test for test in DURATIONS_S if "integration" not in test}

    assert chosen(record_of(in_process, set())) == [
        "tests/wire/test_frames.py::test_b",
        "tests/wire/test_frames.py::test_a",
        "tests/wire/test_entries.py::test_c",
        "tests/http/test_body.py::test_d",
    ]


def test_if_a_process_runs_the_line_all_tests_of_that_file_may_notice_it() -> None:
    assert chosen(record_of(set(), {"tests/integration/test_calls.py::test_e"})) == [
        "tests/integration/test_calls.py::test_f",
        "tests/integration/test_calls.py::test_e",
    ]


def test_tests_beyond_the_budget_are_left_out() -> None:
    every = set(DURATIONS_S)

    assert "tests/integration/test_stop.py::test_g" in chosen(record_of({"tests/integration/test_stop.py::test_g"}, set()))
    assert "tests/integration/test_stop.py::test_g" not in chosen(record_of(every, every))


def test_if_no_test_runs_the_line_those_of_the_module_are_tried() -> None:
    assert chosen(record_of({"tests/wire/test_frames.py::test_a"}, set()), line=12) == ["tests/wire/test_frames.py::test_a"]
