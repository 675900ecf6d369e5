# SPDX-License-Identifier: Apache-2.0
"""The inspector follows the background tasks of plugins."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from apisix.gateway.inspector.background import BACKGROUND_LOGGER, Background
from apisix.gateway.inspector.server import Inspector
from apisix.runner.logging import setup as logs
from apisix.runner.plugin.chain import background as module
from tests.dev_process import TIMEOUT_S, Dev

PLUGIN = """
import asyncio
from apisix import Plugin

class Refresh(Plugin[str]):
    async def background(self):
        await asyncio.sleep(0)
        raise LookupError("no keys with " + self.config)
    def on_request(self, request): ...
"""
ROUTES = """\
routes:
  - id: r
    uri: /get
    plugins: {{ext-plugin-pre-req: {{conf: [{{name: refresh, value: 'the reason'}}]}}}}
    upstream: {{type: roundrobin, nodes: {{"127.0.0.1:{port}": 1}}}}
#END
"""


def line(state: str, task: str = f"{os.getpid()}-0", **fields: Any) -> dict[str, Any]:
    """Return a line of the runner's log."""
    base = {"logger": BACKGROUND_LOGGER, "time": "2026-01-01T10:00:00Z", "message": "m", "plugin": "refresh", "route": "route#1"}
    return {**base, "background": state, "task": task, **fields}


def followed(*lines: dict[str, Any]) -> tuple[list[str], Any]:
    """Return the events of an inspector that gets these lines, and the last list of tasks."""
    inspector = Inspector()
    sent: list[tuple[str, Any]] = []
    inspector.send = lambda event, data: sent.append((event, json.loads(inspector.redacted(data))))  # type: ignore[method-assign]
    inspector.configured = {"hunter22": "redacted-0123456789abcdef"}
    background = Background(inspector)
    for each in lines:
        background.record(each)
    return [event for event, _ in sent], sent[-1][1] if sent else None


def test_the_logger() -> None:
    """The name of the logger, which is written in several layers, is the same."""
    assert {BACKGROUND_LOGGER, logs.BACKGROUND_LOGGER} == {module.logger.name}


def test_a_task_that_fails() -> None:
    """It has its traceback without secrets of configurations, and the time of its next start."""
    events, tasks = followed(line("running"), line("failed", exception="LookupError: hunter22", retry_s=2.0))

    assert events == ["background", "background"]
    assert tasks == [
        {
            "task": f"{os.getpid()}-0",
            "plugin": "refresh",
            "route": "route#1",
            "state": "failed",
            "since": "2026-01-01T10:00:00Z",
            "starts": 1,
            "failures": 1,
            "next_start": "2026-01-01T10:00:02+00:00",
            "error": "LookupError: redacted-0123456789abcdef",
        }
    ]


def test_a_task_that_is_started_again() -> None:
    """The last failure stays, and the next start does not."""
    failed = line("failed", exception="LookupError", retry_s=2.0)
    _, (task,) = followed(line("running"), failed, line("running"))

    assert (task["state"], task["starts"], task["failures"], task["error"]) == ("running", 2, 1, "LookupError")
    assert "next_start" not in task


def test_tasks_that_end() -> None:
    """A task that was stopped, and one whose worker was killed, are removed."""
    _, tasks = followed(line("running"), line("running", "4194305-0"), line("waiting", f"{os.getpid()}-1"), line("stopped"))

    assert [(task["task"], task["state"]) for task in tasks] == [(f"{os.getpid()}-1", "waiting")]


@pytest.mark.parametrize("other", [{"message": "printed"}, {**line("running"), "logger": "another"}, line("unknown")])
def test_other_lines(other: dict[str, Any]) -> None:
    """They are ignored."""
    assert followed(other) == ([], None)


@pytest.mark.process
def test_dev(tmp_path: Path) -> None:
    """`dev` prints each start and failure, and the inspector has the state. A saved file stops the tasks of the old worker."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "refresh.py").write_text(PLUGIN, encoding="utf-8")
    with Dev(tmp_path, "--log-level", "warning") as dev:
        inspector = dev.welcome.split("inspector ")[1].split()[0]
        (tmp_path / "apisix.yaml").write_text(ROUTES.format(port=dev.upstream_port), encoding="utf-8")
        dev.event("notice", text="apisix.yaml: routes reloaded")
        dev.get("/get")
        first = dev.event("log", background="running", plugin="refresh")
        failed = dev.event("log", background="failed", task=first["task"], retry_s=1.0)
        again = dev.event("log", background="running", task=first["task"])
        with urlopen(f"{inspector}/api/background", timeout=TIMEOUT_S) as response:  # noqa: S310  # the inspector of this test
            (task,) = json.load(response)
        (tmp_path / "plugins" / "refresh.py").write_text(PLUGIN + "\n", encoding="utf-8")
        dev.event("log", background="stopped", task=first["task"])
        with urlopen(f"{inspector}/api/background", timeout=TIMEOUT_S) as response:  # noqa: S310  # the inspector of this test
            left = json.load(response)

    assert failed["exception"].splitlines()[-1] == "LookupError: no keys with the reason"
    assert (failed["level"], again["level"]) == ("error", "info")
    assert (task["plugin"], task["failures"] >= 1, task["starts"] >= 2) == ("refresh", True, True)
    assert first["task"] not in [each["task"] for each in left]
