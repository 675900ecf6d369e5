# SPDX-License-Identifier: Apache-2.0
"""
Limit how fast each client may call: a token bucket in the memory of this process.

When to use it: against clients that run wild. It costs next to nothing, but each worker and each gateway counts for
itself, so with N of them the limit is N times as high. limit-count counts once for all.
"""

from collections import OrderedDict
from math import ceil
from time import monotonic

import msgspec

from apisix import Plugin, Reply, Request


class LimitReqConfig(msgspec.Struct, frozen=True):
    """How many requests a second in the long run, and how many at once."""

    rate: float
    burst: int = 1
    key: str = "remote_addr"  # a variable; behind another proxy, the one that holds the client's address
    max_clients: int = 100_000

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burst < 1 or self.max_clients < 1:
            raise ValueError("rate must be above 0, burst and max_clients 1 or more")


class LimitReq(Plugin[LimitReqConfig]):
    """Answer 429 to a client that calls too fast."""

    blocking = False  # it never waits; and a thread's calls could come between reading and writing a bucket

    def __init__(self) -> None:
        # What each client has left, and when that was reckoned; who called last stands last.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def on_request(self, request: Request) -> Reply | None:
        config = self.config
        client = request.remote_addr if config.key == "remote_addr" else request.var(config.key) or ""
        now_s = monotonic()  # not earlier: other calls run while var() waits
        left, then_s = self._buckets.pop(client, (float(config.burst), now_s))
        left = min(config.burst, left + (now_s - then_s) * config.rate)
        is_allowed = left >= 1
        self._buckets[client] = (left - is_allowed, now_s)
        if len(self._buckets) > config.max_clients:
            self._buckets.popitem(last=False)  # whoever was silent longest; bounded, or a client with many addresses fills the memory
        if is_allowed:
            return None
        return Reply(429, json={"error": "too many requests"}, headers={"retry-after": str(ceil((1 - left) / config.rate))})
