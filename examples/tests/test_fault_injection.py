# SPDX-License-Identifier: Apache-2.0
"""plugins/fault_injection.py."""

import asyncio

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import ChainRefused, Client


@pytest.fixture
def slept_s(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the delays that the plugin requested. It does not sleep, and each random number is 30 percent."""
    slept: list[float] = []

    class Asyncio:
        @staticmethod
        async def sleep(delay_s: float) -> None:
            slept.append(delay_s)

    class Random:
        @staticmethod
        def random() -> float:
            return 0.3

    module = vars(client.plugin("fault-injection"))["on_request"].__globals__
    monkeypatch.setitem(module, "asyncio", Asyncio)
    monkeypatch.setitem(module, "random", Random)
    return slept


@pytest.mark.parametrize(("percentage", "delays"), [(100, [5.0]), (31, [5.0]), (30, []), (0, [])])
def test_delay(client: Client, slept_s: list[float], percentage: int, delays: list[float]) -> None:
    """The percentage of calls is delayed, and then continues."""
    result = client.get("/", plugins=[("fault-injection", {"delay_s": 5, "delay_percentage": percentage})])

    assert not result.stopped
    assert delays == slept_s


@pytest.mark.parametrize(("percentage", "status"), [(100, 418), (31, 418), (30, None), (0, None)])
def test_abort(client: Client, slept_s: list[float], percentage: int, status: int | None) -> None:
    """The percentage of calls gets the status."""
    result = client.get("/", plugins=[("fault-injection", {"abort_status": 418, "abort_percentage": percentage})])

    assert status == (result.reply.status if result.stopped else None)


async def test_delays_run_side_by_side(apisix_registry: Registry) -> None:
    """Fifty calls with a delay of 0.2 s wait at the same time."""
    async with Client(registry=apisix_registry) as client, asyncio.timeout(2):
        await asyncio.gather(*(client.aget("/", plugins=[("fault-injection", {"delay_s": 0.2})]) for _ in range(50)))


@pytest.mark.parametrize("config", [{"delay_percentage": 101}, {"delay_s": 60}, {"abort_status": 99}])
def test_out_of_bounds(client: Client, config: dict[str, int]) -> None:
    """A number that is out of range is refused, and the message names the field."""
    with pytest.raises(ChainRefused, match=next(iter(config))):
        client.get("/", plugins=[("fault-injection", config)])
