# SPDX-License-Identifier: Apache-2.0
"""
Give each consumer a budget of tokens per day, counted for all workers together.

When to use it: if a provider of language models bills you by tokens, for requests in OpenAI's format. Each request reserves
the most that it can use, so requests at the same time can't exceed the budget, and gets the rest back when the response reports
its usage. Streams keep their reservation, in which a link to an image counts as its text. List it under ext-plugin-post-req,
where the consumer is known, and under ext-plugin-post-resp. All workers share the counts, and with `state.url` all machines.

Task: AI gateway
Keywords: token budget, token quota, LLM cost control, max_tokens, usage, OpenAI, rate limit by tokens, consumer, store, incr
"""

import hashlib
import time
from typing import Annotated, Any

import msgspec

from apisix import Plugin, Reply, Request, Response

_LIMITS, _COUNTS = ("max_tokens", "max_completion_tokens"), ("n", "best_of")


class TokenBudgetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The budget of a consumer in a window, and the longest completion. `bytes_per_token` estimates the tokens of the prompt."""

    tokens: Annotated[int, msgspec.Meta(ge=1, le=10**12)]
    window_s: Annotated[int, msgspec.Meta(ge=1, le=366 * 86400)] = 86400
    key: Annotated[str, msgspec.Meta(min_length=1)] = "consumer_name"
    max_completion: Annotated[int, msgspec.Meta(ge=1, le=10**6)] = 4096
    bytes_per_token: Annotated[int, msgspec.Meta(ge=1, le=4)] = 3


class TokenBudget(Plugin[TokenBudgetConfig]):
    """Refuse requests of consumers that have used up their tokens."""

    on_error = "refuse"  # with a 503, if the store is not available

    async def on_request(self, request: Request) -> Reply | None:
        config, window_s, now_s = self.config, self.config.window_s, int(time.time())
        consumer = await request.avar(config.key)
        if not consumer:
            return Reply(401, json={"error": {"message": "the consumer is not known"}})
        try:
            body = await request.ajson()
            # Providers whose programs ignore the case of names would use MAX_TOKENS, so it is refused.
            is_misspelt = any(name.casefold() in (*_LIMITS, *_COUNTS) and name != name.casefold() for name in body)
            if is_misspelt or any(_tokens(body[name]) != 1 for name in _COUNTS if name in body):
                raise ValueError("another name, or more than one completion")
            limit = min([config.max_completion, *(_tokens(body.pop(name)) for name in _LIMITS if name in body)])
            request.body = msgspec.json.encode({**body, "max_tokens": limit})
        except (ValueError, TypeError, AttributeError, RecursionError):
            return Reply(400, json={"error": {"message": "the body must be a JSON object, for one completion, with a limit above 0"}})
        request.headers["content-type"], reserved = "application/json", len(request.body) // config.bytes_per_token + limit
        identity = hashlib.sha256(consumer.encode("utf-8", "surrogateescape")).hexdigest()
        key = f"{identity}:{window_s}:{now_s // window_s}"  # with the window, for responses that arrive in the next one
        # If the store is not available, this raises, and the request is refused. `fallback=0` would let it pass without a budget.
        used = await self.store.aincr(key, reserved, ttl_s=2.0 * window_s)
        if used > config.tokens:
            await self.store.aincr(key, -reserved, ttl_s=2.0 * window_s)
            return Reply(429, json={"error": {"message": "no tokens are left"}}, headers={"retry-after": str(window_s - now_s % window_s)})
        (await request.ametadata())["token_budget"] = {"key": key, "reserved": reserved}
        request.response_headers["x-budget-remaining"] = str(config.tokens - used)
        return None

    async def on_response(self, response: Response) -> None:
        mine: dict[str, Any] | None = (await response.ametadata()).get("token_budget")
        try:
            used = 0 if response.status >= 400 else _tokens((await response.ajson())["usage"]["total_tokens"])
        except (ValueError, KeyError, TypeError):
            return  # a stream, or no usage
        if mine is not None:  # fallback: the client gets its response, and the reservation stays
            await self.store.aincr(mine["key"], used - mine["reserved"], ttl_s=2.0 * self.config.window_s, fallback=None)


def _tokens(value: object) -> int:
    if type(value) is not int or not 0 < value < 10**9:
        raise ValueError("not a number of tokens")
    return value
