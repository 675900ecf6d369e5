# SPDX-License-Identifier: Apache-2.0
"""
Limit how many calls each client has in a window of time, counted in Redis for all gateways together (`pip install redis`).

When to use it: quotas, such as 1000 calls an hour. Each call waits for Redis, so use limit-req where a rough limit will do.
"""

import msgspec
from redis.asyncio import Redis

from apisix import Plugin, Reply, Request


class LimitCountConfig(msgspec.Struct, frozen=True):
    """How many calls in how many seconds. Routes with the same `name` share their counts."""

    name: str
    count: int
    window_s: int
    key: str = "remote_addr"  # a variable: consumer_name where the gateway knows its consumers
    redis: str = "redis://127.0.0.1:6379/0"

    def __post_init__(self) -> None:
        if self.count < 1 or self.window_s < 1:
            raise ValueError("count and window_s must be 1 or more")


class LimitCount(Plugin[LimitCountConfig]):
    """Answer 429 to a client that has used up its calls."""

    # Without Redis nobody can count. As it stands, such calls are refused with a 503; uncomment to let them through instead.
    # on_error = "pass"

    async def setup(self) -> None:
        # The pool belongs to this instance, so to the route and worker. It connects when first used, and again after a failure.
        self._redis = Redis.from_url(self.config.redis, socket_timeout=1, socket_connect_timeout=1)

    async def close(self) -> None:
        await self._redis.aclose()

    async def on_request(self, request: Request) -> Reply | None:
        config = self.config
        key = f"limit-count:{config.name}:{await request.avar(config.key) or ''}"
        # One transaction: a counter that lost its end of life between two commands would lock the client out for ever.
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(key, 0, ex=config.window_s, nx=True)
            pipeline.incr(key)
            pipeline.pttl(key)
            _, used, left_ms = await pipeline.execute()
        reset_s = str(-(-left_ms // 1000))
        limits = {"x-ratelimit-limit": str(config.count), "x-ratelimit-remaining": str(max(0, config.count - used))}
        if used > config.count:
            return Reply(429, json={"error": "quota used up"}, headers={**limits, "retry-after": reset_s})
        request.response_headers.update(limits)
        return None
