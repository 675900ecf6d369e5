# SPDX-License-Identifier: Apache-2.0
"""The output of the runner is separated into reports of effects, log records, and lines that plugins print."""

import asyncio
import json
from typing import Any

import pytest

from apisix.gateway.report import PluginEffect, effects_of
from apisix.gateway.runner import log as runner_log
from apisix.gateway.runner.log import EFFECTS_LOGGER, RunnerLog
from apisix.runner.logging import setup as logs
from apisix.runner.supervisor.worker_pool import pool as pool_module
from apisix.runner.worker.effects_log import LOGGER


def record_line(call_id: Any, *steps: dict[str, Any]) -> bytes:
    """Return a line with the record of a call."""
    record = {
        "type": "call",
        "id": "1",
        "call_id": call_id,
        "time": "2026-01-01T00:00:00Z",
        "duration_s": 0.1,
        "configuration": "c",
        "plugins": [],
        "outcome": "continue",
        "steps": [{"runs": "inline", "began_s": 0, **step} for step in steps],
    }
    return json.dumps({"logger": EFFECTS_LOGGER, "message": "m", "record": record}).encode() + b"\n"


def unexpected(record: runner_log.Record) -> None:
    """Fail, because a report was parsed as a line of the log."""
    pytest.fail(f"{record} was passed on")


def test_the_runner_uses_that_logger() -> None:
    """The name of the logger, which is written in two layers, is the same."""
    assert EFFECTS_LOGGER == LOGGER


async def test_the_record_of_a_call() -> None:
    """The record of a call is kept until it is fetched, and can be fetched once."""
    log = RunnerLog(unexpected)
    header = {"kind": "header", "name": "x", "after": ["1"]}
    error = {"kind": "ValueError", "message": "e", "traceback": "ValueError: e"}
    log.line(
        record_line(
            3,
            {"plugin": "a", "duration_s": 0.1, "edits": [header], "stopped": 401},
            {"plugin": "b", "duration_s": 0.2, "error": error},
        )
    )

    record = await log.take(3)
    assert record is not None
    assert effects_of(record) == (
        PluginEffect("a", 0.1, ("header x added", "stopped with 401")),
        PluginEffect("b", 0.2, (), "ValueError: e"),
    )


async def test_a_record_that_arrives_later() -> None:
    """A request for a record waits until the line has arrived."""
    log = RunnerLog(unexpected)
    waiting = asyncio.create_task(log.take(3))
    await asyncio.sleep(0)
    log.line(record_line(3, {"plugin": "a", "duration_s": 0.1}))

    record = await waiting
    assert record is not None
    assert [step.plugin for step in record.steps] == ["a"]


async def test_a_record_that_never_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the runner prints nothing, the wait is short."""
    monkeypatch.setattr(runner_log, "WAIT_S", 0.01)

    assert await RunnerLog(unexpected).take(3) is None


async def test_records_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of reports that were not fetched is limited. The oldest ones are deleted."""
    monkeypatch.setattr(runner_log, "MAX_KEPT", 2)
    monkeypatch.setattr(runner_log, "WAIT_S", 0.01)
    log = RunnerLog(unexpected)
    for call_id in range(3):
        log.line(record_line(call_id, {"plugin": "a", "duration_s": 0.1}))

    assert [await log.take(call_id) is None for call_id in range(3)] == [True, False, False]


def test_a_refused_configuration() -> None:
    """The reason why a configuration is refused is stored by its key, and passed on."""
    records: list[runner_log.Record] = []
    log = RunnerLog(records.append)
    message = "the plugins of route#1#ext-plugin-pre-req#5 are refused, each of its calls fails: no plugin a"
    log.line(json.dumps({"logger": runner_log.REFUSALS_LOGGER, "message": message, "call": 3}).encode())

    assert (log.refusal("route#1#ext-plugin-pre-req#5"), log.refusal("route#1#ext-plugin-pre-req#6")) == ("no plugin a", None)
    assert [record["message"] for record in records] == [message]


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'{"message": "m", "level": "info"}\n', {"message": "m", "level": "info"}),
        (b"printed\r\n", {"message": "printed"}),
        (b"\xff\n", {"message": "�"}),
        (b'{"a": 1}\n', {"message": '{"a": 1}'}),
        (b"[1]\n", {"message": "[1]"}),
    ],
)
def test_records(line: bytes, record: dict[str, str]) -> None:
    """A record of the log is returned as a record, and any other line as its text."""
    records: list[runner_log.Record] = []
    RunnerLog(records.append).line(line)

    assert records == [record]


def test_a_report_that_is_none() -> None:
    """A report of another form is passed on like any record."""
    records: list[runner_log.Record] = []
    RunnerLog(records.append).line(record_line("three"))

    assert len(records) == 1


@pytest.mark.parametrize(
    ("message", "calls"),
    [
        ("plugins/a.py changed: worker 2 (pid 8) in the place of worker 1 (pid 7)", 1),
        ("reloading: plugins/a.py changed", 0),
    ],
)
def test_replaced_workers(message: str, calls: int) -> None:
    """The gateway is informed when workers were replaced, and the record is passed on."""
    records: list[runner_log.Record] = []
    log = RunnerLog(records.append)
    replaced: list[None] = []
    log.on_replaced = lambda: replaced.append(None)

    log.line(json.dumps({"logger": runner_log.REPLACEMENTS_LOGGER, "message": message}).encode())

    assert (len(replaced), len(records)) == (calls, 1)


def test_the_runner_names_its_pool_so() -> None:
    """The name of the logger, which is written in three modules, is the same."""
    assert {runner_log.REPLACEMENTS_LOGGER, logs.REPLACEMENTS_LOGGER} == {pool_module.logger.name}
