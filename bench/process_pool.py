# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.process_pool`: the latency of a fast route beside a hook that computes for 50 ms.

One worker. A connection calls the fast route, one call after the other, while two connections call the plugin that computes. The plugin
runs inline, in threads, or in processes of the pool. Without the plugin, the same is measured for comparison.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPReqCallResp, PrepareConfReq, PrepareConfResp

HEAVY_CONNECTIONS = 2
STARTS_WITHIN_S = 30.0
PLUGINS = """
import time
from apisix import Plugin

class Fast(Plugin):
    def on_request(self, request):
        request.headers["x-fast"] = "1"

class Heavy(Plugin):
    {mode}
    def on_request(self, request):
        end_s = time.thread_time() + 0.050
        count = 0
        while time.thread_time() < end_s:
            count += 1
        request.headers["x-count"] = str(count)
"""
MODES = {"without": None, "inline": "blocking = False", "thread": "blocking = True", "process": 'runs_in = "process"'}


class Caller:
    """One connection of a gateway."""

    def __init__(self, path: Path, plugin: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(STARTS_WITHIN_S)
        self._socket.connect(str(path))
        self._connection = Connection(Role.GATEWAY)
        prepared = self._reply(PrepareConfReq([(plugin, "{}")], "route#1#ext-plugin-pre-req#1"))
        assert isinstance(prepared, PrepareConfResp)  # noqa: S101  # for the type checker
        self._call = HTTPReqCallReq(id=1, conf_token=prepared.conf_token, headers=[("host", "example.com")])

    def call(self) -> float:
        """Make a call, and return how long it took, in seconds. Raise RuntimeError if it was refused."""
        began_s = time.perf_counter()
        reply = self._reply(self._call)
        took_s = time.perf_counter() - began_s
        if not isinstance(reply, HTTPReqCallResp):
            raise RuntimeError(f"a call was refused: {reply}")  # noqa: TRY004  # not a type of an argument
        return took_s

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _reply(self, message: object) -> object:
        self._socket.sendall(self._connection.send(message))  # type: ignore[arg-type]
        while (reply := self._connection.next_event()) is NEED_DATA:
            data = self._socket.recv(1 << 16)
            if not data:
                raise RuntimeError("the runner has hung up")
            self._connection.receive_data(data)
        return reply


@contextmanager
def runner(mode: str | None) -> Iterator[Path]:
    """Start a runner with one worker, and yield the path of its socket."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "plugins").mkdir()
        (directory / "plugins" / "plugins.py").write_text(PLUGINS.format(mode=mode or "pass"))
        path = directory / "runner.sock"
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "apisix", "start", "--socket", str(path), "--plugins", str(directory / "plugins")], stderr=log
            )
        try:
            end_s = time.monotonic() + STARTS_WITHIN_S
            while not path.exists() and time.monotonic() < end_s:
                time.sleep(0.01)
            yield path
        finally:
            process.terminate()
            try:
                process.wait(STARTS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(mode: str | None, seconds: float) -> tuple[list[float], int]:
    """Return the latencies of the fast route in seconds, and the number of calls of the plugin that computes."""
    with runner(mode) as path:
        fast = Caller(path, "fast")
        heavy = [Caller(path, "heavy") for _ in range(HEAVY_CONNECTIONS)] if mode is not None else []
        for caller in [fast, *heavy, *heavy]:  # starts processes, and creates instances
            caller.call()
        ended, counts = threading.Event(), [0] * len(heavy)

        def compute(number: int) -> None:
            with suppress(OSError, RuntimeError):
                while not ended.is_set():
                    heavy[number].call()
                    counts[number] += 1

        threads = [threading.Thread(target=compute, args=(number,), daemon=True) for number in range(len(heavy))]
        for thread in threads:
            thread.start()
        latencies = []
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            latencies.append(fast.call())
            time.sleep(0.001)
        ended.set()
        for thread in threads:
            thread.join(STARTS_WITHIN_S)
        for caller in [fast, *heavy]:
            caller.close()
    return latencies, sum(counts)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    print(f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.2f} before it began, {seconds:g} s for each row\n")
    print("| the plugin that computes | p50 of the fast route | p99 | longest | its own calls/s |\n|---|---:|---:|---:|---:|")
    for name, mode in MODES.items():
        latencies, calls = measure(mode, seconds)
        p99 = sorted(latencies)[int(0.99 * len(latencies))]
        cells = " | ".join(f"{each * 1e3:.2f} ms" for each in (statistics.median(latencies), p99, max(latencies)))
        print(f"| {name} | {cells} | {calls / seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
