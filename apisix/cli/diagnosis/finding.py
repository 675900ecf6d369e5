# SPDX-License-Identifier: Apache-2.0
"""What was found."""

from collections.abc import Iterator
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is. A problem keeps calls from being served; a warning may, or is a risk."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """
    One thing that was looked at.

    Attributes:
        about: the subject, in a word.
        text: what was found. No values of configurations, which may be secrets.
        advice: what to do, "" where nothing has to be done.
    """

    level: Level
    about: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.about:<8} {self.text}{f'. {self.advice}' if self.advice else ''}"


Findings = Iterator[Finding]
"""What each look yields."""


def ok(about: str, text: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(Level.OK, about, text)


def warning(about: str, text: str, advice: str) -> Finding:
    """Say that something may go wrong."""
    return Finding(Level.WARNING, about, text, advice)


def problem(about: str, text: str, advice: str) -> Finding:
    """Say that something keeps calls from being served."""
    return Finding(Level.PROBLEM, about, text, advice)
