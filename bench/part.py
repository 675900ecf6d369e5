# SPDX-License-Identifier: Apache-2.0
"""Common code of the parts of the benchmark: time limits, targets, and statistics over rounds."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Scale:
    """
    How much time a part may take.

    Attributes:
        rounds: how often everything is measured, in turn.
        seconds: how long each measurement takes.
        smoke: measure for a short time, to see whether it works.
    """

    rounds: int
    seconds: float
    smoke: bool = False


FULL = Scale(5, 2.0)
SMOKE = Scale(1, 0.3, smoke=True)


@dataclass(frozen=True)
class Target:
    """A target, the measured value, and whether the target is met."""

    what: str
    limit: str
    measured: str
    met: bool


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, least and greatest, for the results file."""
    if not values:
        return {}
    return {"median": round(median(values), 4), "least": round(min(values), 4), "greatest": round(max(values), 4)}


def shown(values: dict[str, float], unit: str = "", digits: int = 1) -> str:
    """Return a spread as a cell of a table."""
    return f"{values['median']:,.{digits}f}{unit} ({values['least']:,.{digits}f} to {values['greatest']:,.{digits}f})"


def note(text: str) -> None:
    """Report progress on standard error."""
    print(text, file=sys.stderr, flush=True)
