# SPDX-License-Identifier: Apache-2.0
"""The background tasks of plugins, as the runner's log reports them: their states, failures and next starts."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from apisix.gateway.inspector.server import Inspector
from apisix.gateway.runner.log import Record

BACKGROUND_LOGGER: Final = "apisix.runner.plugin.chain.background"
"""The logger of the lines about tasks. Source: apisix/runner/plugin/chain/background.py, which this layer does not import."""
MAX_TASKS: Final = 1000
"""How many tasks are kept. The oldest are removed."""


class Line(msgspec.Struct, frozen=True):
    """A line of the runner's log about a task. Attributes: task: its name, the pid of its worker and a number."""

    background: Literal["running", "failed", "returned", "waiting", "stopped"]
    task: str
    plugin: str
    time: str
    route: str | None = None
    exception: str | None = None
    retry_s: float = 0.0


class Task(msgspec.Struct, omit_defaults=True):
    """
    A background task.

    Attributes:
        state: "failed" if it waits for its next start, and "waiting" if another worker runs it.
        since: when it got this state, UTC in ISO 8601.
        starts, failures: how often it was started, and how often it failed.
        next_start: when it is started again, None if it does not wait for that.
        error: the last exception with its traceback.
    """

    task: str
    plugin: str
    route: str | None
    state: str
    since: str
    starts: int = 0
    failures: int = 0
    next_start: str | None = None
    error: str | None = None


class Background:
    """Keeps the background tasks, and sends them to the pages when one of them changes."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self._tasks: dict[str, Task] = {}
        inspector.add_call("GET", "/api/background", self._list)

    def record(self, record: Record) -> None:
        """Called with each line of the runner's log."""
        if record.get("logger") != BACKGROUND_LOGGER or "background" not in record:
            return
        try:
            line = msgspec.convert(record, Line)
        except msgspec.ValidationError:
            return
        self._take(line)
        self._inspector.send("background", self._alive())

    def _take(self, line: Line) -> None:
        if line.background == "stopped":
            self._tasks.pop(line.task, None)
            return
        task = self._tasks.setdefault(line.task, Task(line.task, line.plugin, line.route, line.background, line.time))
        task.state, task.since, task.next_start = line.background, line.time, None
        if line.background == "running":
            task.starts += 1
        elif line.background == "failed":
            task.failures += 1
            task.error = line.exception
            task.next_start = (datetime.fromisoformat(line.time) + timedelta(seconds=line.retry_s)).isoformat()
        while len(self._tasks) > MAX_TASKS:
            del self._tasks[next(iter(self._tasks))]

    def _alive(self) -> list[Task]:
        """Return the tasks. Those of workers that were killed are removed, because nothing reports their end."""
        for name in [name for name in self._tasks if not _exists(name.partition("-")[0])]:
            del self._tasks[name]
        return list(self._tasks.values())

    async def _list(self, values: Mapping[str, str], body: Any) -> object:
        return msgspec.Raw(self._inspector.redacted(self._alive()))


def _exists(pid: str) -> bool:
    """Return whether there is a process."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
