# SPDX-License-Identifier: Apache-2.0
"""plugins/limit_req.py. tests/integration/test_limits.py of the runner has several workers and machines."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client

DAY = {"group": "demo", "rate": 1 / 86400, "nodelay": True}
"""One request per day, so that the duration of a test does not matter."""


def statuses(client: Client, count: int, config: dict[str, Any], remote_addr: str = "127.0.0.1") -> list[int]:
    """Return the statuses of several calls. A request that continues counts as 200."""
    results = [client.get("/", plugins=[("limit-req", config)], remote_addr=remote_addr) for _ in range(count)]
    return [result.reply.status if result.stopped else 200 for result in results]


def test_burst(client: Client) -> None:
    """One request and the burst pass, and after a pause again. All others are refused."""
    before = statuses(client, 5, {**DAY, "burst": 2})
    client.advance(3 * 86400)
    after = statuses(client, 4, {**DAY, "burst": 2})

    assert (before, after) == ([200, 200, 200, 429, 429], [200, 200, 200, 429])


def test_rate(client: Client) -> None:
    """Later requests pass at the rate, after the time in Retry-After."""
    statuses(client, 3, {**DAY, "burst": 2})
    client.advance(86400 - 7200)
    result = client.get("/", plugins=[("limit-req", {**DAY, "burst": 2})])
    client.advance(7200)

    assert (result.reply.status, 7100 < int(result.reply.headers["retry-after"]) <= 7200) == (429, True)
    assert statuses(client, 2, {**DAY, "burst": 2}) == [200, 429]


def test_delay(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `nodelay`, requests that come early wait until they are on time."""
    sleep = AsyncMock()
    monkeypatch.setitem(vars(client.plugin("limit-req"))["on_request"].__globals__, "asyncio", SimpleNamespace(sleep=sleep))
    passed = statuses(client, 4, {"group": "demo", "rate": 0.1, "burst": 2})

    assert passed == [200, 200, 200, 429]
    assert [round(call.args[0]) for call in sleep.await_args_list] == [0, 10, 20]


def test_workers_count_together(client: Client, apisix_registry: Registry) -> None:
    """Two workers count together."""
    with Client(registry=apisix_registry, share_store=client) as other:
        passed = [statuses(each, 1, {**DAY, "burst": 1}) for each in (client, other, client, other)]

    assert passed == [[200], [200], [429], [429]]


def test_separate_limits(client: Client) -> None:
    """Each client has its own limit, and so has each group."""
    passed = [statuses(client, 2, DAY), statuses(client, 2, DAY, "::1"), statuses(client, 2, {**DAY, "group": "other"})]

    assert passed == [[200, 429]] * 3


@pytest.mark.parametrize("names", [("ali", "cassim", "ali"), ("é\udcff" * 2000, "x", "é\udcff" * 2000)], ids=["names", "any text"])
def test_key_is_a_variable(client: Client, names: tuple[str, ...]) -> None:
    """The variable that identifies a client can be configured. Its value can be any text."""
    plugins = [("limit-req", {**DAY, "key": "consumer_name"})]
    results = [client.get("/", vars={"consumer_name": name}, plugins=plugins) for name in names]

    assert [result.stopped for result in results] == [False, False, True]


def test_variable_that_is_missing(client: Client) -> None:
    """A client without the variable is identified by its address."""
    config = {**DAY, "key": "consumer_name"}
    passed = [statuses(client, 1, config), statuses(client, 1, config, "::1"), statuses(client, 1, config)]

    assert passed == [[200], [200], [429]]


def test_rejected_code(client: Client) -> None:
    """The status of refused requests can be configured."""
    assert statuses(client, 2, {**DAY, "rejected_code": 503}) == [200, 503]


def test_longest_delay(client: Client) -> None:
    """A limit that would delay requests for longer than a gateway waits is refused."""
    result = client.get("/", plugins=[("limit-req", {"group": "demo", "rate": 1, "burst": 31})], raise_errors=False)

    assert result.reply.status == 503
    assert statuses(client, 1, {"group": "demo", "rate": 1, "burst": 31, "nodelay": True}) == [200]


@pytest.mark.parametrize(
    "change",
    [
        *({"rate": value} for value in (0, -1, True, "5", None, float("nan"), 1e300, 1e-300)),
        *({"burst": value} for value in (-1, True, "5", 1.5, None, float("nan"), 10**30)),
        {"rate": 0.001, "burst": 10**6},
        {"group": ""},
        {"group": "x" * 2000},
        {"key": ""},
        {"BURST": 5},
    ],
    ids=repr,
)
def test_invalid_configurations(client: Client, change: dict[str, Any]) -> None:
    """A configuration that can't work is refused as a whole, instead of each call."""
    with pytest.raises(ChainRefused, match=next(iter(change))):
        statuses(client, 1, {**DAY, **change})
