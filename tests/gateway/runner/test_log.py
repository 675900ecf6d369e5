# SPDX-License-Identifier: Apache-2.0
"""What the runner says is told apart: reports of effects, records of its log, and what plugins print."""

import asyncio
import json
from typing import Any

import pytest

from apisix.gateway.report import PluginEffect
from apisix.gateway.runner import log as runner_log
from apisix.gateway.runner.log import EFFECTS_LOGGER, RunnerLog
from apisix.runner.logging import setup as logs
from apisix.runner.supervisor.worker_pool import pool as pool_module
from apisix.runner.worker.effects_log import LOGGER


def told(call_id: Any, *effects: dict[str, Any]) -> bytes:
    """Return a line that reports effects."""
    return json.dumps({"logger": EFFECTS_LOGGER, "message": "m", "call_id": call_id, "effects": effects}).encode() + b"\n"


def unexpected(record: runner_log.Record) -> None:
    """Fail: a report was taken for a line of the log."""
    pytest.fail(f"{record} was passed on")


def test_the_runner_uses_that_logger() -> None:
    """The name of the logger, written down on both sides of a layer's wall, is the same."""
    assert EFFECTS_LOGGER == LOGGER


async def test_effects_of_a_call() -> None:
    """A call's effects are kept until they are taken, once."""
    log = RunnerLog(unexpected)
    log.line(told(3, {"plugin": "a", "took_s": 0.1, "changes": ["c"], "stopped": 401}, {"plugin": "b", "took_s": 0.2, "error": "e"}))

    assert await log.take(3) == (PluginEffect("a", 0.1, ("c", "stopped with 401")), PluginEffect("b", 0.2, (), "e"))


async def test_effects_that_come_later() -> None:
    """Who asks before the line is there waits for it."""
    log = RunnerLog(unexpected)
    waiting = asyncio.create_task(log.take(3))
    await asyncio.sleep(0)
    log.line(told(3, {"plugin": "a", "took_s": 0.1}))

    assert await waiting == (PluginEffect("a", 0.1),)


async def test_effects_that_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that says nothing is not waited for long."""
    monkeypatch.setattr(runner_log, "WAIT_S", 0.01)

    assert await RunnerLog(unexpected).take(3) == ()


async def test_effects_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of reports that nobody takes only so many are kept, the oldest go."""
    monkeypatch.setattr(runner_log, "MAX_KEPT", 2)
    monkeypatch.setattr(runner_log, "WAIT_S", 0.01)
    log = RunnerLog(unexpected)
    for call_id in range(3):
        log.line(told(call_id, {"plugin": "a", "took_s": 0.1}))

    assert (await log.take(0), len(await log.take(2))) == ((), 1)


async def test_a_refused_configuration() -> None:
    """Why a configuration is refused is kept by its key, and passed on; the call that found out is not waited for."""
    records: list[runner_log.Record] = []
    log = RunnerLog(records.append)
    message = "the plugins of route#1#ext-plugin-pre-req#5 are refused, each of its calls fails: no plugin a"
    waiting = asyncio.create_task(log.take(3))
    await asyncio.sleep(0)
    log.line(json.dumps({"logger": runner_log.REFUSALS_LOGGER, "message": message, "call": 3}).encode())

    assert await asyncio.wait_for(waiting, runner_log.WAIT_S / 2) == ()
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
    """A record of the log comes as it is, any other line as its text."""
    records: list[runner_log.Record] = []
    RunnerLog(records.append).line(line)

    assert records == [record]


def test_a_report_that_is_none() -> None:
    """A report of another form is passed on like any record."""
    records: list[runner_log.Record] = []
    RunnerLog(records.append).line(told("three"))

    assert len(records) == 1


@pytest.mark.parametrize(
    ("message", "calls"),
    [
        ("plugins/a.py changed: worker 2 (pid 8) in the place of worker 1 (pid 7)", 1),
        ("reloading: plugins/a.py changed", 0),
    ],
)
def test_replaced_workers(message: str, calls: int) -> None:
    """The gateway is told when workers were replaced, and the record is passed on."""
    records: list[runner_log.Record] = []
    log = RunnerLog(records.append)
    replaced: list[None] = []
    log.on_replaced = lambda: replaced.append(None)

    log.line(json.dumps({"logger": runner_log.REPLACEMENTS_LOGGER, "message": message}).encode())

    assert (len(replaced), len(records)) == (calls, 1)


def test_the_runner_names_its_pool_so() -> None:
    """The name of the logger, which is written in three modules, is the same."""
    assert {runner_log.REPLACEMENTS_LOGGER, logs.REPLACEMENTS_LOGGER} == {pool_module.logger.name}
