# SPDX-License-Identifier: Apache-2.0
"""Which tests can notice a mutant: those that run its line, the quickest and nearest first."""

import ast
from pathlib import Path

from tests.mutants.record import Record
from tests.mutants.sample import Mutant

BUDGET_S = 100.0
"""The tests that are run on a mutant took at most this time together."""


def choose_tests(mutant: Mutant, source: str, record: Record) -> list[str]:
    """
    Return the tests to run on a mutant, in order.

    A fixture's process may be started by one test and used by others. So if a test's process runs the line, all tests of that module may
    notice the mutant.
    """
    module = str(mutant.module)
    in_process, in_others = record.tests.get(module, {}), record.process_tests.get(module, {})
    lines = lines_run(ast.parse(source), mutant.spec.start_pos[0])
    fast = {test for line in lines for test in in_process.get(line, ())}
    starting = {test for line in lines for test in in_others.get(line, ())}
    if not fast and not starting:
        every = range(1, source.count("\n") + 2)
        fast = {test for line in every for test in in_process.get(line, ())}
    files = {test.partition("::")[0] for test in starting}
    slow = {test for test in record.durations_s if test.partition("::")[0] in files} - fast

    def order(test: str) -> tuple[bool, bool, bool, float]:
        path = Path(test.partition("::")[0])
        own = f"tests/{mutant.package}/" in test
        return test in slow, path.stem != f"test_{mutant.module.stem}" or not own, not own, record.durations_s[test]

    chosen, total_s = [], 0.0
    for test in sorted(fast | slow, key=order):
        total_s += record.durations_s[test]
        if total_s <= BUDGET_S:
            chosen.append(test)
    return chosen


def lines_run(tree: ast.Module, line: int) -> list[int]:
    """
    Return the lines whose tests may notice a change of this line.

    In a function, these are the lines of the smallest statement that contains the line, or only of its head if it is a compound statement.
    Code outside of functions, and the head of a function, runs when the module is imported. For such a line, they are the lines of the
    function, of all functions of the class, or of the module.
    """
    function: ast.AST | None = None
    statement: ast.stmt | None = None
    scope: ast.AST = tree
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and _first(node) <= line <= (node.end_lineno or node.lineno):
            # `ast.walk` visits outer nodes first.
            statement = node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                scope = node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and line >= node.body[0].lineno:
                function = node
    if function is None or statement is None:
        functions = [node for node in ast.walk(scope) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not functions and scope is not tree:
            functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return sorted({number for node in functions for number in range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)})
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if body else statement.end_lineno or statement.lineno
    return list(range(_first(statement), max(end, line) + 1))


def _first(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return int(decorators[0].lineno) if decorators else node.lineno
