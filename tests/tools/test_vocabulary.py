# SPDX-License-Identifier: Apache-2.0
"""tools/vocabulary.py finds the words that the glossary replaces."""

import pytest

from tools.vocabulary import TERMS, covered, findings, main


def words(text: str, path: str = "apisix/x.py") -> list[str]:
    return [finding.word for finding in findings(text, path)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the crew of workers", "crew"),
        ("class WorkerCrew:", "Crew"),
        ("_twin_of = 1", "twin"),
        ("This is no request id.", "is no"),
        ("It stands here.", "stands"),
        ("loaded anew", "anew"),
    ],
)
def test_found(text: str, word: str) -> None:
    """A word is found in text, in names in any case, and in phrases."""
    assert words(text) == [word]


@pytest.mark.parametrize(
    "text",
    ["a stand-alone runner", "There is no reply.", "It is no longer used.", "a straightforward answer", 'pytest.fixture(scope="session")'],
)
def test_allowed(text: str) -> None:
    """Similar words, and the exceptions, are allowed."""
    assert words(text) == []


def test_sessions_of_browsers() -> None:
    """The sessions of browsers have no other name, so the files about them can use it."""
    assert [words("a session", path) for path in ("examples/plugins/sessions.py", "apisix/x.py")] == [[], ["session"]]


def test_code_in_markdown() -> None:
    """Code in Markdown is not checked, because it can contain names of the public API. Lines keep their numbers."""
    text = "`crew`\n\n```python\ncrew = 1\n```\n\n    crew\n[x](crew.md)\ncrew\n"

    assert [(finding.line, finding.word) for finding in findings(text, "README.md")] == [(9, "crew")]


def test_finding_names_the_term() -> None:
    """A finding contains the term to use instead."""
    (finding,) = findings("crew", "x.py")

    assert finding.instead == TERMS["crew"]


def test_named_files() -> None:
    """Only covered files are checked, also if others are named, as pre-commit does."""
    assert [file.name for file in covered(["README.md", "tools/vocabulary.py"])] == ["README.md"]


def test_covered_files(capsys: pytest.CaptureFixture[str]) -> None:
    """The covered files contain none of the words."""
    assert (main([]), capsys.readouterr().out) == (0, "")
