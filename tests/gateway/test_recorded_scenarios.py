# SPDX-License-Identifier: Apache-2.0
"""Compare the gateway with scenarios of a real APISIX 3.18: client, upstream and runner must receive the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from apisix.gateway.resources.standalone import RoutesFile
from tests.gateway.bed import TestBed
from tests.gateway.recorded_scenarios import (
    DIFFERENT,
    RECORDED,
    client_view,
    recorded_client_view,
    request_bytes,
    runner_view,
    send_and_receive,
    upstream_view,
    with_ports,
    with_recorded_ports,
)


async def answers(scenario: dict[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Send the requests of a scenario to a development gateway, and return the observations in the form of the recordings."""
    async with TestBed(directory) as bed:
        ports = bed.upstream.ports
        file = directory / "apisix.yaml"
        file.write_text(json.dumps(with_ports(scenario["resources"], ports)) + "\n#END\n", encoding="utf-8")
        RoutesFile(file, bed.store).load()
        found = []
        for request in with_ports(scenario["requests"], ports):
            bed.runner.seen.clear()
            bed.upstream.seen.clear()
            received = await send_and_receive(bed.port, request_bytes(request))
            to_upstream = upstream_view(with_recorded_ports(bed.upstream.seen, ports))
            to_runner = runner_view(with_recorded_ports(bed.runner.seen, ports))
            found.append({"client_sees": client_view(received), "upstream_sees": to_upstream, "runner_sees": to_runner})
        return found


def expected(scenario: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the recorded observations."""
    return [
        {
            "client_sees": recorded_client_view(answer["client_sees"]),
            "upstream_sees": upstream_view(answer["upstream_sees"]),
            "runner_sees": runner_view(answer["runner_sees"], recorded=True),
        }
        for answer in scenario["answers"]
    ]


@pytest.mark.parametrize("scenario", RECORDED, ids=[scenario["scenario"] for scenario in RECORDED])
async def test_same_as_recorded(scenario: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Client, upstream and runner receive the same as with APISIX 3.18."""
    if scenario["scenario"] in DIFFERENT:
        request.applymarker(pytest.mark.xfail(reason=DIFFERENT[scenario["scenario"]], strict=True))

    actual = await answers(scenario, tmp_path)

    assert expected(scenario) == actual
