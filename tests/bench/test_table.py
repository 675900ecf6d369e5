# SPDX-License-Identifier: Apache-2.0
"""The table contains its targets, and by how much they are missed."""

from typing import Any

import pytest

from bench.part import Target
from bench.table import markdown, targets


def _mode(ratio: float) -> dict[str, Any]:
    spread = {"median": ratio, "least": ratio, "greatest": ratio}
    return {"cpu_us_per_call": ratio, "calls_per_s": 1.0, "core_share": 1.0, "p50_us": 1.0, "p99_us": 1.0, "ratio": spread}


def _row(case: str = "noop", ratio: float = 1.0, **given: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": case,
        "title": case,
        "connections": 16,
        "target": 1.5,
        "judged": "compiled",
        "compared_with": None,
        "reads_body": False,
        "baseline": _mode(1.0),
        "modes": {"compiled": _mode(ratio), "pure": _mode(9.0)},
        "peers": {},
        "instructions": {"compiled": 12345},
        "problem": None,
    }
    return row | given


def _peer(factor: float) -> dict[str, Any]:
    return _mode(factor) | {"of_ours": {"median": factor, "least": factor, "greatest": factor}}


@pytest.mark.parametrize(("ratio", "cell"), [(1.5, "<= 1.5, met"), (1.65, "<= 1.5, **missed by 10%**")])
def test_the_target_is_compared_with_the_compiled_runner(ratio: float, cell: str) -> None:
    result = {"rows": [_row(ratio=ratio)]}

    assert f"| {cell} |" in markdown(result)
    assert targets(result) == [Target("noop, compiled", "<= 1.5 x the baseline", f"{ratio:.2f} x", ratio <= 1.5)]


def test_instructions_are_beside_the_ratio() -> None:
    assert "| **1.20** (1.20 to 1.20) | 12,345 |" in markdown({"rows": [_row(ratio=1.2)]})


def test_a_legacy_plugin_is_compared_with_the_new_api() -> None:
    legacy = _row("base-noop", 1.8, target=None, compared_with="noop")

    assert targets({"rows": [_row(ratio=1.2), legacy]})[1] == Target("base-noop, compiled", "<= 1.3 x the new API", "1.50 x", False)
    assert "<= 1.3 x new API, 1.50 **missed by 15%**" in markdown({"rows": [_row(ratio=1.2), legacy]})


def test_a_legacy_plugin_without_its_counterpart_has_no_verdict() -> None:
    alone = {"rows": [_row("base-noop", 1.8, target=None, compared_with="noop")]}

    assert targets(alone) == []
    assert "| <= 1.3 x new API |" in markdown(alone)


@pytest.mark.parametrize(("reads_body", "limit"), [(False, "2.0"), (True, "1.5")])
def test_a_peer_is_compared_with_ours(reads_body: bool, limit: str) -> None:
    result = {"rows": [_row(reads_body=reads_body, peers={"go": _peer(1.7)})], "peers": ["go"]}

    assert targets(result)[-1] == Target("noop, go as a multiple of ours", f">= {limit} x", "1.70 x", reads_body)
    assert f"| **1.70** | >= {limit}, {'met' if reads_body else '**missed**'} |" in markdown(result)


def test_a_peer_that_failed_is_not_measured() -> None:
    result = {"rows": [_row(peers={"go": {"problem": "It does not listen.\nmore"}})], "peers": ["go"]}

    assert targets(result) == [Target("noop, compiled", "<= 1.5 x the baseline", "1.00 x", True)]
    assert "| not measured: It does not listen. |" in markdown(result)


def test_a_row_that_failed_is_not_measured() -> None:
    result = {"rows": [_row(problem="The runner hung.\nmore")]}

    assert targets(result) == []
    assert "| not measured: The runner hung. |" in markdown(result)
