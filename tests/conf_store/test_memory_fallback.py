# SPDX-License-Identifier: Apache-2.0
"""Configurations that the conf store cannot write are available to all workers."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apisix.runner.conf_store.memory_fallback import MemoryFallback
from apisix.runner.conf_store.store import ConfStore


@pytest.fixture
def fallback() -> Iterator[MemoryFallback]:
    """A fallback file, as the supervisor creates it."""
    fallback = MemoryFallback(1000)
    yield fallback
    fallback.close()


def in_a_worker(action: Callable[[], bool]) -> bool:
    """Run an action in a forked process. Return whether its result was true."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if action() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def test_all_workers_share_contents(fallback: MemoryFallback) -> None:
    """Other workers find the content of one worker, even if they searched for it before or are forked later."""
    assert fallback.get(1) is None
    assert in_a_worker(lambda: fallback.put(1, b"one"))
    assert in_a_worker(lambda: fallback.put(2, b""))
    assert fallback.get(1) == b"one"
    assert in_a_worker(lambda: fallback.get(1) == b"one" and fallback.get(2) == b"" and fallback.get(3) is None)


def test_a_token_keeps_its_content(fallback: MemoryFallback) -> None:
    """Other content can't be stored under a token that is in use. The same content is accepted and takes no more space."""
    assert fallback.put(1, b"one")
    assert in_a_worker(lambda: not fallback.put(1, b"another"))
    for _ in range(1000):
        assert fallback.put(1, b"one")
    assert fallback.get(1) == b"one"


def test_the_size_is_limited(fallback: MemoryFallback) -> None:
    """Content that does not fit is refused. Smaller content that fits is still accepted."""
    assert not fallback.put(1, bytes(1000))
    assert fallback.put(2, bytes(500))
    assert not fallback.put(3, bytes(500))
    assert fallback.put(4, bytes(100))
    assert fallback.get(3) is None


def test_an_incomplete_record_is_ignored(fallback: MemoryFallback) -> None:
    """A record whose writer was killed is ignored, and is overwritten."""
    assert fallback.put(1, b"one")
    os.pwrite(fallback._descriptor, b"\xff" * 50, fallback._read_up_to + len(b"one") + 8)
    assert in_a_worker(lambda: fallback.get(2) is None and fallback.put(2, b"two"))
    assert fallback.get(2) == b"two"


def test_workers_without_a_disk_share_tokens(tmp_path: Path) -> None:
    """If the disk can't be written, all workers share tokens, and no two contents have the same one."""
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
    """If two workers use one token for different contents at the same time, the later one uses another token."""
    fallback = MemoryFallback()

    class Hasty(MemoryFallback):
        """A fallback that finds a token free, until another worker uses it first."""

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
