# SPDX-License-Identifier: Apache-2.0
"""Small plugins behave as with releases 0.1.0 and 0.2.0, except for the differences in `differences.py`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.state.memory import MemoryBackend
from apisix.runner.wire.messages import HTTPReqCallReq, Info, Var
from apisix.testing.running.engine import Engine, Limits
from tests.legacy.cases import CASES, Call, Case
from tests.legacy.differences import DIFFERENCES
from tests.legacy.outcomes import Outcome, message, outcome
from tests.peer import PRE_REQ

RECORDED: dict[str, dict[str, list[Outcome]]] = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))


class Sent:
    """A call of a case, for the engine."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def message(self, call_id: int, token: int) -> HTTPReqCallReq:
        return message(self._call, call_id, token)

    def info_reply(self, info: Info) -> bytes | None:
        return self._call.answers.get(info.name if isinstance(info, Var) else "body")


def outcomes_here(case: Case, directory: Path) -> list[Outcome]:
    """Run a case on this runner's engine."""
    for stem, text in case.plugins.items():
        (directory / f"{stem}.py").write_text(text, encoding="utf-8")
    registry = Registry.load([directory], builtins=False, entry_points=False)
    assert registry.problems == []

    async def run() -> list[Outcome]:
        engine = Engine(asyncio.get_running_loop(), registry, Limits(10.0, "refuse"), MemoryBackend())
        found = []
        try:
            for call in case.calls:
                sent: Any = Sent(call)  # it has the two methods that the engine uses
                result = await engine.call(sent, PRE_REQ, case.conf, {})
                found.append(outcome(call, result.reply))
            return found
        finally:
            await engine.close()

    return asyncio.run(run())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.release}: {case.name}")
def test_the_outcome_is_that_of_the_release(case: Case, tmp_path: Path) -> None:
    """If there is a difference, its own outcome is expected."""
    difference = DIFFERENCES.get((case.release, case.name))
    expected = RECORDED[case.release][case.name] if difference is None else difference.outcomes
    assert outcomes_here(case, tmp_path) == expected


def test_each_difference_differs() -> None:
    """No difference has the outcome of the release, or belongs to a case that does not exist."""
    same = [key for key, difference in DIFFERENCES.items() if RECORDED[key[0]][key[1]] == difference.outcomes]
    assert same == []


def test_each_case_was_recorded() -> None:
    """Each case has a recording, and each recording has a case."""
    recorded = {(release, name) for release, names in RECORDED.items() for name in names}
    assert recorded == {(case.release, case.name) for case in CASES}
