# SPDX-License-Identifier: Apache-2.0
"""Broken frames over the socket of a runner that also serves valid calls."""

import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from apisix.runner.wire.frames import FrameType
from apisix.runner.wire.messages import HTTPReqCallResp, Rewrite
from tests.fuzz.attacks import Attacks
from tests.fuzz.memory import Growth
from tests.peer import POST_RESP, Peer
from tests.runner_process import RunnerProcess, running
from tests.soak.stage import children

PLUGINS: Final = Path(__file__).parent / "plugins"
BATCH: Final = 50
"""Connections that are attacked at the same time."""
GOOD_PEERS: Final = 4
LINGERING: Final = 100
"""Connections that are kept with half a frame, and get one more byte with each batch."""
PATIENCE_S: Final = 20.0
SHOWN: Final = 3
"""How many of the log's tracebacks are printed."""
ROUNDS: Final = 3
"""How often what the runner asks is answered before its peer hangs up."""


@dataclass
class Outcome:
    """
    The result of an attack.

    Attributes:
        seen: how the attacked connections ended.
        good: the number of valid calls that were made in between. All of them got replies; otherwise the run would have stopped.
        slowest_s: how long the slowest of them took, in seconds.
        same_workers: True if no worker has exited.
    """

    broken: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    good: int = 0
    slowest_s: float = 0.0
    same_workers: bool = False
    log: str = ""


def attack(runner: RunnerProcess, frames: int, seed: int, look: Callable[[int], None] = lambda number: None) -> Outcome:
    """
    Send at least `frames` broken frames, and valid calls after each batch of connections.

    Raises: AssertionError: the reply to a valid call is wrong. OSError, HungUp: there is no reply.
    """
    outcome = Outcome()
    peers = [runner.peer() for _ in range(GOOD_PEERS)]
    lingering: list[tuple[socket.socket, bytes]] = []
    try:
        request_token = peers[0].prepare(("reads-all", "{}"))
        workers = children(runner.process.pid)  # all were forked at once, and one has answered
        attacks = Attacks(request_token, peers[0].prepare(("reads-all", "{}"), key=POST_RESP), seed)
        while attacks.broken < frames:
            attacked = [_connected(runner.path) for _ in range(BATCH)]
            for connection in attacked:
                _send(connection, attacks.script())
            for _ in range(ROUNDS):
                _check_good_calls(peers, request_token, outcome)
                attacked = [connection for connection in attacked if _goes_on(connection, attacks, outcome)]
            for connection in attacked:
                outcome.seen["left without a word"] += 1
                connection.close()
            lingering = _linger(runner, attacks, lingering, outcome)
            look(min(attacks.broken, frames) - 1)
        outcome.broken = attacks.broken
    finally:
        for connection in (*(peer.socket for peer in peers), *(connection for connection, _ in lingering)):
            connection.close()
    outcome.same_workers = workers == children(runner.process.pid)
    outcome.log = runner.log()
    return outcome


def run(frames: int, seed: int) -> bool:
    """Attack a runner with two workers, and print the results. Return True if no defect was found."""
    with running("--workers", "2", plugins=[PLUGINS]) as runner:
        # Numbers are passed over in steps, so the two points at which memory is looked at are waited for.
        growth = Growth(frames, lambda: children(runner.process.pid))
        points = [frames // 10, frames - 1]

        def look(number: int) -> None:
            while points and number >= points[0]:
                growth.look(points.pop(0))

        began_s = time.monotonic()
        outcome = attack(runner, frames, seed, look)
        seconds = time.monotonic() - began_s
    shown = ", ".join(f"{count:,} {what}" for what, count in outcome.seen.most_common())
    print(f"{outcome.broken:,} broken frames over a socket in {seconds:.0f} s; connections: {shown}")
    print(f"{outcome.good:,} good calls in between, all answered, the slowest after {outcome.slowest_s * 1000:.0f} ms")
    print(f"workers {'the same as before' if outcome.same_workers else 'DIED'}; {growth}")
    tracebacks = outcome.log.count("Traceback")
    print(f"tracebacks in the log: {tracebacks}")
    for line in [line for line in outcome.log.splitlines() if "Traceback" in line][:SHOWN]:
        print(line)
    return outcome.same_workers and growth.small and not tracebacks


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    connection.connect(str(path))
    return connection


def _send(connection: socket.socket, pieces: list[bytes]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it may be cut off before we have said all
        for piece in pieces:
            connection.sendall(piece)


def _check_good_calls(peers: list[Peer], token: int, outcome: Outcome) -> None:
    for peer in peers:
        began_s = time.monotonic()
        reply = peer.request(token, path="/good", args=[("a", "1")], answers={"body": b"12345", "request_id": b"678"})
        assert isinstance(reply, HTTPReqCallResp), reply
        assert isinstance(reply.action, Rewrite), reply
        assert list(reply.action.headers) == [("x-seen", "14")], reply
        assert list(reply.action.args) == [("seen", b"/good".hex())], reply
        outcome.good += 1
        outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - began_s)


def _goes_on(connection: socket.socket, attacks: Attacks, outcome: Outcome) -> bool:
    """Read the data that the runner has sent, and send wrong info replies. Return True if the connection is still used."""
    connection.setblocking(False)
    try:
        data = connection.recv(1 << 16)
    except BlockingIOError:
        return True
    except ConnectionError:
        data = b""
    finally:
        connection.settimeout(PATIENCE_S)
    if not data:
        outcome.seen["closed"] += 1
    elif data[0] == FrameType.ERROR:
        outcome.seen["told an error"] += 1
    elif data[0] == FrameType.EXTRA_INFO:
        outcome.seen["asked"] += 1
        _send(connection, [attacks.broken_answer()])
        return True
    else:
        outcome.seen["answered"] += 1
    connection.close()
    return False


def _linger(
    runner: RunnerProcess, attacks: Attacks, lingering: list[tuple[socket.socket, bytes]], outcome: Outcome
) -> list[tuple[socket.socket, bytes]]:
    """Send one more byte over each slow connection. When a connection has sent its call, check the reply, and replace the connection."""
    kept = []
    for connection, rest in lingering:
        _send(connection, [rest[:1]])
        if len(rest) > 1:
            kept.append((connection, rest[1:]))
        else:
            assert connection.recv(4)[0] == FrameType.EXTRA_INFO, "a frame that came byte by byte is a call like any other"
            outcome.seen["slow, asked"] += 1
            connection.close()
    if len(kept) < LINGERING:
        kept.append((_connected(runner.path), attacks.slow_frame()))
    return kept
