# SPDX-License-Identifier: Apache-2.0
"""What a search in routes finds: configurations of the runner, and mistakes."""

from dataclasses import dataclass
from typing import Any

from apisix.runner.http.phase import Phase


@dataclass(frozen=True, slots=True)
class FoundConf:
    """
    A configuration of the runner, under one of the phases.

    Attributes:
        line: its first line, or 0 if it is not known.
        holder: what contains it, such as `route 1`.
        phase: the phase.
        content: the value under the phase, of any type.
        is_adc: True if it is from a file for adc, which replaces `${NAME}`.
    """

    line: int
    holder: str
    phase: Phase
    content: Any
    is_adc: bool = False


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Something that was meant for the runner, in a place where APISIX ignores it. The attributes are the same as of FoundConf."""

    line: int
    holder: str
    phase: str
    reason: str
