# SPDX-License-Identifier: Apache-2.0
"""What loading yields: plugins that routes may name, and problems that say why one may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from apisix.runner.plugin.configuration import Reader
    from apisix.runner.plugin.plugin import OnError

Generation = Literal["Plugin", "Base", "PluginBase"]
SourceKind = Literal["builtin", "directory", "module", "entry point"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plugin is written, and how the runner came to it."""

    kind: SourceKind
    file: str
    line: int
    module: str
    entry_point: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{place} (entry point {self.entry_point})" if self.entry_point else place


@dataclass(frozen=True, slots=True)
class Problem:
    """
    Why something that should be a plugin is none: a sentence for its author, with file and line, and what to do.

    `name` is what routes call it, None where that can't be known. `line` is 0 if no line is to blame, as for a directory that is missing.
    """

    name: str | None
    file: str
    line: int
    reason: str
    advice: str
    entry_point: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        entry_point = f"entry point {self.entry_point}: " if self.entry_point else ""
        return f"{place}: {entry_point}{self.reason}. {self.advice}"


@dataclass(slots=True, eq=False)
class PluginType:
    """
    A plugin that routes may name: its class, checked, and what the runner has learned about it.

    `blocking` begins as the class says and is set to True when the runner finds that the plugin blocks its worker.
    """

    name: str
    cls: type
    generation: Generation
    source: Source
    hooks: tuple[str, ...]
    doc: str
    reader: Reader
    aliases: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    blocking: bool | None = None
    on_error: OnError | None = None
    eager: bool = False

    def config_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the configuration, `{}` where anything is allowed."""
        return self.reader.schema()
