# SPDX-License-Identifier: Apache-2.0
"""The results that `doctor` prints."""

from collections.abc import Iterator
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How serious a result is. A problem prevents the runner from serving calls; a warning is a risk."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Result(msgspec.Struct, frozen=True):
    """
    One thing that was examined.

    Attributes:
        level: how serious it is.
        about: the subject, as one word.
        text: what was found. It contains no values of configurations, because they may be secrets.
        advice: what to do, or "".
    """

    level: Level
    about: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.about:<8} {self.text}{f'. {self.advice}' if self.advice else ''}"


Results = Iterator[Result]
"""The return type of functions that examine something."""


def ok(about: str, text: str) -> Result:
    """Return the result that something is correct."""
    return Result(Level.OK, about, text)


def warning(about: str, text: str, advice: str) -> Result:
    """Return the result that something may fail."""
    return Result(Level.WARNING, about, text, advice)


def problem(about: str, text: str, advice: str) -> Result:
    """Return the result that something prevents the runner from serving calls."""
    return Result(Level.PROBLEM, about, text, advice)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural, such as `1 problem` or `2 problems`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
