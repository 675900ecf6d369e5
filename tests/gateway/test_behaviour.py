# SPDX-License-Identifier: Apache-2.0
"""Compare the gateway with recordings of a real one: client, upstream and runner must receive the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.bed import TestBed
from tests.gateway.behaviour_table import FURTHER, NOT_EMULATED, PAGE, RECORDED, page
from tests.gateway.scenarios import SCENARIOS, Scenario, client_view, runner_view, sorted_pairs, upstream_view


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["scenario"] for scenario in SCENARIOS])
async def test_same_as_the_real_gateway(scenario: Scenario, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Client, upstream and runner receive the same as with APISIX 3.18."""
    name = scenario["scenario"]
    if name in NOT_EMULATED:
        request.applymarker(pytest.mark.xfail(reason=NOT_EMULATED[name], strict=True))
    # What passes through a Lua table has a random order: there names are compared sorted, elsewhere the order counts too.
    ordered = scenario["phase"] != "ext-plugin-post-resp"
    async with TestBed(tmp_path) as bed:
        bed.route(name, f"/{name}/*", _plugins(scenario))
        sent = scenario["request"]
        response = await bed.request(sent["method"], sent["target"], sent["headers"], sent["body"].encode())

    expected = dict(scenario["client_sees"])
    if not ordered:
        expected["headers"] = sorted_pairs(expected["headers"])
    assert client_view(response.status, response.headers, response.body, ordered=ordered) == expected
    assert upstream_view(scenario["upstream_sees"], ordered=ordered) == upstream_view(bed.upstream.seen, ordered=ordered)
    assert runner_view(scenario["runner_sees"]) == runner_view(bed.runner.seen)


def _plugins(scenario: Scenario) -> dict[str, Any]:
    plugins: dict[str, Any] = json.loads(json.dumps(scenario["route_plugins"]))
    if scenario["runner_does"] is not None:
        value = json.dumps(scenario["runner_does"])
        plugins[scenario["phase"]]["conf"] = [{"name": "scripted", "value": value}]
    return plugins


def test_page_is_up_to_date() -> None:
    """docs/internals/behaviour.md is generated from the table by `make docs`."""
    assert page() == PAGE.read_text(encoding="utf-8")


def test_page_is_complete() -> None:
    """Each recorded scenario has its line, and each line has a scenario."""
    assert {scenario["scenario"] for scenario in SCENARIOS} == set(RECORDED)
    assert set() == set(NOT_EMULATED) - set(RECORDED)


@pytest.mark.parametrize("test", sorted({test for _, test in FURTHER if test is not None}))
def test_named_tests_exist(test: str) -> None:
    """The tests that the page names exist."""
    file, _, name = test.partition("::")
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")

    assert f"def {name or 'test_'}" in text
