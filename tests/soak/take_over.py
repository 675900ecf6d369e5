# SPDX-License-Identifier: Apache-2.0
"""Two runners on one path: a second one starts while the first exits, in many rounds."""

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path

from apisix.runner.wire.messages import HTTPReqCallResp, PrepareConfReq, PrepareConfResp
from tests.peer import HungUp, Peer
from tests.soak.stage import Stage, stage

LONGEST_LEAD_S = 1.0
"""The old one is told to end between this long before and this long after the start of the new one."""


def run(rounds: int, seed: int = 1) -> bool:
    """Start a second runner while the first exits, and check which one the path leads to. Return True if it was always the second."""
    order = random.Random(seed)  # noqa: S311  # no secret
    with stage(environ={"APISIX_RUNNER_WORKERS_SHUTDOWN_TIMEOUT": "800ms"}) as ours:
        connecting = Connecting(ours.path)
        try:
            dead = [number for number in range(rounds) if not _round(ours, order.uniform(0.0, LONGEST_LEAD_S))]
        finally:
            attempts, failures = connecting.end()
        left = [name for name in os.listdir(ours.directory) if name not in {"log", "plugins", "disk", "runner.sock", "runner.sock.conf"}]
    print(f"{rounds} rounds: the path led to the living runner at the end of {rounds - len(dead)}; left behind: {left or 'nothing'}")
    print(f"meanwhile {attempts:,} connections were tried, each for one call: ", end="")
    print(", ".join(f"{count:,} {how}" for how, count in failures.most_common()) or "all were answered")
    return not dead and not left


def _round(ours: Stage, delay_s: float) -> bool:
    """Make one round. Return True if the path leads to the new runner, and only this runner is left."""
    old = ours.runner
    telling = threading.Timer(delay_s, old.process.send_signal, (signal.SIGTERM,))
    telling.start()
    new = ours.start()
    telling.join()
    old.process.wait(10)
    with new.peer() as peer:
        token = peer.prepare(("census", "{}"))
        answered = isinstance(peer.request(token), HTTPReqCallResp)
    return answered and ours.listener() == new.process.pid


class Connecting:
    """A client that connects and calls all the time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._attempts = 0
        self._failures: Counter[str] = Counter()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._connect)
        self._thread.start()

    def end(self) -> tuple[int, Counter[str]]:
        """Return the number of attempts, and the number of each failure."""
        self._done.set()
        self._thread.join()
        return self._attempts, self._failures

    def _connect(self) -> None:
        while not self._done.wait(0.002):
            self._attempts += 1
            try:
                with Peer(self._path) as peer:
                    self._call(peer)
            except (FileNotFoundError, ConnectionRefusedError):
                self._failures["found nobody"] += 1
            except (OSError, HungUp):
                self._failures["got no reply"] += 1

    def _call(self, peer: Peer) -> None:
        peer.send(PrepareConfReq())
        reply = peer.receive()
        if isinstance(reply, PrepareConfResp):
            reply = peer.request(reply.conf_token)
        if not isinstance(reply, HTTPReqCallResp):
            self._failures["were refused (503)"] += 1
