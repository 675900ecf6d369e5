# SPDX-License-Identifier: Apache-2.0
"""Select a node of an upstream: one class for each `type` that APISIX has."""

import math
import time
import zlib
from asyncio import StreamWriter
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakSet

_POINTS: Final = 160
"""The points on the ring for each unit of weight. Source: lua-resty-balancer 0.05, lib/resty/chash.lua."""
MAX_WEIGHT: Final = 5000
"""The total weight of a ring. More would take seconds and much memory, in APISIX too."""
_DECAY_S: Final = 10.0
"""Source: apisix/balancer/ewma.lua, DECAY_TIME."""


@dataclass(frozen=True, slots=True)
class Node:
    """One server of an upstream."""

    host: str
    port: int
    weight: int = 1
    priority: int = 0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class RoundRobin:
    """Selects nodes by weight with smooth weighted round-robin, as in nginx."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        # If all weights are 0, APISIX uses the nodes nevertheless (observed).
        self._nodes = [node for node in nodes if node.weight > 0] or [replace(node, weight=1) for node in nodes]
        self._current = [0] * len(self._nodes)

    def pick(self, tried: Collection[Node] = (), hashed: str | None = None) -> Node | None:
        """
        Return the next node that has not been tried, None if all have been. Nodes of a lower priority are used after all others.

        Args: hashed: the text whose hash selects the node, for type `chash`.
        """
        candidates = [index for index, node in enumerate(self._nodes) if node not in tried]
        if not candidates:
            return None
        highest = max(self._nodes[index].priority for index in candidates)
        return self._nodes[self._next([index for index in candidates if self._nodes[index].priority == highest], hashed)]

    @contextmanager
    def sending(self, node: Node) -> Iterator[None]:
        """Enter this while a request is sent to a node, until the head of the response has been received."""
        yield

    def receiving(self, node: Node, connection: StreamWriter) -> None:
        """Called with the connection on which the body of a response arrives. It is closed when the request has finished."""

    def _next(self, candidates: Sequence[int], hashed: str | None) -> int:
        """Return the index of one of these nodes, which have the same priority and have not been tried."""
        for index in candidates:
            self._current[index] += self._nodes[index].weight
        best = max(candidates, key=self._current.__getitem__)
        self._current[best] -= sum(self._nodes[index].weight for index in candidates)
        return best


class LeastConnections(RoundRobin):
    """
    Selects the node with the fewest requests in progress, including the new one, divided by its weight; round-robin among equal ones.

    Source: apisix/balancer/least_conn.lua.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__(nodes)
        self._sending: Counter[Node] = Counter()
        self._receiving: defaultdict[Node, WeakSet[StreamWriter]] = defaultdict(WeakSet)

    @contextmanager
    def sending(self, node: Node) -> Iterator[None]:
        """Count a request until the head of its response has been received."""
        self._sending[node] += 1
        try:
            yield
        finally:
            self._sending[node] -= 1

    def receiving(self, node: Node, connection: StreamWriter) -> None:
        """Count a request until its connection is closed."""
        self._receiving[node].add(connection)

    def _next(self, candidates: Sequence[int], hashed: str | None) -> int:
        loads = {index: self._load(self._nodes[index]) for index in candidates}
        least = min(loads.values())
        return super()._next([index for index in candidates if loads[index] == least], hashed)

    def _load(self, node: Node) -> float:
        receiving = sum(not connection.is_closing() for connection in self._receiving[node])
        return (self._sending[node] + receiving + 1) / node.weight


class ConsistentHash(RoundRobin):
    """
    Selects the node by a hash of a text, which is the same node as on APISIX.

    Each node has points on a ring of 32-bit numbers: 160 for each unit of its weight, after all weights were divided by their greatest
    common divisor. Above `MAX_WEIGHT`, weights are approximated. The node with the first point that is not below the CRC-32 of the text
    is used, then those of the points after it.

    Source: apisix/balancer/chash.lua since 2.15; lua-resty-balancer 0.05, lib/resty/chash.lua and chash.c.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__(nodes)
        # Each priority has a ring of its own. It contains nodes that have been tried too. They are skipped later.
        self._rings: dict[int, list[tuple[int, int]]] = {}

    def _next(self, candidates: Sequence[int], hashed: str | None) -> int:
        ring = self._ring(self._nodes[candidates[0]].priority)
        start = bisect_left(ring, (zlib.crc32((hashed or "").encode(errors="surrogateescape")), -1))
        return next(index for _, index in ring[start:] + ring[:start] if index in candidates)

    def _ring(self, priority: int) -> list[tuple[int, int]]:
        """Return the points of all nodes of a priority, sorted, each with the index of its node."""
        if priority not in self._rings:
            group = [index for index, node in enumerate(self._nodes) if node.priority == priority]
            weights = [self._nodes[index].weight for index in group]
            divisor = math.gcd(*weights)
            if sum(weights) // divisor > MAX_WEIGHT:
                divisor = math.ceil(sum(weights) / MAX_WEIGHT)
            self._rings[priority] = sorted(
                (point, index)
                for index, weight in zip(group, weights, strict=True)
                for point in _points(self._nodes[index], max(weight // divisor, 1))
            )
        return self._rings[priority]


def _points(node: Node, weight: int) -> Iterator[int]:
    """Yield the points of a node. The first is the CRC-32 of its name and four zero bytes, and each further one replaces the zero bytes."""
    host = f"[{node.host}]" if ":" in node.host else node.host
    name = zlib.crc32(f"{host}:{node.port}".replace(":", "\0").encode())
    point = 0
    for _ in range(weight * _POINTS):
        point = zlib.crc32(point.to_bytes(4, "little"), name)
        yield point


class Ewma(RoundRobin):
    """
    Selects the node with the lowest moving average of its response times; round-robin among equal ones.

    APISIX compares two nodes that it draws at random, and includes the time for the body. Source: apisix/balancer/ewma.lua.
    """

    def __init__(self, nodes: Sequence[Node], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(nodes)
        self._clock = clock
        self._averages: dict[Node, tuple[float, float]] = {}
        """The average in seconds, and when it was calculated."""

    @contextmanager
    def sending(self, node: Node) -> Iterator[None]:
        """Measure the time until the head of the response has been received, or the node has failed."""
        began_s = self._clock()
        try:
            yield
        finally:
            now_s = self._clock()
            average_s = self._average(node, now_s, now_s - began_s)
            self._averages[node] = average_s, now_s

    def _next(self, candidates: Sequence[int], hashed: str | None) -> int:
        now_s = self._clock()
        averages = {index: self._average(self._nodes[index], now_s) for index in candidates}
        lowest = min(averages.values())
        return super()._next([index for index in candidates if averages[index] == lowest], hashed)

    def _average(self, node: Node, now_s: float, duration_s: float = 0.0) -> float:
        """Return the average of a node after a response that took this long. Older ones count less the more time has passed."""
        average_s, calculated_s = self._averages.get(node, (0.0, -math.inf))
        share = math.exp((calculated_s - now_s) / _DECAY_S)
        return average_s * share + duration_s * (1 - share)


BALANCERS: Final[dict[str, type[RoundRobin]]] = {
    "roundrobin": RoundRobin,
    "chash": ConsistentHash,
    "least_conn": LeastConnections,
    "ewma": Ewma,
}
"""The values of `type` of an upstream."""
