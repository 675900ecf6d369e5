# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.process_pool`: the latency of a fast route beside a hook that computes for 50 ms.

One worker. A connection calls the fast route, one call after the other, while two connections call the plugin that computes. The plugin
runs inline, in threads, or in processes of the pool. Without the plugin, the same is measured for comparison.

`python -m bench.process_pool --replacement`: how long a call takes after the only process of the pool has ended.
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
REPLACED = """
import os, signal, time
from apisix import Plugin

class Replaced(Plugin):
    runs_in = "process"
    def on_request(self, request):
        if request.path == "/crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if request.path == "/hang":
            time.sleep(60)
        request.headers["x-pid"] = str(os.getpid())
"""
TIMEOUT_S = 1.0
PAUSE_S = 3.0
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
        self._token = prepared.conf_token

    def call(self, path: str = "/", *, succeeds: bool = True) -> float:
        """Make a call, and return how long it took, in seconds. Raise RuntimeError if it does not succeed, or should fail and does not."""
        began_s = time.perf_counter()
        reply = self._reply(HTTPReqCallReq(id=1, conf_token=self._token, path=path, headers=[("host", "example.com")]))
        took_s = time.perf_counter() - began_s
        if isinstance(reply, HTTPReqCallResp) != succeeds:
            raise RuntimeError(f"the reply to a call was not expected: {reply}")
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
def runner(plugins: str, environ: dict[str, str]) -> Iterator[Path]:
    """Start a runner with one worker, and yield the path of its socket."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "plugins").mkdir()
        (directory / "plugins" / "plugins.py").write_text(plugins)
        path = directory / "runner.sock"
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "apisix", "start", "--socket", str(path), "--plugins", str(directory / "plugins")],
                stderr=log,
                env={**os.environ, **environ},
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
    with runner(PLUGINS.format(mode=mode or "pass"), {}) as path:
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


def measure_replacement() -> dict[str, float]:
    """Return how long calls take at different times, in seconds."""
    found = {}
    environ = {"APISIX_RUNNER_LIMITS_PROCESSES": "1", "APISIX_RUNNER_LIMITS_PLUGIN_TIMEOUT": f"{TIMEOUT_S:g}s"}
    with runner(REPLACED, environ) as path:
        caller = Caller(path, "replaced")
        time.sleep(PAUSE_S)
        found[f"the first one, {PAUSE_S:g} s after the start"] = caller.call()
        found["a later one"] = caller.call()
        caller.call("/crash", succeeds=False)
        found["just after a crash"] = caller.call()
        caller.call("/crash", succeeds=False)
        time.sleep(PAUSE_S)
        found[f"{PAUSE_S:g} s after a crash"] = caller.call()
        caller.call("/hang", succeeds=False)
        found["just after a hook has exceeded its time limit"] = caller.call()
        caller.close()
    return found


def print_replacement(repeat: int) -> None:
    """Measure the replacement of processes, and print a table."""
    runs = [measure_replacement() for _ in range(repeat)]
    print(f"| a call | median of {repeat} runs | longest |\n|---|---:|---:|")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"| {name} | {statistics.median(values) * 1e3:.1f} ms | {max(values) * 1e3:.1f} ms |", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--replacement", action="store_true", help="measure calls after the only process has ended")
    parser.add_argument("--repeat", type=int, default=5, help="how often the replacement is measured")
    options = parser.parse_args()
    seconds = options.seconds
    if options.replacement:
        print_replacement(options.repeat)
        return
    print(f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.2f} before it began, {seconds:g} s for each row\n")
    print("| the plugin that computes | p50 of the fast route | p99 | longest | its own calls/s |\n|---|---:|---:|---:|---:|")
    for name, mode in MODES.items():
        latencies, calls = measure(mode, seconds)
        p99 = sorted(latencies)[int(0.99 * len(latencies))]
        cells = " | ".join(f"{each * 1e3:.2f} ms" for each in (statistics.median(latencies), p99, max(latencies)))
        print(f"| {name} | {cells} | {calls / seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
