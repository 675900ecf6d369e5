# SPDX-License-Identifier: Apache-2.0
"""Request metadata in memory: the time limit and the size limit."""

from apisix.runner.call.metadata_store import ENTRY_BYTES, MemoryMetadata


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s


def test_put_get_delete() -> None:
    """An entry can be read until it is removed."""
    store = MemoryMetadata()
    store.put("a", b"1")
    store.put("a", b"2")
    before = store.get("a"), store.get("b"), len(store)
    store.delete("a")
    store.delete("a")

    assert (before, store.get("a"), len(store)) == ((b"2", None, 1), None, 0)


def test_time_limit() -> None:
    """An entry expires after its last write. It is removed with the next write, and not counted as evicted."""
    clock = Clock()
    store = MemoryMetadata(expire_s=10, clock=clock)
    store.put("a", b"1")
    store.put("b", b"1")
    clock.now_s = 6
    store.put("a", b"2")
    clock.now_s = 11
    found = store.get("a"), store.get("b")
    store.put("c", b"1")

    assert (found, len(store), store.evicted) == ((b"2", None), 2, 0)


def test_size_limit() -> None:
    """If there are too many bytes, the entries that were written first are removed, and counted."""
    store = MemoryMetadata(max_bytes=3 * (ENTRY_BYTES + 10))
    for name in ("a", "b", "c"):
        store.put(name, bytes(10))
    store.put("a", bytes(10))
    store.put("d", bytes(10))

    assert ([store.get(name) is not None for name in ("a", "b", "c", "d")], store.evicted) == ([True, False, True, True], 1)


def test_flood_of_requests_without_a_response_phase() -> None:
    """However many entries are written, their size is bounded."""
    store = MemoryMetadata(max_bytes=1_000_000)
    for number in range(20_000):
        store.put(f"{number:032}", bytes(100))

    assert len(store) == 1_000_000 // (ENTRY_BYTES + 100)
    assert store.evicted == 20_000 - len(store)
    assert store.get(f"{19_999:032}") == bytes(100)
