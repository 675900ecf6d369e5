# SPDX-License-Identifier: Apache-2.0
"""
Limit the number of calls of each client in a time window, for all workers together, as the plugin limit-count of APISIX does.

When to use it: for quotas, such as 1000 calls per hour. The window of a client begins with its first call, so around the
end of a window, twice as many calls can pass in a short time: limit-req prevents that. All workers of a machine count
together, and with `state.url` all machines. If the store is full, it evicts the windows of clients that were idle for
longest, so give it enough memory (`state.size`).

Task: Traffic
Keywords: rate limit, quota, fixed window, X-RateLimit-Remaining, X-RateLimit-Reset, 429, distributed, Redis, store, incr
"""

import hashlib
from math import ceil
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request


class LimitCountConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of calls, and the length of the window in seconds. Routes with the same `group` count together."""

    group: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    count: Annotated[int, msgspec.Meta(ge=1, le=10**12)]
    time_window: Annotated[int, msgspec.Meta(ge=1, le=366 * 86400)]
    key: Annotated[str, msgspec.Meta(min_length=1)] = "remote_addr"  # a variable; use consumer_name if the gateway authenticates consumers
    rejected_code: Annotated[int, msgspec.Meta(ge=200, le=599)] = 429


class LimitCount(Plugin[LimitCountConfig]):
    """Refuse the calls of a client that has used up its quota."""

    on_error = "refuse"  # if the store is not available, the client gets a 503

    async def on_request(self, request: Request) -> Reply | None:
        config = self.config
        value = None if config.key == "remote_addr" else await request.avar(config.key)
        client = (value or request.remote_addr).encode("utf-8", "surrogateescape")
        key = f"{config.group}:{hashlib.sha256(client).hexdigest()}"  # a digest, because a variable can be long, or a secret
        # If the store is not available, this raises an exception, and the call is refused. To let calls pass instead, without a
        # limit, add `fallback=0`.
        used = await self.store.aincr(key, ttl_s=config.time_window)
        reset_s = await self.store.attl(key, fallback=None) or 0.0  # None: the window has just ended
        limits = {
            "x-ratelimit-limit": str(config.count),
            "x-ratelimit-remaining": str(max(0, config.count - used)),
            "x-ratelimit-reset": str(ceil(reset_s)),
        }
        if used > config.count:
            return Reply(config.rejected_code, json={"error": "quota used up"}, headers=limits)
        request.response_headers.update(limits)
        return None
