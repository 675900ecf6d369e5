# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.redis_store`: the shared store in Redis, as plugins use it, with a server on this machine.

- `operations`: operations per second, and their latency, for one and four processes, each with a client like that of a worker.
- `outage`: a constant load, while the server is killed or does not reply for 10 s.
- `failover`: the same load, while the primary is killed, with sentinels and in a cluster.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from typing import Any

import uvloop

from apisix import Store
from apisix.runner.errors import StoreError
from apisix.runner.settings.table import Settings
from apisix.runner.state.redis_server import RedisBackend
from tests.state.redis_process import Setup, running, running_cluster, running_sentinels

DEFAULTS = Settings()
COROUTINES = (1, 32)
WORKERS = (1, 4)
RATE = 1000
"""How many operations per second begin in `outage` and `failover`."""
WARM_UP_S = 3.0
OUTAGE_S = 10.0
MAX_WAIT_S = 60.0

PLAIN: dict[str, Callable[[Store, str], Any]] = {
    "get": lambda store, key: store.get(key),
    "incr": lambda store, key: store.incr(key),
    "incr with ttl_s": lambda store, key: store.incr(key, ttl_s=60),
}
ASYNC: dict[str, Callable[[Store, str], Any]] = {
    "get": lambda store, key: store.aget(key),
    "incr": lambda store, key: store.aincr(key),
    "incr with ttl_s": lambda store, key: store.aincr(key, ttl_s=60),
}


def connect(url: str) -> tuple[RedisBackend, Store]:
    """Return a store with the default settings."""
    backend = RedisBackend(url, DEFAULTS.state_pool_size, DEFAULTS.state_timeout_s, DEFAULTS.state_prefix)
    return backend, Store("bench", _backend=lambda: backend)


# Operations per second.


def measure_plain(url: str, operation: str, seconds: float, begin: Barrier) -> list[float]:
    """Return the latencies of plain methods, in seconds."""
    backend, store = connect(url)
    call, latencies = PLAIN[operation], []
    call(store, "warm-up")
    begin.wait(MAX_WAIT_S)
    end_s = time.perf_counter() + seconds
    before_s = time.perf_counter()
    while before_s < end_s:
        call(store, "key")
        after_s = time.perf_counter()
        latencies.append(after_s - before_s)
        before_s = after_s
    backend.close()
    return latencies


async def measure_async(url: str, operation: str, coroutines: int, seconds: float, begin: Barrier) -> list[float]:
    """Return the latencies of async methods that several coroutines call, in seconds."""
    backend, store = connect(url)
    call, latencies = ASYNC[operation], []
    await asyncio.gather(*(call(store, "warm-up") for _ in range(coroutines)))
    begin.wait(MAX_WAIT_S)
    end_s = time.perf_counter() + seconds

    async def repeat() -> None:
        before_s = time.perf_counter()
        while before_s < end_s:
            await call(store, "key")
            after_s = time.perf_counter()
            latencies.append(after_s - before_s)
            before_s = after_s

    await asyncio.gather(*(repeat() for _ in range(coroutines)))
    await backend.aclose()
    return latencies


def in_process(results: Any, url: str, operation: str, coroutines: int, seconds: float, begin: Barrier) -> None:
    """Measure in a process of its own. No coroutines: plain methods."""
    if coroutines:
        results.put(uvloop.run(measure_async(url, operation, coroutines, seconds, begin)))
    else:
        results.put(measure_plain(url, operation, seconds, begin))


