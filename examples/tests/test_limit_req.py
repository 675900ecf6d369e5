# SPDX-License-Identifier: Apache-2.0
"""plugins/limit_req.py."""

from dataclasses import dataclass

import pytest

from apisix.testing import Client


@dataclass
class Clock:
    """The time as the plugin sees it."""

    now_s: float = 1000.0


@pytest.fixture
def clock(client: Client, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test turns."""
    clock = Clock()
    module = vars(client.plugin("limit-req"))["on_request"].__globals__
    monkeypatch.setitem(module, "monotonic", lambda: clock.now_s)
    return clock


def statuses(client: Client, count: int, config: dict[str, object], remote_addr: str = "127.0.0.1") -> list[int]:
    """Call several times. A request that goes on counts as a 200."""
    results = [client.get("/", plugins=[("limit-req", config)], remote_addr=remote_addr) for _ in range(count)]
    return [result.reply.status if result.stopped else 200 for result in results]


def test_burst_and_rate(client: Client, clock: Clock) -> None:
    """So many at once, and from then on as many as the time that has passed allows."""
    config: dict[str, object] = {"rate": 2, "burst": 3}

    assert [200, 200, 200, 429, 429] == statuses(client, 5, config)
    clock.now_s += 0.5
    assert [200, 429] == statuses(client, 2, config)
    clock.now_s += 3600
    assert [200, 200, 200, 429] == statuses(client, 4, config)


def test_each_client_for_itself(client: Client, clock: Clock) -> None:
    """One client does not use up what another has."""
    assert [200, 429] == statuses(client, 2, {"rate": 1})
    assert [200, 429] == statuses(client, 2, {"rate": 1}, remote_addr="::1")


def test_says_when_to_come_again(client: Client, clock: Clock) -> None:
    """Who waits as long as Retry-After says is let in."""
    config: dict[str, object] = {"rate": 0.1}
    statuses(client, 1, config)
    clock.now_s += 3
    result = client.get("/", plugins=[("limit-req", config)])

    assert (429, "7") == (result.reply.status, result.reply.headers["retry-after"])
    clock.now_s += 7
    assert [200] == statuses(client, 1, config)


def test_key_is_a_variable(client: Client, clock: Clock) -> None:
    """What counts as one client can be chosen."""
    plugins = [("limit-req", {"rate": 1, "key": "consumer_name"})]
    first, second, third = (client.get("/", vars={"consumer_name": name}, plugins=plugins) for name in ("ali", "cassim", "ali"))

    assert [False, False, True] == [result.stopped for result in (first, second, third)]
    assert ("consumer_name",) == third.asked


def test_memory_is_bounded(client: Client, clock: Clock) -> None:
    """With too many clients, who was silent longest is forgotten first."""
    config: dict[str, object] = {"rate": 1, "max_clients": 2}
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"):
        statuses(client, 1, config, address)

    assert [429] == statuses(client, 1, config, "10.0.0.1")
    assert [200] == statuses(client, 1, config, "10.0.0.2")
