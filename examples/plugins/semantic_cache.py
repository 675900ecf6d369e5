# SPDX-License-Identifier: Apache-2.0
"""
Reply to a prompt with the response to an earlier prompt of nearly the same meaning. You bring the embedding model.

When to use it: if many prompts of an application differ in their wording only, for requests in OpenAI's format. Replace `embed`: the one
here counts words, so it finds the same words in another order. List it last under ext-plugin-post-req and ext-plugin-post-resp. Only the
last message is compared by meaning. All else must be equal: the model, the earlier messages, and the variables of `scope`, so that no
client gets the response of another. Prompts that differ in a "not" can be similar, so test your `threshold`. Streams are not cached.

Task: AI gateway
Keywords: semantic cache, LLM cache, embedding, vector, cosine similarity, prompt cache, GPTCache, OpenAI, cost, latency, store
"""

import hashlib
import json
import math
import re
import secrets
import time
import zlib
from typing import Annotated, Any

import msgspec

from apisix import Plugin, Reply, Request, Response


async def embed(text: str) -> list[float]:
    """Return the meaning of a text as a vector of length 1. Call your model here, with a timeout."""
    vector = [0.0] * 64
    for word in re.findall(r"\w+", text.casefold()):
        vector[zlib.crc32(word.encode()) % 64] += 1
    return [round(value / (math.hypot(*vector) or 1.0), 5) for value in vector]


class SemanticCacheConfig(msgspec.Struct, frozen=True):
    """How similar a prompt must be (1: the same), and how long and how many responses are kept for each scope."""

    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.95
    keep_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 3600.0
    entries: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    scope: tuple[str, ...] = ("route_id", "request_uri", "consumer_name", "http_authorization", "http_cookie", "http_x_api_key")


class SemanticCache(Plugin[SemanticCacheConfig]):
    """Reply with the response to a similar prompt."""

    on_error = "pass"  # without the cache, the upstream answers

    async def on_request(self, request: Request) -> Reply | None:
        try:
            body = await request.ajson()
            prompt: str = "" + body["messages"][-1].pop("content")
        except (ValueError, LookupError, TypeError, AttributeError):
            return None  # not a request that can be cached
        if body.get("stream"):
            return None
        rest = json.dumps([body, *[await request.avar(name) for name in self.config.scope]], sort_keys=True)
        scope = hashlib.sha256(rest.encode()).hexdigest()
        index: list[dict[str, Any]] = await self.store.aget(scope) or []  # the latest prompt first
        vector, best, best_key = await embed(prompt), 0.0, ""
        for entry in index:
            similarity = sum(map(float.__mul__, vector, entry["vector"]))  # the cosine of their angle, since both have the length 1
            if similarity > best and time.time() < entry["expires_at_s"]:
                best, best_key = similarity, entry["key"]
        found = await self.store.aget(best_key) if best >= self.config.threshold else None
        if found is not None:
            return Reply(200, found, {"content-type": "application/json", "x-semantic-cache": f"{best:.3f}"})
        (await request.ametadata())["semantic_cache"] = {"scope": scope, "vector": vector}
        return None

    async def on_response(self, response: Response) -> None:
        mine: dict[str, Any] | None = (await response.ametadata()).get("semantic_cache")
        if mine is None or response.status != 200 or "json" not in response.headers.get("content-type", ""):
            return
        key, keep_s = secrets.token_hex(16), self.config.keep_s
        index: list[dict[str, Any]] = await self.store.aget(mine["scope"]) or []
        await self.store.aset(key, await response.aread(), keep_s)
        entries = [{"expires_at_s": time.time() + keep_s, "vector": mine["vector"], "key": key}, *index][: self.config.entries]
        await self.store.acas(mine["scope"], index or None, entries, keep_s)  # of two responses at the same time, one is cached