def measure(url: str, operation: str, coroutines: int, workers: int, seconds: float) -> list[float]:
    """Return the latencies of all processes."""
    context = multiprocessing.get_context("fork")
    begin, results = context.Barrier(workers), context.Queue()
    arguments = (results, url, operation, coroutines, seconds, begin)
    processes = [context.Process(target=in_process, args=arguments, daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    latencies = [latency for _ in processes for latency in results.get(timeout=seconds + MAX_WAIT_S)]
    for process in processes:
        process.join(MAX_WAIT_S)
    return latencies


def print_operations(seconds: float) -> None:
    """Measure operations, and print a table."""
    print("| operation | callers in each worker | workers | operations/s | p50 | p99 |\n|---|---|---:|---:|---:|---:|")
    with running(on_port=True) as setup:
        for operation in PLAIN:
            for coroutines in (0, *COROUTINES):
                for workers in WORKERS:
                    setup.clear()
                    latencies = measure(setup.url, operation, coroutines, workers, seconds)
                    p99_s = statistics.quantiles(latencies, n=100)[-1]
                    callers = "plain" if not coroutines else "1 coroutine" if coroutines == 1 else f"{coroutines} coroutines"
                    times = f"{statistics.median(latencies) * 1e6:,.0f} us | {p99_s * 1e6:,.0f} us"
                    print(f"| `{operation}` | {callers} | {workers} | {len(latencies) / seconds:,.0f} | {times} |", flush=True)


# A constant load during a fault.


@dataclass
class Observed:
    """What the callers of a constant load have got: when each operation ended, how long it took, and whether it succeeded."""

    ended: list[tuple[float, float, bool]] = field(default_factory=list)

    def gap(self, since_s: float) -> tuple[float, float]:
        """Return the times of the last success before a fault has ended all of them, and of the next one."""
        successes = sorted(at_s for at_s, _, succeeded in self.ended if succeeded)
        gaps = [(later_s - sooner_s, sooner_s, later_s) for sooner_s, later_s in pairwise(successes)]
        return max(gap for gap in gaps if gap[2] > since_s)[1:]


async def load(store: Store, observed: Observed, ended: asyncio.Event) -> None:
    """Begin operations at a constant rate, whether earlier ones have ended or not, with keys on all servers of a cluster."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        before_s = time.perf_counter()
        try:
            await store.aincr(f"key-{number % 100}", ttl_s=3600)
            succeeded = True
        except StoreError:
            succeeded = False
        after_s = time.perf_counter()
        observed.ended.append((after_s, after_s - before_s, succeeded))

    began_s, number = time.perf_counter(), 0
    while not ended.is_set():
        while number < (time.perf_counter() - began_s) * RATE:
            task = asyncio.create_task(one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)


async def observe(url: str, fault: Callable[[], None], repair: Callable[[], None] | None) -> tuple[Observed, float, float]:
    """Return what a load has observed, and when the fault began and was repaired. Without a repair, wait until it succeeds again."""
    backend, store = connect(url)
    observed, ended = Observed(), asyncio.Event()
    task = asyncio.create_task(load(store, observed, ended))
    await asyncio.sleep(WARM_UP_S)
    began_s = repaired_s = time.perf_counter()
    await asyncio.to_thread(fault)
    if repair is None:
        await asyncio.sleep(2 * OUTAGE_S)
    else:
        await asyncio.sleep(OUTAGE_S)
        await asyncio.to_thread(repair)
        repaired_s = time.perf_counter()
        await asyncio.sleep(WARM_UP_S)
    ended.set()
    await task
    await backend.aclose()
    return observed, began_s, repaired_s


def print_outage() -> None:
    """Measure outages, and print a table."""
    heads = "operations begun", "refused", "p50 until refused", "longest", "first success after the server replied again"
    print(f"| the server, for {OUTAGE_S:g} s | {' | '.join(heads)} |\n|---|---:|---:|---:|---:|---:|")
    for name in ("is killed", "does not reply"):
        with running(on_port=True) as setup, ExitStack() as stack:
            (server,) = setup.servers
            fault = server.stop if name == "is killed" else partial(stack.enter_context, server.hanging())
            repair = server.start if name == "is killed" else stack.close
            observed, began_s, repaired_s = uvloop.run(observe(setup.url, fault, repair))
        _print_fault(name, observed, began_s, repaired_s)


def _print_fault(name: str, observed: Observed, began_s: float, repaired_s: float) -> None:
    begun = [each for each in observed.ended if began_s <= each[0] - each[1] < repaired_s]
    failed = [took_s for _, took_s, succeeded in observed.ended if not succeeded]
    first_s = min(at_s for at_s, _, succeeded in observed.ended if succeeded and at_s > repaired_s) - repaired_s
    print(
        f"| {name} | {len(begun):,} | {len(failed):,} | {statistics.median(failed) * 1e3:,.1f} ms | {max(failed) * 1e3:,.0f} ms "
        f"| {first_s * 1e3:,.0f} ms |",
        flush=True,
    )


def print_failover() -> None:
    """Measure failovers, and print a table."""
    print("| the primary is killed | refused | time without any write | until all keys can be written |\n|---|---:|---:|---:|")
    setups: dict[str, tuple[Callable[[], AbstractContextManager[Setup]], int]] = {
        "sentinels, `down-after-milliseconds 1000`": (running_sentinels, 0),
        "cluster, one of three primaries, `cluster-node-timeout 1500`, `cluster-replica-validity-factor 0`": (
            partial(running_cluster, 1),
            2,
        ),
    }
    for name, (start, number) in setups.items():
        with start() as setup:
            observed, began_s, _ = uvloop.run(observe(setup.url, setup.servers[number].stop, None))
        failed = [at_s for at_s, _, succeeded in observed.ended if not succeeded]
        before_s, after_s = observed.gap(began_s)
        print(f"| {name} | {len(failed):,} | {after_s - before_s:.2f} s | {max(failed) - began_s:.2f} s |", flush=True)


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts: dict[str, Callable[[], None]] = {
        "operations": lambda: print_operations(options.seconds),
        "outage": print_outage,
        "failover": print_failover,
    }
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; all by default")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row of operations")
    options = parser.parse_args()
    for name in options.parts or parts:
        print(f"\n{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.2f} before it began\n", flush=True)
        parts[name]()


if __name__ == "__main__":
    main()
