# SPDX-License-Identifier: Apache-2.0
"""
Give each consumer a budget of tokens per day, counted for all workers together.

When to use it: if a provider of language models bills you by tokens, for requests in OpenAI's format. Each request reserves
the most that it can use, so requests at the same time can't exceed the budget, and gets the rest back when the response reports
its usage. Streams keep their reservation. List it under ext-plugin-post-req, where the consumer is known, and under
ext-plugin-post-resp. All workers of a machine share the counts. If the store is full (`state.size`), it evicts some.

Task: AI gateway
Keywords: token budget, token quota, LLM cost control, max_tokens, usage, OpenAI, rate limit by tokens, consumer, store, incr
"""

import hashlib
import time
from typing import Annotated, Any

import msgspec

from apisix import Plugin, Reply, Request, Response

_LIMITS = ("max_tokens", "max_completion_tokens")  # two names for the same limit


class TokenBudgetConfig(msgspec.Struct, frozen=True):
    """The budget of a consumer in a window, and the longest completion. `bytes_per_token` estimates the tokens of the prompt."""

    tokens: Annotated[int, msgspec.Meta(ge=1, le=10**12)]
    window_s: Annotated[int, msgspec.Meta(ge=1, le=366 * 86400)] = 86400
    key: str = "consumer_name"
    max_completion: Annotated[int, msgspec.Meta(ge=1, le=10**6)] = 4096
    bytes_per_token: Annotated[int, msgspec.Meta(ge=1, le=4)] = 3


class TokenBudget(Plugin[TokenBudgetConfig]):
    """Refuse requests of consumers that have used up their tokens."""

    on_error = "refuse"  # if the store is not available, nothing is counted, so nothing is allowed

    def on_request(self, request: Request) -> Reply | None:
        config, now_s = self.config, int(time.time())
        consumer = request.var(config.key)
        if not consumer:
            return Reply(401, json={"error": {"message": "the consumer is not known"}})
        try:
            body = request.json()
            if any(body.get(name, 1) != 1 for name in ("n", "best_of")):
                raise ValueError("more than one completion")
            limit = min([config.max_completion, *(_tokens(body.pop(name)) for name in _LIMITS if name in body)])
        except (ValueError, AttributeError):
            return Reply(400, json={"error": {"message": "the body must be a JSON object, for one completion, with a limit above 0"}})
        request.body = msgspec.json.encode({**body, "max_tokens": limit})
        request.headers["content-type"] = "application/json"
        reserved = len(request.body) // config.bytes_per_token + limit
        # The window is part of the key, so a response that arrives in the next one changes the count of its own.
        identity = hashlib.sha256(consumer.encode("utf-8", "surrogateescape")).hexdigest()
        key = f"{identity}:{config.window_s}:{now_s // config.window_s}"
        used = self.store.incr(key, reserved, ttl_s=2.0 * config.window_s)  # atomic, so each request sees those before it
        if used > config.tokens:
            self.store.incr(key, -reserved, ttl_s=2.0 * config.window_s)
            wait_s = str(config.window_s - now_s % config.window_s)
            return Reply(429, json={"error": {"message": "the budget is used up"}}, headers={"retry-after": wait_s})
        request.metadata()["token_budget"] = {"key": key, "reserved": reserved}
        request.response_headers["x-budget-remaining"] = str(config.tokens - used)
        return None

    def on_response(self, response: Response) -> None:
        mine: dict[str, Any] | None = response.metadata().get("token_budget")
        try:
            used = 0 if response.status >= 400 else _tokens(response.json()["usage"]["total_tokens"])
        except (ValueError, KeyError, TypeError):
            return  # a stream, or no usage
        if mine is not None:  # fallback: the client gets its response, and the reservation stays
            self.store.incr(mine["key"], used - mine["reserved"], ttl_s=2.0 * self.config.window_s, fallback=None)


def _tokens(value: object) -> int:
    if type(value) is not int or not 0 < value < 10**9:
        raise ValueError("not a number of tokens")
    return value
