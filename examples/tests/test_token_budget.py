# SPDX-License-Identifier: Apache-2.0
"""plugins/token_budget.py."""

import asyncio
from typing import Any

import pytest

from apisix.runner.errors import ChainRefused
from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result

PROMPT = {"messages": [{"role": "user", "content": "hello"}]}


class Clock:
    """The clock of the plugin."""

    now_s = 1000.0

    def time(self) -> float:
        """Return the time, in seconds."""
        return self.now_s


@pytest.fixture
def clock(client: Client, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the plugin's clock."""
    clock = Clock()
    monkeypatch.setitem(vars(client.plugin("token-budget"))["on_request"].__globals__, "time", clock)
    return clock


def call(client: Client, body: Any = None, consumer: str | None = "ali", **config: Any) -> Result:
    """Send a request with a budget of 1000 tokens per 100 s, of which a completion can have 400."""
    plugins = [("token-budget", {"tokens": 1000, "window_s": 100, "max_completion": 400, **config})]
    return client.post("/", json=PROMPT if body is None else body, plugins=plugins, vars={"consumer_name": consumer})


def complete(client: Client, of: Result, status: int = 200, **body: Any) -> Result:
    """Send the response of the provider."""
    return client.respond(status, json=body, plugins=[("token-budget", {"tokens": 1000, "window_s": 100})], of=of)


@pytest.mark.usefixtures("clock")
def test_usage_is_counted(client: Client, apisix_registry: Registry) -> None:
    """The usage that responses report is counted, in all workers."""
    with Client(registry=apisix_registry, share_store=client) as other:
        first = call(client)
        complete(client, first, usage={"total_tokens": 10})
        second = call(other)
        complete(other, second, usage={"total_tokens": 600})
        third = call(client)
    left = [int(result.client_headers["x-budget-remaining"]) for result in (first, second)]

    assert left[0] - left[1] == 10
    assert (third.reply.status, third.reply.headers["retry-after"]) == (429, "100")


@pytest.mark.usefixtures("clock")
def test_requests_at_the_same_time(client: Client, apisix_registry: Registry) -> None:
    """Requests in progress have reserved what they can use, so others are refused. A refused one reserves nothing."""
    with Client(registry=apisix_registry, share_store=client) as other:
        results = [call(each) for each in (client, other, client, other)]
        complete(other, results[1], usage={"total_tokens": 1})

        assert [result.stopped for result in results] == [False, False, True, True]
        assert not call(client).stopped


async def test_race(apisix_registry: Registry) -> None:
    """Exactly two of ten simultaneous requests pass."""
    plugins = [("token-budget", {"tokens": 1000, "max_completion": 400})]
    async with Client(registry=apisix_registry) as client:
        calls = (client.apost("/", json=PROMPT, plugins=plugins, vars={"consumer_name": "ali"}) for _ in range(10))
        results = await asyncio.gather(*calls)

    assert sum(not result.stopped for result in results) == 2


@pytest.mark.usefixtures("clock")
def test_each_consumer(client: Client) -> None:
    """Each consumer has its own budget. A request without one is refused."""
    statuses = [call(client, consumer=name, tokens=500).stopped for name in ("ali", "zoe", "ali")]

    assert statuses == [False, False, True]
    assert call(client, consumer=None).reply.status == 401


def test_window(client: Client, clock: Clock) -> None:
    """The next window has the whole budget. A response that arrives in it changes the count of its own window."""
    first = call(client, tokens=500)
    clock.now_s += 100
    complete(client, first, usage={"total_tokens": 1})
    second, third = call(client, tokens=500), call(client, tokens=500)

    assert (second.stopped, third.stopped) == (False, True)
    assert second.client_headers["x-budget-remaining"] == first.client_headers["x-budget-remaining"]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("status", "body", "is_kept"),
    [
        (200, {"usage": {"total_tokens": 1}}, False),
        (500, {"error": {}}, False),
        (200, {}, True),
        (200, {"usage": None}, True),
        (200, {"usage": {"total_tokens": -5}}, True),
        (200, {"usage": {"total_tokens": "1"}}, True),
        (200, {"usage": {"total_tokens": 10**30}}, True),
        (200, {"usage": {"total_tokens": 0}}, True),
        (200, {"usage": {"total_tokens": True}}, True),
        (200, {"usage": {"total_tokens": 1.0}}, True),
        (200, {"usage": {"TOTAL_TOKENS": 1}}, True),
        (200, {"Usage": {"total_tokens": 1}}, True),
        (200, {"usage": [1]}, True),
    ],
)
def test_responses(client: Client, status: int, body: Any, *, is_kept: bool) -> None:
    """An error uses nothing. If the usage is not known, the reservation stays."""
    complete(client, call(client, tokens=500), status, **body)

    assert call(client, tokens=500).stopped == is_kept


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("usage", ["NaN", "Infinity", "-Infinity", "1e400", "[" * 5000 + "]" * 5000, '"\\ud800"'])
def test_responses_that_are_not_quite_json(client: Client, usage: str) -> None:
    """If the usage is not a whole number, the reservation stays, and the client gets the response."""
    body = f'{{"usage": {{"total_tokens": {usage}}}}}'.encode()
    result = client.respond(200, body=body, plugins=[("token-budget", {"tokens": 500, "window_s": 100})], of=call(client, tokens=500))

    assert (result.response.body, call(client, tokens=500).stopped) == (body, True)


