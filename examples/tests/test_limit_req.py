# SPDX-License-Identifier: Apache-2.0
"""plugins/limit_req.py."""

from dataclasses import dataclass

import pytest

from apisix.testing import Client


@dataclass
class Clock:
    """The time that the plugin reads."""

    now_s: float = 1000.0


@pytest.fixture
def clock(client: Client, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that the test sets."""
    clock = Clock()
    module = vars(client.plugin("limit-req"))["on_request"].__globals__
    monkeypatch.setitem(module, "monotonic", lambda: clock.now_s)
    return clock


def statuses(client: Client, count: int, config: dict[str, object], remote_addr: str = "127.0.0.1") -> list[int]:
    """Return the statuses of several calls. A request that continues counts as 200."""
    results = [client.get("/", plugins=[("limit-req", config)], remote_addr=remote_addr) for _ in range(count)]
    return [result.reply.status if result.stopped else 200 for result in results]


def test_burst_and_rate(client: Client, clock: Clock) -> None:
    """The burst passes at once. Later calls pass at the configured rate."""
    config: dict[str, object] = {"rate": 2, "burst": 3}

    assert statuses(client, 5, config) == [200, 200, 200, 429, 429]
    clock.now_s += 0.5
    assert statuses(client, 2, config) == [200, 429]
    clock.now_s += 3600
    assert statuses(client, 4, config) == [200, 200, 200, 429]


def test_each_client_for_itself(client: Client, clock: Clock) -> None:
    """Clients have separate limits."""
    assert statuses(client, 2, {"rate": 1}) == [200, 429]
    assert statuses(client, 2, {"rate": 1}, remote_addr="::1") == [200, 429]


def test_says_when_to_come_again(client: Client, clock: Clock) -> None:
    """A client that waits for the time in Retry-After is accepted."""
    config: dict[str, object] = {"rate": 0.1}
    statuses(client, 1, config)
    clock.now_s += 3
    result = client.get("/", plugins=[("limit-req", config)])

    assert (result.reply.status, result.reply.headers["retry-after"]) == (429, "7")
    clock.now_s += 7
    assert statuses(client, 1, config) == [200]


def test_key_is_a_variable(client: Client, clock: Clock) -> None:
    """The variable that identifies a client can be configured."""
    plugins = [("limit-req", {"rate": 1, "key": "consumer_name"})]
    first, second, third = (client.get("/", vars={"consumer_name": name}, plugins=plugins) for name in ("ali", "cassim", "ali"))

    assert [result.stopped for result in (first, second, third)] == [False, False, True]
    assert third.asked == ("consumer_name",)


def test_memory_is_bounded(client: Client, clock: Clock) -> None:
    """If there are too many clients, the least recent one is removed."""
    config: dict[str, object] = {"rate": 1, "max_clients": 2}
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"):
        statuses(client, 1, config, address)

    assert statuses(client, 1, config, "10.0.0.1") == [429]
    assert statuses(client, 1, config, "10.0.0.2") == [200]
