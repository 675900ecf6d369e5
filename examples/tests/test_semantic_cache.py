# SPDX-License-Identifier: Apache-2.0
"""plugins/semantic_cache.py."""

from typing import Any

import pytest

from apisix.runner.plugin.loading.registry import Registry
from apisix.testing import Client, Result

PLUGINS: list[Any] = [("semantic-cache", {})]
VARS = {"consumer_name": "ali", "route_id": "1", "request_uri": "/chat"}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Nine."}}]}


def ask(client: Client, prompt: Any, variables: dict[str, str] | None = None, system: str = "", config: Any = None, **body: Any) -> Result:
    """Send a prompt. It is stopped if a response is in the cache."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    plugins: list[Any] = [("semantic-cache", config or {})]
    return client.post("/chat", json={"model": "m", "messages": messages, **body}, plugins=plugins, vars=VARS | (variables or {}))


def respond(client: Client, of: Result, status: int = 200, config: Any = None) -> Result:
    """Send the response of the model."""
    return client.respond(status, json=ANSWER, plugins=[("semantic-cache", config or {})], of=of)


def test_similar_prompt(client: Client, apisix_registry: Registry) -> None:
    """A prompt of the same meaning gets the response, in each worker."""
    first = ask(client, "When do you open today?")
    respond(client, first)
    with Client(registry=apisix_registry, share_store=client) as other:
        second = ask(other, "today, when DO you open")

    assert not first.stopped
    assert (second.reply.status, second.reply.json(), second.reply.headers["x-semantic-cache"]) == (200, ANSWER, "1.000")
    assert second.reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "When do you close?"},
        {"prompt": "???"},
        {"variables": {"consumer_name": "zoe"}},
        {"variables": {"http_authorization": "Bearer other"}},
        {"variables": {"http_cookie": "session=other"}},
        {"variables": {"http_x_api_key": "other"}},
        {"variables": {"route_id": "2"}},
        {"system": "You are a pirate."},
        {"model": "n"},
        {"temperature": 1},
        {"stream": True},
        {"config": {"threshold": 1.0}, "prompt": "When do you open, today?!"},
    ],
    ids=str,
)
def test_other_request(client: Client, changed: Any) -> None:
    """A prompt with another meaning, or whose context differs in anything, goes to the upstream."""
    respond(client, ask(client, "When do you open?"))

    request: dict[str, Any] = {"prompt": "When do you open?", **changed}

    assert not ask(client, **request).stopped


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"messages": []}', b'{"messages": [1]}', b'{"messages": [{"content": [{}]}]}'])
def test_not_cacheable(client: Client, body: bytes) -> None:
    """Other requests pass."""
    result = client.post("/chat", body=body, plugins=PLUGINS)

    assert not result.stopped
    assert respond(client, result).response.json() == ANSWER


def test_failure_of_the_model(client: Client) -> None:
    """Responses other than 200 are not cached."""
    respond(client, ask(client, "Hello?"), status=500)

    assert not ask(client, "Hello?").stopped


def test_expiry(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that has expired does not hide one that has not."""

    class Clock:
        now_s = 1000.0

        def time(self) -> float:
            return self.now_s

    clock = Clock()
    monkeypatch.setitem(vars(client.plugin("semantic-cache"))["on_request"].__globals__, "time", clock)
    respond(client, ask(client, "Hello?"))
    clock.now_s += 3600
    expired = ask(client, "Hello?")
    respond(client, expired)

    assert not expired.stopped
    assert ask(client, "Hello?").stopped


def test_number_of_entries(client: Client) -> None:
    """Only the latest responses are kept."""
    config = {"entries": 2}
    for prompt in ("one", "two", "three"):
        respond(client, ask(client, prompt, config=config), config=config)

    assert [ask(client, prompt).stopped for prompt in ("one", "two", "three")] == [False, True, True]
