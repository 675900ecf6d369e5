# SPDX-License-Identifier: Apache-2.0
"""
`python -m bench.prepare_conf`: measure how long PrepareConf takes if 1,000 routes are prepared at once over the socket of a real runner.
"""

import argparse
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from apisix.runner.wire.connection import NEED_DATA, Connection, Role
from apisix.runner.wire.messages import PrepareConfReq, PrepareConfResp
from bench.files import CannotMeasure
from bench.processes import runner, scratch

ROUTES = 1000
ROUNDS = 5
TARGET_S = 0.005
VALUE = '{"header":"x-api-key","keys":["0123456789abcdef0123456789abcdef"],"realm":"example"}'


def main() -> int:
    """Print a table in Markdown. Returns: the exit status, 1 if the target was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.prepare_conf", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--realtime", action="store_true", help="measure ahead of all else that the machine does; for root")
    options = parser.parse_args()
    print("| workers | connections | routes | median | p99 (least to greatest of the rounds) | longest | in all |")
    print("|---:|---:|---|---:|---:|---:|---:|")
    missed = False
    for workers in options.workers:
        for connections in options.connections:
            rounds = [_round(workers, connections, options.realtime) for _ in range(options.rounds)]
            for what in ("new", "known"):
                waits = [each[what] for each in rounds]
                tails = [_at(each, 0.99) for each in waits]
                missed = missed or median(tails) > TARGET_S
                print(
                    f"| {workers} | {connections} | {what} | {_ms(median(_at(each, 0.5) for each in waits))} "
                    f"| {_ms(median(tails))} ({_ms(min(tails))} to {_ms(max(tails))}) | {_ms(max(map(max, waits)))} "
                    f"| {_ms(median(sum(each) / connections for each in waits))} |",
                    flush=True,
                )
    return int(missed)


def _round(workers: int, connections: int, realtime: bool) -> dict[str, list[float]]:
    """Start a runner, prepare all routes, and prepare them again, as a gateway does after each of its restarts."""
    everywhere = os.sched_getaffinity(0)
    with scratch() as directory, runner(directory, workers=workers, on=everywhere) as (path, pids):
        lines = [Line(path) for _ in range(connections)]
        for number, line in enumerate(lines):  # each is with a worker whose store is open before time is taken
            _prepare_all([line], [_route(f"warm-{number}", 0)])
        if realtime:
            _schedule((0, *pids), os.SCHED_RR, 1)
        seen = {what: _prepare_all(lines, [_route("all", number) for number in range(ROUTES)]) for what in ("new", "known")}
        _schedule((0,), os.SCHED_OTHER, 0)
        for line in lines:
            line.sock.close()
    return seen


def _schedule(pids: Sequence[int], policy: int, priority: int) -> None:
    for pid in pids:
        os.sched_setscheduler(pid, policy, os.sched_param(priority))


def _route(name: str, number: int) -> PrepareConfReq:
    return PrepareConfReq([("key-auth", VALUE), ("rewrite", f'{{"n":{number}}}')], f"route#{name}-{number}#ext-plugin-pre-req#1")


class Line:
    """One connection, on which one route is prepared after the other."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(path))
        self.connection = Connection(Role.GATEWAY)
        self.sent_s = 0.0

    def send(self, message: PrepareConfReq) -> None:
        """Send the message, and record the time."""
        frame = self.connection.send(message)
        self.sent_s = time.perf_counter()
        self.sock.sendall(frame)

    def receive(self, now_s: float) -> float:
        """Read the reply, which has arrived, and return how long it took in seconds."""
        self.connection.receive_data(self.sock.recv(1 << 16))
        answer = self.connection.next_event()
        if not isinstance(answer, PrepareConfResp):
            raise CannotMeasure(f"expected one whole PrepareConfResp, got {'a part' if answer is NEED_DATA else answer!r}")
        return now_s - self.sent_s


def _prepare_all(lines: Sequence[Line], messages: Sequence[PrepareConfReq]) -> list[float]:
    """Send all messages as fast as the connections allow, one at a time on each, and return how long each reply took in seconds."""
    waits: list[float] = []
    left = iter(messages)
    by_descriptor = {line.sock.fileno(): line for line in lines}
    with select.epoll() as poll:
        for line in lines:
            poll.register(line.sock, select.EPOLLIN)
            if (message := next(left, None)) is not None:
                line.send(message)
        while len(waits) < len(messages):
            ready = poll.poll(60)
            if not ready:
                raise CannotMeasure("no answer for 60 s")
            now_s = time.perf_counter()
            for descriptor, _ in ready:
                line = by_descriptor[descriptor]
                waits.append(line.receive(now_s))
                if (message := next(left, None)) is not None:
                    line.send(message)
    return waits


def _at(waits_s: Sequence[float], share: float) -> float:
    return sorted(waits_s)[int(len(waits_s) * share)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
