# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.recorded_calls SAMPLE SECONDS`: compare calls with and without recording, in one process. Prints JSON.

A worker's connection handler gets calls from the same thread, in blocks: one block is recorded, the next one is not. The time of two
blocks next to each other is compared, so that other work on the machine, which changes more slowly, affects both in the same way. The
thread that makes the records runs meanwhile, as in a worker.
"""

import asyncio
import json
import socket
import sys
import threading
import time
from pathlib import Path
from statistics import median

import uvloop

from apisix.runner.conf_store.store import ConfStore, choose_path
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.recording.recorder import Recorder
from apisix.runner.settings.loading import load
from apisix.runner.wire.messages import PrepareConfResp
from apisix.runner.worker.connection_handler import ConnectionHandlers
from apisix.runner.worker.context import make_context
from apisix.runner.worker.observers import add_listener, remove_listener
from bench.cases import CASES
from bench.files import HERE
from bench.processes import scratch

CASE = next(case for case in CASES if case.name == "read-set")
BLOCK_CALLS = 200
WARMUP_BLOCKS = 20
FILL_S = 3.0
"""How long all calls can be recorded before it is measured, in seconds, until the queue of the recorder is full."""
TURN_S = 0.01


class Measurement:
    """A connection to a worker's handler in this process. Args: directory: for the files of the worker. sample: what is recorded."""

    def __init__(self, directory: Path, sample: str) -> None:
        settings = load(None, {}, {"APISIX_RUNNER_RECORD_FILE": str(directory / "calls.jsonl"), "APISIX_RUNNER_RECORD_SAMPLE": sample})
        self._loop = uvloop.new_event_loop()
        store = ConfStore(choose_path(directory / "runner.sock", None), expire_s=600, max_entries=10)
        context = make_context(settings, Registry.load((HERE / "plugins",), ()), store, self._loop)
        self._handlers = ConnectionHandlers(self._loop, context)
        self._gateway, worker = socket.socketpair()
        worker.setblocking(False)
        self._loop.run_until_complete(self._handlers.adopt(worker))
        (self._handler,) = self._handlers._open
        self._gateway.setblocking(False)
        token = PrepareConfResp.decode(self._reply(CASE.prepare().encode_frame())[4:]).conf_token
        self._call = CASE.call(1, token).encode_frame()
        self._reply(self._call)  # builds the chain
        self._gateway.setblocking(True)
        self._recorder = Recorder(settings)
        self._recorder.start()

    def _reply(self, frame: bytes | bytearray) -> bytes:
        """Return the reply to a frame for which the event loop has to run."""
        self._gateway.send(frame)
        while True:
            self._loop.run_until_complete(asyncio.sleep(TURN_S))
            try:
                return self._gateway.recv(65_536)
            except BlockingIOError:
                continue

    def block_s(self, *, recorded: bool) -> float:
        """Make calls, and return how long the handler took for them, in seconds."""
        runtime = self._handlers.context.runtime
        if recorded:
            add_listener(runtime, self._recorder)
        took_s, clock = 0.0, time.perf_counter
        for _ in range(BLOCK_CALLS):
            self._gateway.sendall(self._call)
            began_s = clock()
            self._handler.on_readable()
            took_s += clock() - began_s
            self._gateway.recv(65_536)
        if recorded:
            remove_listener(runtime, self._recorder)
        return took_s

    def thread_cpu_s(self) -> float:
        """Return the processor time of the thread that makes the records, in seconds."""
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "recorder")
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))

    def written(self) -> int:
        """Return how many calls were written."""
        return self._recorder.counts.written


def main() -> int:
    """Print the medians of all blocks, as JSON."""
    sample, seconds = sys.argv[1], float(sys.argv[2])
    with scratch() as directory:
        measurement = Measurement(directory, sample)
        for _ in range(WARMUP_BLOCKS):
            measurement.block_s(recorded=False)
        end_s = time.monotonic() + FILL_S
        while time.monotonic() < end_s:
            measurement.block_s(recorded=True)
        off: list[float] = []
        on: list[float] = []
        began_s, cpu_s, written = time.monotonic(), measurement.thread_cpu_s(), measurement.written()
        while time.monotonic() < began_s + seconds:
            for recorded in (False, True) if len(on) % 2 else (True, False):
                (on if recorded else off).append(measurement.block_s(recorded=recorded))
        passed_s = time.monotonic() - began_s
        result = {
            "off_us": median(off) / BLOCK_CALLS * 1e6,
            "longer": median(after / before for before, after in zip(off, on, strict=True)) - 1,
            "thread": (measurement.thread_cpu_s() - cpu_s) / passed_s,
            "written_per_s": (measurement.written() - written) / passed_s,
            "pairs": len(on),
        }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
