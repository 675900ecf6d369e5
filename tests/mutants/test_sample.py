# SPDX-License-Identifier: Apache-2.0
"""Some places of a module are not mutated, because no test should notice a change there."""

import ast

import pytest

from tests.mutants.sample import ignored_spans


@pytest.mark.parametrize(
    ("source", "ignored"),
    [
        ("self.size: int | None = 1 + 2", ["int | None"]),
        ("def add(a: int | None = 1 + 2) -> int | str: return 3", ["int | None", "int | str"]),
        ("wire_logger.error('%s' + '.', 1, exc_info=2 > 1)", ["'%s' + '.'", "1"]),
        ("logs.error('%s' + '.', 1)", []),
    ],
)
def test_annotations_and_texts_of_log_calls_are_ignored(source: str, ignored: list[str]) -> None:
    spans = ignored_spans(ast.parse(source))

    assert sorted(source[start[1] : end[1]] for start, end in spans) == sorted(ignored)


def test_an_overload_is_ignored_with_its_decorators() -> None:
    spans = ignored_spans(ast.parse("@overload\n@other\ndef f(): ..."))

    assert spans == [((1, 0), (3, 12))]
