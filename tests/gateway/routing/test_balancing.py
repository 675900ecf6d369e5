# SPDX-License-Identifier: Apache-2.0
"""Which node of an upstream gets a request."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest

from apisix.gateway.routing.balancing import ConsistentHash, Ewma, Node


def crc32(data: bytes, state: int = 0xFFFFFFFF) -> int:
    """The CRC-32 of IEEE 802.3, without the final inversion, bit by bit."""
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0xEDB88320 if state & 1 else 0)
    return state


def node_of(nodes: Sequence[tuple[str, int]], text: str) -> str:
    """Return the node with the nearest point, in the words of chash.lua and chash.c: no ring is sorted, and no library is used."""
    wanted = crc32(text.encode()) ^ 0xFFFFFFFF
    best: tuple[int, str] | None = None
    for address, weight in nodes:
        host, _, port = address.rpartition(":")
        base = crc32(f"{host.replace(':', chr(0))}\0{port}".encode())
        before = bytes(4)
        for _ in range(160 * weight):
            point = crc32(before, base) ^ 0xFFFFFFFF
            before = bytes(point >> shift & 0xFF for shift in (0, 8, 16, 24))
            distance = (point - wanted) % 2**32
            if best is None or distance < best[0]:
                best = distance, address
    assert best is not None
    return best[1]


RINGS = [
    [("127.0.0.1:1980", 1), ("127.0.0.1:1981", 1)],
    [("127.0.0.1:1980", 1), ("127.0.0.1:1981", 1), ("127.0.0.1:1982", 1)],
    [("10.0.0.1:80", 3), ("10.0.0.2:80", 1), ("web.example.com:8080", 2)],
    [("[::1]:1980", 1), ("127.0.0.1:80", 2)],
]
TEXTS = ["", "127.0.0.1", "jack", "h\xe9", *map(str, range(60))]


@pytest.mark.parametrize("nodes", RINGS, ids=range(len(RINGS)))
def test_the_ring(nodes: list[tuple[str, int]]) -> None:
    """The node is the one that the algorithm of lua-resty-balancer finds."""
    balancer = ConsistentHash([_node(address, weight) for address, weight in nodes])
    picked = {text: str(balancer.pick(hashed=text)) for text in TEXTS}

    assert picked == {text: node_of(nodes, text).replace("[", "").replace("]", "") for text in TEXTS}
    assert len(set(picked.values())) == len(nodes)


@pytest.mark.parametrize(
    ("weights", "text", "port"),
    [
        ({1980: 1, 1981: 1}, "127.0.0.1", 1980),
        ({1980: 1, 1981: 1, 1982: 1}, "127.0.0.1", 1982),
        ({1980: 1, 1981: 0, 1982: 0}, "127.0.0.1", 1980),
        ({1980: 1, 1981: 1}, "jack", 1981),
        ({1980: 1, 1981: 1}, "tom", 1980),
        ({1980: 1, 1981: 1}, "custom-one", 1980),
        ({1980: 1, 1981: 1}, "cuscookie", 1981),
    ],
)
def test_the_nodes_in_the_tests_of_apisix(weights: dict[int, int], text: str, port: int) -> None:
    """APISIX's own tests expect these nodes. Source: t/node/chash-balance.t and chash-hashon.t of 3.18."""
    picked = ConsistentHash([Node("127.0.0.1", each, weight) for each, weight in weights.items()]).pick(hashed=text)
    assert str(picked) == f"127.0.0.1:{port}"


def test_equal_ratios_give_equal_nodes() -> None:
    """Weights are divided by their greatest common divisor. Source: apisix/balancer/chash.lua since 2.15."""
    small = ConsistentHash([Node("a", 1, 2), Node("b", 1, 3)])
    large = ConsistentHash([Node("a", 1, 200), Node("b", 1, 300)])

    for text in TEXTS:
        expected, actual = small.pick(hashed=text), large.pick(hashed=text)
        assert expected is not None
        assert actual is not None
        assert actual.host == expected.host


def test_large_weights() -> None:
    """A ring is limited in size. Nodes still get their share, and none is left out."""
    balancer = ConsistentHash([Node("a", 1, 2**31 - 1), Node("b", 1, 2**30), Node("c", 1, 1)])
    picked = Counter(str(balancer.pick(hashed=str(number))) for number in range(600))
    assert (picked["a:1"] > picked["b:1"] > 0, balancer.pick([Node("a", 1, 2**31 - 1), Node("b", 1, 2**30)])) == (True, Node("c", 1, 1))


def test_retries_follow_the_ring() -> None:
    """Each further node is the next one on the ring. Nodes of a lower priority come last, in the order of their own ring."""
    nodes = [*(Node(host, 80) for host in "abc"), *(Node(host, 80, priority=-1) for host in "de")]
    for text in TEXTS:
        balancer = ConsistentHash(nodes)
        tried: list[Node] = []
        while (node := balancer.pick(tried, text)) is not None:
            tried.append(node)
        left, expected = list(nodes), []
        while left:
            highest = max(node.priority for node in left)
            expected.append(node_of([(str(node), 1) for node in left if node.priority == highest], text))
            left = [node for node in left if str(node) != expected[-1]]
        assert [str(node) for node in tried] == expected


def test_ewma() -> None:
    """The node with the lowest average is used, new ones first. An average falls if a node is not used."""
    now_s = 100.0
    durations_s = {"a": 0.5, "b": 0.1, "c": 0.3}
    balancer = Ewma([Node(host, 80) for host in durations_s], lambda: now_s)

    def send() -> str:
        nonlocal now_s
        node = balancer.pick()
        assert node is not None
        with balancer.sending(node):
            now_s += durations_s[node.host]
        return node.host

    assert sorted(send() for _ in range(3)) == ["a", "b", "c"]
    assert [send() for _ in range(3)] == ["b"] * 3
    durations_s["b"] = 5.0
    assert send() == "b"
    assert send() == "c"
    now_s += 1000
    assert sorted(send() for _ in range(3)) == ["a", "b", "c"]


def test_ewma_of_a_node_that_fails() -> None:
    """A request that fails is measured too, and its node is not used next."""
    now_s = 0.0
    balancer = Ewma([Node("a", 80), Node("b", 80)], lambda: now_s)
    node = balancer.pick()
    assert node is not None
    with suppress(ConnectionError), balancer.sending(node):
        now_s += 1
        raise ConnectionError

    assert (balancer.pick([node]) == node, balancer.pick() == node) == (False, False)


def _node(address: str, weight: int) -> Node:
    host, _, port = address.rpartition(":")
    return Node(host.strip("[]"), int(port), weight)
