# SPDX-License-Identifier: Apache-2.0
"""
Limit the number of calls of each client in a time window, counted in Redis for all gateways together (`pip install
redis`).

When to use it: for quotas, such as 1000 calls per hour. Each call waits for Redis, so use limit-req if an approximate
limit is enough.

Task: Traffic
Keywords: rate limit, quota, Redis, fixed window, 429, distributed
"""

import msgspec
from redis.asyncio import Redis

from apisix import Plugin, Reply, Request


class LimitCountConfig(msgspec.Struct, frozen=True):
    """The number of calls and the length of the window. Routes with the same `name` share their counts."""

    name: str
    count: int
    window_s: int
    key: str = "remote_addr"  # a variable; use consumer_name if the gateway authenticates consumers
    redis: str = "redis://127.0.0.1:6379/0"

    def __post_init__(self) -> None:
        if self.count < 1 or self.window_s < 1:
            raise ValueError("count and window_s must be 1 or more")


class LimitCount(Plugin[LimitCountConfig]):
    """Reply with 429 if a client has used up its quota."""

    # If Redis is not available, calls are refused with a 503. Uncomment this line to let them continue instead.
    # on_error = "pass"

    async def setup(self) -> None:
        # Each route and worker has its own pool. It connects when it is first used, and again after a failure.
        self._redis = Redis.from_url(self.config.redis, socket_timeout=1, socket_connect_timeout=1)  # pyright: ignore[reportUnknownMemberType]

    async def close(self) -> None:
        await self._redis.aclose()

    async def on_request(self, request: Request) -> Reply | None:
        config = self.config
        key = f"limit-count:{config.name}:{await request.avar(config.key) or ''}"
        # One transaction: if the counter lost its expiry between two commands, the client would be refused forever.
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
