# SPDX-License-Identifier: Apache-2.0
"""
Limit the rate of requests of each client, for all workers together, as the plugin limit-req of APISIX does.

When to use it: against clients that send too many requests. `rate` requests per second pass, at an even distance. Up to
`burst` more can come early: each waits until it is on time, or passes at once with `nodelay`. All others are refused. All
workers of a machine count together, and with `state.url` all machines. If the store is full, it evicts the clients that
were idle for longest, so give it enough memory (`state.size`). For quotas, such as 1000 calls per hour, use limit-count.

Task: Traffic
Keywords: rate limit, throttle, leaky bucket, GCRA, burst, nodelay, 429, too many requests, distributed, Redis, store
"""

import asyncio
import hashlib
from math import ceil
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request


class LimitReqConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The requests per second, and how many can come early. Routes with the same `group` count together."""

    group: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    rate: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    burst: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 0
    key: Annotated[str, msgspec.Meta(min_length=1)] = "remote_addr"  # a variable. Behind another proxy, use another one
    nodelay: bool = False
    rejected_code: Annotated[int, msgspec.Meta(ge=200, le=599)] = 429

    def __post_init__(self) -> None:
        if (self.burst + 1) / self.rate > 366 * 86400:
            raise ValueError("(burst + 1) / rate, the time in which a client is forgotten, must be at most a year; increase rate")
        if not self.nodelay and self.burst / self.rate > 30:
            raise ValueError("burst / rate, the longest delay, must be at most 30 seconds; increase rate, or set nodelay")


class LimitReq(Plugin[LimitReqConfig]):
    """Delay or refuse the requests of a client that sends them too fast."""

    on_error = "refuse"  # if the store is not available, the client gets a 503

    async def on_request(self, request: Request) -> Reply | None:
        config = self.config
        value = None if config.key == "remote_addr" else await request.avar(config.key)
        client = (value or request.remote_addr).encode("utf-8", "surrogateescape")
        key = f"{config.group}:{hashlib.sha256(client).hexdigest()}"  # a digest, because a variable can be long, or a secret
        # If the store is not available, this raises an exception, and the request is refused. To let requests pass instead, without
        # a limit, add `fallback=(True, 0.0)`.
        allowed, wait_s = await self.store.athrottle(key, config.rate, config.burst)
        if not allowed:
            return Reply(config.rejected_code, json={"error": "too many requests"}, headers={"retry-after": str(ceil(wait_s))})
        if not config.nodelay:
            await asyncio.sleep(wait_s)
        return None
