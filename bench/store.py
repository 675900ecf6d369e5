# SPDX-License-Identifier: Apache-2.0
"""
The shared store: how long an operation takes for its caller, and how many increments several processes make.

The embedded store is measured, in a directory in memory, as plugins use it: through `Store`. Each duration is the mean of many calls, one
after the other. The processes are more than the processors, as workers may be.
"""

import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from apisix import Store
from apisix.runner.settings.table import Settings
from apisix.runner.state import backend
from apisix.runner.worker.shared_store import memory_directory, opener_for
from bench.part import Scale, Target, note, shown, spread

BATCH = 200
"""How many calls are made between two looks at the clock."""
MANY = 10
"""How many entries `get_many` reads."""
PROCESSES = (1, 2, 4)
KEYS = ("one for all", "one each")
STARTS_WITHIN_S = 30.0
VALUES: dict[str, Any] = {
    "int": 42,
    "JSON of 100 bytes": {"user": "u" * 40, "items": [1, 2, 3], "note": "n" * 22},
    "bytes, 4 KiB": bytes(4096),
}
RATES = {"allowed": 1e6, "not allowed": 1e-3}
"""Limits of rates that allow each event or, but for the first one, no event."""
LIMITS_US = {"get, int": 5.0, "get, JSON of 100 bytes": 5.0, "incr": 20.0, "incr, with a lifetime": 20.0}
LIMIT_PER_S = 100_000


def measure(scale: Scale) -> dict[str, Any]:
    """Measure the durations and the throughput, in turn."""
    durations: dict[str, list[float]] = {}
    rates: dict[tuple[int, str], list[float]] = {}
    for _round in range(scale.rounds):
        with _settings() as settings:
            for name, duration_s in asyncio.run(_durations(settings, scale.seconds / 4)).items():
                durations.setdefault(name, []).append(duration_s * 1e6)
        for processes in PROCESSES:
            for keys in KEYS:
                with _settings() as settings:
                    rate = _increments_per_s(settings, processes, keys == KEYS[0], scale.seconds)
                rates.setdefault((processes, keys), []).append(rate)
    result = {
        "rows": [{"name": name, "us": spread(each)} for name, each in durations.items()],
        "rates": [{"processes": processes, "keys": keys, "per_s": spread(each)} for (processes, keys), each in rates.items()],
    }
    note("store: " + "; ".join(f"{target.what} {target.measured}" for target in targets(result)))
    return result


@contextmanager
def _settings() -> Iterator[Settings]:
    """Yield settings with an empty store."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory_directory()) as name:
        yield Settings(socket_file=str(Path(name) / "runner.sock"), state_directory=name)


async def _durations(settings: Settings, seconds: float) -> dict[str, float]:
    """Return how long each operation takes, in seconds."""
    backend.choose(opener_for(settings))
    store = Store("bench")
    found = {}
    for name, (plain, coroutine) in _operations(store).items():
        found[name] = _plain(plain, seconds)
        found[f"await a{name}"] = await _coroutine(coroutine, seconds)
    await backend.close_opened()
    backend.choose(None)
    return found


def _operations(store: Store) -> dict[str, tuple[Callable[[], object], Callable[[], Awaitable[object]]]]:
    """Return the calls that are measured, and their async variants."""
    many = [f"many-{number}" for number in range(MANY)]
    for key in many:
        store.set(key, 42)
    for name, value in VALUES.items():
        store.set(name, value)
    found: dict[str, tuple[Callable[[], object], Callable[[], Awaitable[object]]]] = {
        f"get, {name}": (partial(store.get, name), partial(store.aget, name)) for name in VALUES
    }
    found["get, absent"] = partial(store.get, "absent"), partial(store.aget, "absent")
    found[f"get_many, {MANY} ints"] = partial(store.get_many, many), partial(store.aget_many, many)
    for name, value in VALUES.items():
        found[f"set, {name}"] = partial(store.set, name, value), partial(store.aset, name, value)
    found["set, int, with a lifetime"] = partial(store.set, "brief", 42, 60), partial(store.aset, "brief", 42, 60)
    found["incr"] = partial(store.incr, "count"), partial(store.aincr, "count")
    found["incr, with a lifetime"] = partial(store.incr, "window", 1, 60), partial(store.aincr, "window", 1, 60)
    for name, rate in RATES.items():
        found[f"throttle, {name}"] = partial(store.throttle, name, rate), partial(store.athrottle, name, rate)
    return found


def _plain(call: Callable[[], object], seconds: float) -> float:
    calls, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        for _ in range(BATCH):
            call()
        calls += BATCH
    return took_s / calls


async def _coroutine(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    calls, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        for _ in range(BATCH):
            await call()
        calls += BATCH
    return took_s / calls


def _increments_per_s(settings: Settings, processes: int, is_shared: bool, seconds: float) -> float:
    """Return how many increments the processes make in a second, all together."""
    context = multiprocessing.get_context("fork")  # as workers are started
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_begin, initargs=(settings, barrier)) as pool:
        keys = ["one" if is_shared else f"own-{number}" for number in range(processes)]
        counts = pool.starmap_async(_increments, [(key, seconds) for key in keys], chunksize=1).get(STARTS_WITHIN_S + 2 * seconds)
    return sum(counts) / seconds


_barrier: Barrier


def _begin(settings: Settings, barrier: Barrier) -> None:
    global _barrier
    backend.choose(opener_for(settings))
    _barrier = barrier


def _increments(key: str, seconds: float) -> int:
    store = Store("bench")
    store.incr(key)
    calls = 0
    _barrier.wait(STARTS_WITHIN_S)
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        for _ in range(BATCH):
            store.incr(key)
        calls += BATCH
    return calls


def markdown(result: dict[str, Any]) -> str:
    """Return two tables."""
    durations = {row["name"]: row["us"] for row in result["rows"]}
    rows = ["| operation | plain | in a coroutine |", "|---|---:|---:|"]
    rows += [
        f"| {name} | {shown(each, ' us')} | {shown(durations[f'await a{name}'], ' us')} |"
        for name, each in durations.items()
        if f"await a{name}" in durations
    ]
    rows += ["", "| processes | key | increments per second, together |", "|---:|---|---:|"]
    rows += [f"| {row['processes']} | {row['keys']} | {shown(row['per_s'], '', 0)} |" for row in result["rates"]]
    return "\n".join(rows)


def targets(result: dict[str, Any]) -> list[Target]:
    """Compare with the targets."""
    durations = {row["name"]: row["us"]["median"] for row in result["rows"]}
    found = [
        Target(f"store: {prefix}{name}", f"< {limit:g} us", f"{durations[prefix + name]:.1f} us", durations[prefix + name] < limit)
        for name, limit in LIMITS_US.items()
        for prefix in ("", "await a")
    ]
    for row in result["rates"]:
        if row["processes"] == max(PROCESSES):
            rate = row["per_s"]["median"]
            title = f"store: incr, {row['processes']} processes, {row['keys']}"
            found.append(Target(title, f">= {LIMIT_PER_S:,} per second", f"{rate:,.0f}", rate >= LIMIT_PER_S))
    return found


def draw(result: dict[str, Any], axes: Any) -> None:
    """Draw the durations of the plain operations."""
    durations = {row["name"]: row["us"]["median"] for row in result["rows"]}
    names = [name for name in durations if f"await a{name}" in durations]
    axes.barh(names[::-1], [durations[name] for name in names[::-1]], color="#2b6ca3")
    axes.set_xlabel("us")
