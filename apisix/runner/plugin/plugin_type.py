# SPDX-License-Identifier: Apache-2.0
"""The result of loading a plugin class: a `PluginType` that routes can use, or a `Problem` if it has a mistake."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from apisix.runner.plugin.plugin import defines

if TYPE_CHECKING:
    from apisix.runner.plugin.apis import PluginApi
    from apisix.runner.plugin.configuration.readers import Reader
    from apisix.runner.plugin.plugin import OnError, RunsIn

SourceKind = Literal["builtin", "directory", "module", "entry point"]


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where a plugin class is defined, and how the runner found it.

    Attributes:
        kind: how the runner found the module.
        file: the path of the file.
        line: the line of the class, from 1.
        module: the dotted name of the module.
        entry_point: the text of the entry point, if there is one.
    """

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
    Why a class or a file can't be used as a plugin.

    Attributes:
        name: the name that routes use, or None if it is not known.
        file: the file to open.
        line: the line that is wrong, or 0 if there is none, as for a directory that is missing.
        reason: what is wrong, as a clause.
        advice: what to do, as a sentence without its full stop.
        entry_point: the text of the entry point, if there is one.
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
    A plugin that routes can use: its checked class and its properties.

    Attributes:
        name: the name that routes use.
        cls: the class.
        api: the plugin API from which it derives.
        source: where the class is defined.
        hooks: the names of its hooks.
        doc: the first line of the class's docstring, or "".
        reader: reads a route's value into the configuration.
        aliases: further names that routes may use.
        needs: what to fetch from the gateway before a hook runs.
        blocking: as the class declares it. The runner sets it to True if the plugin blocks the event loop.
        on_error: as the class declares it.
        eager: as the class declares it. If it does not, True if the class defines `background`.
        runs_in: as the class declares it.
    """

    name: str
    cls: type
    api: PluginApi
    source: Source
    hooks: tuple[str, ...]
    doc: str
    reader: Reader
    aliases: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    blocking: bool | None = None
    on_error: OnError | None = None
    eager: bool = False
    runs_in: RunsIn | None = None

    def may_suspend(self, hook: str) -> str | None:
        """Return why a hook does not run inline, as a clause, or None if it does."""
        function = getattr(self.cls, hook)
        if self.runs_in is not None:
            return "runs_in is 'process', so it runs in a process of the pool"
        if inspect.iscoroutinefunction(function):
            return "it is a coroutine function, which runs as a task"
        if self.blocking:
            return "blocking is True, so it runs in a thread"
        if self.needs:
            return f"needs is {self.needs!r}, so each call first waits for the gateway"
        if defines(self.cls, "setup"):
            return "the plugin has a setup(), for which its first call waits"
        if defines(self.cls, "background"):
            return "the plugin has a background(), for whose start its first call waits"
        if self.on_error == "pass":
            return "on_error is 'pass', so the call must be able to continue without its edits"
        return self.api.may_suspend(self.cls, function)

    def config_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the configuration, or `{}` if anything is allowed."""
        return self.reader.schema()
