# SPDX-License-Identifier: Apache-2.0
"""What a search in routes finds: configurations of the runner, problems, and documents that are not checked."""

from dataclasses import dataclass
from typing import Any

import msgspec

from apisix.runner.http.phase import Phase


@dataclass(frozen=True, slots=True)
class FoundConf:
    """
    A configuration of the runner, under one of the phases.

    Attributes:
        file: the path of the file, or the URL.
        line: its first line, or 0 if it is not known.
        holder: the object that contains it, such as `route 1`.
        phase: the phase.
        content: the value under the phase, of any type.
        is_adc: True if it is from a file for adc, which replaces `${NAME}`.
    """

    file: str
    line: int
    holder: str
    phase: Phase
    content: Any
    is_adc: bool = False


class RouteProblem(msgspec.Struct, frozen=True):
    """
    A problem in routes.

    Attributes:
        file: the path of the file, or the URL.
        line: the line, or 0 if it is not known.
        holder: the object that contains it, such as `route 1`, or "" if it concerns the whole file.
        phase: the phase, or "".
        reason: what is wrong.
    """

    file: str
    line: int
    holder: str
    phase: str
    reason: str

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line else ""
        return ": ".join(filter(None, (f"{self.file}{line}", ", ".join(filter(None, (self.holder, self.phase))), self.reason)))


class SkippedDocument(msgspec.Struct, frozen=True):
    """
    A document that is not checked.

    Attributes:
        file: the path of the file, or the URL.
        line: its first line, or 0 if it is not known.
        name: its kind and name, such as `Service shop/web`, or "" if it is not a manifest.
        reason: why it is not checked.
        phase: a phase that it mentions, or "".
    """

    file: str
    line: int
    name: str
    reason: str
    phase: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else ""
        name = f"{self.name} ({place})" if self.name and place else self.name or f"the document in {place}" if place else "one document"
        mentioned = f", but it mentions {self.phase}" if self.phase else ""
        return f"{self.file}: {name} was not checked: {self.reason}{mentioned}"
