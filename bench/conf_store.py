# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.conf_store`: measure the conf store with 1,000 routes, alone and with others that write too, and LMDB in its place."""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

from msgspec.json import encode

from apisix.runner.conf_store.store import ConfStore, choose_path
from apisix.runner.conf_store.write_lock import WriteLock
from apisix.runner.state.embedded import EmbeddedBackend

ROUTES = 1000
ROUNDS = 5
TOGETHER = 16
VALUE = '{"header":"x-api-key","keys":["0123456789abcdef0123456789abcdef"],"realm":"example"}'


def main() -> int:
    """Print a table in Markdown."""
    rounds = [_round() for _ in range(ROUNDS)]
    print("| operation | median | p99 (least to greatest of the rounds) |\n|---|---:|---:|")
    for title in rounds[0]:
        middles = [_at(each[title], 0.5) for each in rounds]
        tails = [_at(each[title], 0.99) for each in rounds]
        print(f"| {title} | {median(middles):.3f} ms | {median(tails):.3f} ms ({min(tails):.3f} to {max(tails):.3f}) |")
    return 0


def _round() -> dict[str, list[float]]:
    """Return the durations of each operation, on a new file."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        path = choose_path(Path(name) / "runner.sock")
        store = _open(path)
        tokens: list[int] = []
        seen = {
            "`put`, new": _timed(lambda n: tokens.append(_put(store, "alone", n)), ROUTES),
            "`put`, known": _timed(lambda n: _put(store, "alone", n), ROUTES),
            "`get`": _timed(lambda n: store.get(tokens[n]), ROUTES),
            "`get`, unknown": _timed(lambda n: store.get(n + 1), ROUTES),
            f"`put_many`, {TOGETHER} new": _timed(lambda n: _put_many(store, "together", n), ROUTES // TOGETHER),
            f"`put_many`, {TOGETHER} known": _timed(lambda n: _put_many(store, "together", n), ROUTES // TOGETHER),
        }
        store.close()
        entries = EmbeddedBackend(path.with_name("state.mdb"), 32 << 20)
        content = [encode(_configuration("alone", n)) for n in range(ROUTES)]
        seen |= {
            "LMDB, `put`, new": _timed(lambda n: entries.put(b"%d" % n, content[n], 3_600_000), ROUTES),
            "LMDB, `get`": _timed(lambda n: entries.get([b"%d" % n]), ROUTES),
        }
        entries.close()
        return seen | {f"`put`, new, {workers} workers at once": _together(path, workers) for workers in (2, 4)}


def _at(durations_s: Sequence[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return sorted(durations_s)[int(len(durations_s) * share)] * 1e3


def _open(path: Path) -> ConfStore:
    return ConfStore(path, expire_s=3600, max_entries=100_000, write_lock=_write_lock)


def _put(store: ConfStore, who: str, number: int) -> int:
    return store.put(*_configuration(who, number))


def _put_many(store: ConfStore, who: str, number: int) -> list[int]:
    return store.put_many(_configuration(who, number * TOGETHER + n) for n in range(TOGETHER))


def _configuration(who: str, number: int) -> tuple[str, list[tuple[str, str]]]:
    return f"route#{who}-{number}#ext-plugin-pre-req#1", [("key-auth", VALUE), ("rewrite", f'{{"n":{number}}}')]


def _timed(action: Callable[[int], object], count: int) -> list[float]:
    times = []
    for number in range(count):
        begin = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - begin)
    return times


def _together(path: Path, workers: int) -> list[float]:
    """Share 1,000 routes among workers that all write as fast as they can. With a real gateway, its lock would prevent this."""
    context = multiprocessing.get_context("fork")  # as the workers are: they share the write lock
    barrier = context.Barrier(workers)
    with context.Pool(workers, initializer=_share, initargs=(barrier, WriteLock())) as pool:
        shares = pool.starmap(_one_of_many, [(path, number, ROUTES // workers) for number in range(workers)], chunksize=1)
    return [duration for share in shares for duration in share]


_barrier: Barrier
_write_lock: WriteLock | None = None


def _share(barrier: Barrier, write_lock: WriteLock) -> None:
    global _barrier, _write_lock
    _barrier, _write_lock = barrier, write_lock


def _one_of_many(path: Path, number: int, count: int) -> list[float]:
    store = _open(path)
    _barrier.wait(timeout=30)
    times = _timed(lambda n: _put(store, f"worker-{number}-{count}", n), count)
    store.close()
    return times


if __name__ == "__main__":
    sys.exit(main())