def test_limits(client: Client) -> None:
    """The upstream gets one limit, which the client can lower."""
    bodies = [{}, {"max_tokens": 7}, {"max_tokens": 900, "max_completion_tokens": 900}, {"max_tokens": 9, "max_completion_tokens": 8}]
    sent = [call(client, {**PROMPT, **body}, tokens=10**6).upstream.json() for body in bodies]

    assert [body["max_tokens"] for body in sent] == [400, 7, 400, 8]
    assert all("max_completion_tokens" not in body for body in sent)


@pytest.mark.parametrize(
    "body",
    [
        [],
        "x",
        *({name: value} for name in ("max_tokens", "max_completion_tokens") for value in (0, -5, True, "9", None, 9.0, 10**9, 10**30)),
        *({name: value} for name in ("n", "best_of") for value in (0, -1, 2, True, "1", None, 1.0, 10**30)),
        {"MAX_TOKENS": 9},
        {"Max_Completion_Tokens": 9},
        {"max_to\u212aens": 9},
        {"max_token\u017f": 9},
        {"max_tokens": 9, "MAX_TOKENS": 10**6},
        {"N": 1},
        {"Best_Of": 1},
    ],
    ids=repr,
)
def test_invalid_requests(client: Client, body: Any) -> None:
    """A request whose use can't be limited is refused."""
    assert call(client, body).reply.status == 400


@pytest.mark.parametrize(
    "body",
    [
        *(f'{{"max_tokens": {limit}}}' for limit in ("NaN", "Infinity", "-Infinity", "1e400", "9" * 5000, "-0")),
        '{"max_tokens": 9, "max_tokens": 0}',
        '{"user": "\\ud800"}',
        "[" * 5000 + "]" * 5000,
        "[1]",
        '"n"',
        "5",
        "null",
    ],
    ids=lambda body: body[:30],
)
def test_invalid_json(client: Client, body: str) -> None:
    """Python reads some numbers that are not JSON, and of two limits the last one."""
    result = client.post("/", body=body, plugins=[("token-budget", {"tokens": 9})], vars={"consumer_name": "ali"})

    assert result.reply.status == 400


@pytest.mark.parametrize("depth", [10, 900, 990])
def test_deep_prompt(client: Client, depth: int) -> None:
    """Deep JSON passes with a limit, or is refused."""
    body = f'{{"x": {"[" * depth}{"]" * depth}}}'
    result = client.post("/", body=body, plugins=[("token-budget", {"tokens": 10**6})], vars={"consumer_name": "ali"})

    assert result.reply.status == 400 if result.stopped else result.upstream.body.endswith(b',"max_tokens":4096}')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("tokens", "window_s", "max_completion", "bytes_per_token") for value in (0, -1, True, "5", 1.5, None)),
        *((name, 10**30) for name in ("tokens", "window_s", "max_completion", "bytes_per_token")),
        ("tokens", float("nan")),
        ("max_completion", float("inf")),
        ("MAX_COMPLETION", 5),
        ("Tokens", 5),
        ("key", ""),
    ],
)
def test_invalid_configurations(client: Client, name: str, value: Any) -> None:
    """A value that is not a number of tokens, or a name in another case, is refused when the route is configured."""
    with pytest.raises(ChainRefused, match=rf"{name}"):
        call(client, **{name: value})


def test_long_prompt(client: Client) -> None:
    """The prompt counts too."""
    assert call(client, {"messages": [{"role": "user", "content": "x" * 2000}]}).reply.status == 429


def test_other_responses(client: Client) -> None:
    """A response to a request that was not counted passes, also a stream."""
    result = client.respond(200, {"content-type": "text/event-stream"}, b"data: {}\n\n", plugins=[("token-budget", {"tokens": 1})])

    assert result.response.body == b"data: {}\n\n"
