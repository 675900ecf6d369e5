# SPDX-License-Identifier: Apache-2.0
"""plugins/limit_count.py. tests/integration/test_limits.py of the runner has several workers and machines."""

import asyncio
from typing import Any

import pytest

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result

CONFIG = {"group": "demo", "count": 2, "time_window": 60}


def call(client: Client, name: str | None = None, **config: Any) -> Result:
    """Make a call, of a consumer if its name is given."""
    plugins = [("limit-count", {**CONFIG, **config})]
    return client.get("/", plugins=plugins, vars={} if name is None else {"consumer_name": name})


def test_quota(client: Client) -> None:
    """The client gets the number of remaining calls, and the time until the window ends."""
    results = [call(client) for _ in range(4)]
    replies = [result.reply for result in results[2:]]

    assert [result.client_headers["x-ratelimit-remaining"] for result in results[:2]] == ["1", "0"]
    assert results[0].client_headers["x-ratelimit-limit"] == "2"
    assert [reply.status for reply in replies] == [429, 429]
    assert [reply.headers["x-ratelimit-remaining"] for reply in replies] == ["0", "0"]
    assert all(0 < int(reply.headers["x-ratelimit-reset"]) <= 60 for reply in replies)


def test_workers_count_together(client: Client, apisix_registry: Registry) -> None:
    """Two workers count together."""
    with Client(registry=apisix_registry, share_store=client) as other:
        results = [call(each) for each in (client, other, client, other)]

    assert [result.stopped for result in results] == [False, False, True, True]


async def test_calls_at_the_same_time(apisix_registry: Registry) -> None:
    """Exactly two of ten simultaneous calls pass. The calls overlap, because this is an async test."""
    async with Client(registry=apisix_registry) as client:
        results = await asyncio.gather(*(client.aget("/", plugins=[("limit-count", CONFIG)]) for _ in range(10)))

    assert sum(not result.stopped for result in results) == 2


def test_window(client: Client) -> None:
    """The window begins with the first call. After it, calls are allowed again."""
    first = call(client, count=1)
    client.advance(40)
    second = call(client, count=1)
    client.advance(21)
    third = call(client, count=1)

    assert [first.stopped, second.stopped, third.stopped] == [False, True, False]
    assert 15 <= int(second.reply.headers["x-ratelimit-reset"]) <= 20


@pytest.mark.parametrize("names", [("ali", "cassim", "ali"), ("é\udcff" * 2000, "x", "é\udcff" * 2000)], ids=["names", "any text"])
def test_each_consumer(client: Client, names: tuple[str, ...]) -> None:
    """The variable that identifies a client can be configured. Its value can be any text."""
    results = [call(client, name, key="consumer_name", count=1) for name in names]

    assert [result.stopped for result in results] == [False, False, True]


def test_separate_quotas(client: Client) -> None:
    """Each group has its own counts. A client without the variable is identified by its address."""
    results = [call(client, count=1), call(client, count=1, group="other"), call(client, count=1, key="consumer_name")]

    assert [result.stopped for result in results] == [False, False, True]


def test_rejected_code(client: Client) -> None:
    """The status of refused calls can be configured."""
    call(client, count=1)

    assert call(client, count=1, rejected_code=503).reply.status == 503


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("count", "time_window") for value in (0, -1, True, "5", 1.5, None, float("nan"), 10**30)),
        ("group", ""),
        ("group", "x" * 2000),
        ("key", ""),
        ("COUNT", 5),
    ],
)
def test_invalid_configurations(client: Client, name: str, value: Any) -> None:
    """A configuration that can't work is refused as a whole, instead of each call."""
    with pytest.raises(ChainRefused, match=name):
        call(client, **{name: value})
