# SPDX-License-Identifier: Apache-2.0
"""
Limit the rate of calls of each client, with a token bucket in the memory of the worker.

When to use it: against clients that send too many requests. It is cheap, but each worker and each gateway counts
separately, so with N of them the limit is N times as high. limit-count counts for all of them together.

Task: Traffic
Keywords: rate limit, throttle, token bucket, 429, in memory
"""

from collections import OrderedDict
from math import ceil
from time import monotonic

import msgspec

from apisix import Plugin, Reply, Request


class LimitReqConfig(msgspec.Struct, frozen=True):
    """The average number of requests per second, and the number of requests at once."""

    rate: float
    burst: int = 1
    key: str = "remote_addr"  # a variable; behind another proxy, the one that contains the client's address
    max_clients: int = 100_000

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burst < 1 or self.max_clients < 1:
            raise ValueError("rate must be above 0, burst and max_clients 1 or more")


class LimitReq(Plugin[LimitReqConfig]):
    """Reply with 429 if a client sends requests too fast."""

    blocking = False  # it never blocks, and in threads, two calls could update one bucket at the same time

    def __init__(self) -> None:
        # For each client, the remaining tokens and the time of the last update. The most recent client is last.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def on_request(self, request: Request) -> Reply | None:
        config = self.config
        client = request.remote_addr if config.key == "remote_addr" else request.var(config.key) or ""
        now_s = monotonic()  # read the time after var(), because other calls run while it waits
        left, then_s = self._buckets.pop(client, (float(config.burst), now_s))
        left = min(config.burst, left + (now_s - then_s) * config.rate)
        is_allowed = left >= 1
        self._buckets[client] = (left - is_allowed, now_s)
        if len(self._buckets) > config.max_clients:
            self._buckets.popitem(last=False)  # limit the size, or a client with many addresses can fill the memory
        if is_allowed:
            return None
        return Reply(429, json={"error": "too many requests"}, headers={"retry-after": str(ceil((1 - left) / config.rate))})
