# SPDX-License-Identifier: Apache-2.0
"""What the conf store can't take is known to all workers nevertheless."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apisix.runner.conf_store.memory_fallback import MemoryFallback
from apisix.runner.conf_store.store import ConfStore


@pytest.fixture
def fallback() -> Iterator[MemoryFallback]:
    """A fallback file, as the supervisor makes it."""
    fallback = MemoryFallback(1000)
    yield fallback
    fallback.close()


def in_a_worker(action: Callable[[], bool]) -> bool:
    """Fork, and tell whether the action was true there."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if action() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def test_all_know_what_one_puts(fallback: MemoryFallback) -> None:
    """What one worker puts, another finds, also one that has looked before and one that is forked later."""
    assert fallback.get(1) is None
    assert in_a_worker(lambda: fallback.put(1, b"one"))
    assert in_a_worker(lambda: fallback.put(2, b""))
    assert fallback.get(1) == b"one"
    assert in_a_worker(lambda: fallback.get(1) == b"one" and fallback.get(2) == b"" and fallback.get(3) is None)


def test_a_token_keeps_its_meaning(fallback: MemoryFallback) -> None:
    """A token that stands for something can't be given to something else; the same again is fine and takes no room."""
    assert fallback.put(1, b"one")
    assert in_a_worker(lambda: not fallback.put(1, b"another"))
    for _ in range(1000):
        assert fallback.put(1, b"one")
    assert fallback.get(1) == b"one"


def test_there_is_a_bound(fallback: MemoryFallback) -> None:
    """What does not fit is refused, and what fits still goes in."""
    assert not fallback.put(1, bytes(1000))
    assert fallback.put(2, bytes(500))
    assert not fallback.put(3, bytes(500))
    assert fallback.put(4, bytes(100))
    assert fallback.get(3) is None


def test_half_a_record_does_not_count(fallback: MemoryFallback) -> None:
    """What a worker had begun to write when it was killed is not seen, and is written over."""
    assert fallback.put(1, b"one")
    os.pwrite(fallback._descriptor, b"\xff" * 50, fallback._read_up_to + len(b"one") + 8)
    assert in_a_worker(lambda: fallback.get(2) is None and fallback.put(2, b"two"))
    assert fallback.get(2) == b"two"


def test_workers_without_a_disk_share_tokens(tmp_path: Path) -> None:
    """Where nothing can be written, a token given by one worker is known to the others, and two contents never share one."""
    fallback = MemoryFallback()
    nowhere = tmp_path / "none" / "none" / "tokens.sqlite"

    def store() -> ConfStore:
        return ConfStore(nowhere, expire_s=60, max_entries=100, token_hash=lambda content: 7, fallback=fallback)

    one, other = store(), store()
    first = one.put("route#1#ext-plugin-pre-req#1", [("stop", "{}")])
    found = other.get(first)
    assert found is not None
    assert (found.key, found.entries) == ("route#1#ext-plugin-pre-req#1", (("stop", "{}"),))
    assert other.put("route#1#ext-plugin-pre-req#1", [("stop", "{}")]) == first
    assert other.put("route#2#ext-plugin-pre-req#1", []) != first
    assert one.get(first + 1) == other.get(first + 1) is not None
    fallback.close()


def test_two_workers_at_once(tmp_path: Path) -> None:
    """Of two that give one token to two contents at the same time, the later one takes another."""
    fallback = MemoryFallback()

    class Hasty(MemoryFallback):
        """One that is told of a free token, and beaten to it."""

        def put(self, token: int, content: bytes) -> bool:
            if token == 7:
                in_a_worker(lambda: fallback.put(7, b"the other's"))
            return fallback.put(token, content)

        def get(self, token: int) -> bytes | None:
            return fallback.get(token)

    hasty = Hasty()
    store = ConfStore(
        tmp_path / "none" / "none" / "tokens.sqlite", expire_s=60, max_entries=100, token_hash=lambda content: 7, fallback=hasty
    )
    assert store.put("route#1#ext-plugin-pre-req#1", []) == 8
    fallback.close()
    hasty.close()
